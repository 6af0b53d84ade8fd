//! A call of this process's own gRPC router, without a socket in between.

use axum::Router;
use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tonic::{Code, Status};
use tower::ServiceExt;

/// Length of what stands before a message: a flag and the length.
const PREFIX: usize = 5;

/// A message as it travels.
pub(super) fn frame(message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len())
        .map_err(|_| Status::resource_exhausted("grpc: the message is larger than 4 GiB"))?;
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0); // not compressed
    frame.put_u32(length);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

/// The answer to a call: metadata, then messages, then the status.
pub(super) struct Answer {
    /// Empty when the call failed before anything else.
    pub(super) metadata: HeaderMap,
    body: Body,
    buffer: BytesMut,
    deadline: Option<Instant>,
}

/// Calls a method. `body` is what goes over the wire.
///
/// # Errors
/// The status, when the call has failed at once.
pub(super) async fn start(
    grpc: Router,
    path: &str,
    metadata: HeaderMap,
    body: Body,
    deadline: Option<Instant>,
) -> Result<Answer, Status> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() =
        path.parse().map_err(|error| Status::internal(format!("{path} is not a path: {error}")))?;
    *request.headers_mut() = metadata;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let Ok(response) = within(deadline, grpc.oneshot(request)).await?;
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    Ok(Answer { metadata: head.headers, body, buffer: BytesMut::new(), deadline })
}

/// Waits no longer than the client does.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Status> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    let late = || Status::deadline_exceeded("context deadline exceeded");
    // The timer is coarser than what a client may ask for.
    if deadline <= Instant::now() {
        return Err(late());
    }
    tokio::time::timeout_at(deadline, work).await.map_err(|_| late())
}

impl Answer {
    /// The next message; `None` once the call has ended well.
    ///
    /// # Errors
    /// The status the call has ended with.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            let Some(frame) = within(self.deadline, self.body.frame()).await? else {
                return Ok(None); // the status came with the metadata
            };
            let frame = frame.map_err(|error| Status::from_error(error.into_inner()))?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return match Status::from_header_map(&trailers) {
                        Some(status) if status.code() != Code::Ok => Err(status),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    /// The one message of a call that has no more.
    ///
    /// # Errors
    /// The status of the call, or that there was no message.
    pub(super) async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self.next().await?;
        self.next().await?;
        message.ok_or_else(|| Status::internal("the call was answered without a message"))
    }

    /// A message that has come completely.
    fn buffered(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..PREFIX)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        if self.buffer.len() - PREFIX < length {
            // Room for the whole at once, once a part of it is there.
            self.buffer.reserve(length.saturating_add(PREFIX) - self.buffer.len());
            return None;
        }
        self.buffer.advance(PREFIX);
        Some(self.buffer.split_to(length).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let wire = [frame(b"abc").unwrap(), frame(b"").unwrap(), frame(&[7; 300]).unwrap()].concat();
        for piece in [1, 3, 5, 6, 1000] {
            let parts: Vec<_> =
                wire.chunks(piece).map(|part| Ok::<_, Status>(Bytes::copy_from_slice(part))).collect();
            let body = Body::from_stream(futures::stream::iter(parts));
            let (metadata, buffer) = (HeaderMap::new(), BytesMut::new());
            let mut answer = Answer { metadata, body, buffer, deadline: None };
            assert_eq!(answer.next().await.unwrap().unwrap(), "abc");
            assert_eq!(answer.next().await.unwrap().unwrap(), "");
            assert_eq!(answer.next().await.unwrap().unwrap(), [7; 300].as_slice());
            assert_eq!(answer.next().await.unwrap(), None);
        }
    }
}
