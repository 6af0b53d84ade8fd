//! A request's body, of which the beginning can be sent a second time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tonic::codegen::StdError;

/// Most frames kept, so that empty ones are bounded too.
const MAX_FRAMES: usize = 64;

/// A request's body; [`Replay::attempt`] gives one to send.
pub(super) struct Replay(Arc<Mutex<Shared>>);

struct Shared {
    source: Body,
    /// Frames read, kept for another attempt; shares their bytes.
    kept: Vec<Kept>,
    kept_bytes: usize,
    limit: usize,
    /// How many of `kept` the current attempt was given.
    position: usize,
    /// Attempts so far; only the last may read.
    attempt: u64,
    /// False once anything was passed that is not kept.
    whole: bool,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl Kept {
    fn frame(&self) -> Frame<Bytes> {
        match self.clone() {
            Kept::Data(data) => Frame::data(data),
            Kept::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    fn of(frame: &Frame<Bytes>) -> Option<Kept> {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Some(Kept::Data(data.clone())),
            (_, Some(trailers)) => Some(Kept::Trailers(trailers.clone())),
            _ => None,
        }
    }
}

impl Replay {
    pub(super) fn new(source: Body, limit: usize) -> Self {
        Replay(Arc::new(Mutex::new(Shared {
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            limit,
            position: 0,
            attempt: 0,
            whole: true,
        })))
    }

    /// The body from its beginning; earlier ones end with an error. `None` if
    /// its beginning is gone.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        let mut shared = self.0.lock();
        if !shared.whole {
            return None;
        }
        shared.attempt += 1;
        shared.position = 0;
        Some(Attempt { shared: Arc::clone(&self.0), number: shared.attempt })
    }

    /// Keeps nothing from here on: the call was taken.
    pub(super) fn settle(self) {
        let mut shared = self.0.lock();
        shared.limit = 0;
        shared.whole = false;
        let position = shared.position;
        shared.kept.drain(..position);
        shared.position = 0;
    }
}

impl Shared {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.whole {
            return;
        }
        let bytes = self.kept_bytes + frame.data_ref().map_or(0, Bytes::len);
        match Kept::of(frame) {
            Some(kept) if bytes <= self.limit && self.kept.len() < MAX_FRAMES => {
                self.kept_bytes = bytes;
                self.kept.push(kept);
                self.position = self.kept.len();
            }
            _ => {
                self.whole = false;
                self.kept = Vec::new();
                self.position = 0;
            }
        }
    }
}

/// The body of one attempt.
pub(super) struct Attempt {
    shared: Arc<Mutex<Shared>>,
    number: u64,
}

impl http_body::Body for Attempt {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let mut shared = self.shared.lock();
        if shared.attempt != self.number {
            return Poll::Ready(Some(Err("the request was sent to another endpoint".into())));
        }
        if let Some(kept) = shared.kept.get(shared.position) {
            let frame = kept.frame();
            shared.position += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut shared.source).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            shared.keep(frame);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        shared.position == shared.kept.len() && shared.source.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::BodyExt;

    fn body(parts: &[&'static str]) -> Body {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, StdError>(Bytes::from_static(part.as_bytes()))).collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn next(attempt: &mut Attempt) -> Option<Result<Bytes, StdError>> {
        let frame = attempt.frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test]
    async fn begins_again_and_stops_the_earlier_attempt() {
        let replay = Replay::new(body(&["a", "b", "c"]), 2);
        let mut first = replay.attempt().unwrap();
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "a");
        let mut second = replay.attempt().unwrap();
        assert!(next(&mut first).await.unwrap().is_err());
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "a");
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "b");
        assert!(replay.attempt().is_some());
    }

    #[tokio::test]
    async fn keeps_no_more_than_its_limit() {
        let replay = Replay::new(body(&["a", "b", "c"]), 2);
        let attempt = replay.attempt().unwrap();
        assert_eq!(attempt.collect().await.unwrap().to_bytes(), "abc");
        assert!(replay.attempt().is_none(), "the beginning is gone");
    }

    #[tokio::test]
    async fn passes_the_rest_once_settled() {
        let replay = Replay::new(body(&["a", "b", "c"]), 9);
        let mut first = replay.attempt().unwrap();
        next(&mut first).await.unwrap().unwrap();
        next(&mut first).await.unwrap().unwrap();
        let mut second = replay.attempt().unwrap();
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "a");
        replay.settle();
        assert_eq!(second.collect().await.unwrap().to_bytes(), "bc");
    }
}
