//! Bodies that count and bound what passes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::call::Call;
use super::cut::Cut;
use super::frames::{Frames, TooLarge};
use crate::metrics::{self, MethodMetrics};

/// A request's body: refuses messages that are too large, at their prefix.
pub(crate) struct RequestBody {
    inner: axum::body::Body,
    frames: Frames,
    max_message: usize,
    metrics: &'static MethodMetrics,
}

impl RequestBody {
    pub(super) fn new(inner: axum::body::Body, max_message: usize, metrics: &'static MethodMetrics) -> Self {
        Self { inner, frames: Frames::default(), max_message, metrics }
    }

    fn count(&mut self, data: &Bytes) -> Result<(), Status> {
        match self.frames.feed(data, self.max_message) {
            Ok(seen) => {
                self.metrics.received.inc_by(seen.messages);
                metrics::GRPC_RECEIVED_BYTES.inc_by(seen.bytes);
                Ok(())
            }
            Err(TooLarge(bytes)) => Err(Status::resource_exhausted(format!(
                "grpc: received message larger than max ({bytes} vs. {})",
                self.max_message
            ))),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(Status::from_error(error.into_inner())))),
        };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data)
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body: counts messages, notes the status, and ends early when
/// cut.
pub(crate) struct ResponseBody {
    /// `None` once cut.
    inner: Option<tonic::body::Body>,
    frames: Frames,
    /// `None` for a path without a method.
    call: Option<Call>,
    cut: Option<Cut>,
}

impl ResponseBody {
    pub(super) fn new(inner: tonic::body::Body, call: Call, cut: Option<Cut>) -> Self {
        Self { inner: Some(inner), frames: Frames::default(), call: Some(call), cut }
    }

    /// A body for an answer that is all headers.
    pub(super) fn empty() -> Self {
        Self { inner: None, frames: Frames::default(), call: None, cut: None }
    }

    fn finish(&mut self, code: Code) {
        if let Some(call) = &mut self.call {
            call.finish(code);
        }
    }

    /// Ends the body with a status of its own.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        self.cut = None;
        self.finish(status.code());
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", (Code::Unavailable as i32).into());
        }
        Frame::trailers(trailers)
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            // Our own messages have no limit.
            if let (Ok(seen), Some(call)) = (self.frames.feed(data, usize::MAX), &mut self.call) {
                call.sent(seen.messages, seen.bytes);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.finish(code_of(trailers).unwrap_or(Code::Unknown));
        }
    }
}

/// The status code in headers or trailers.
pub(super) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(cut) = &mut self.cut
            && let Poll::Ready(status) = cut.as_mut().poll(cx)
        {
            return Poll::Ready(Some(Ok(self.end(&status))));
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.note(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, |inner| inner.size_hint())
    }
}
