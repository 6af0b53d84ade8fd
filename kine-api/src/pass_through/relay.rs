//! An answer's body on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::forward::lost;
use super::link::Link;

/// The body of a gRPC call's answer. Where the connection to the endpoint
/// breaks, or this server stops, it ends with a status.
pub(super) struct Relay {
    inner: Incoming,
    link: Arc<Link>,
    /// Ends when the server stops; none for calls with one answer.
    stopped: Option<BoxFuture<'static, ()>>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Relay {
    pub(super) fn new(
        inner: Incoming,
        link: Arc<Link>,
        stopped: Option<BoxFuture<'static, ()>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Relay { inner, link, stopped, ended: false, _permit: permit }
    }

    fn end(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(_) => Poll::Ready(None),
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(stopped) = &mut self.stopped
            && stopped.as_mut().poll(context).is_ready()
        {
            return self.end(Status::unavailable("etcdserver: server stopped"));
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            // A stream the endpoint reset is reset towards the client too.
            Some(Err(error)) if is_reset(&error) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Some(Err(error)) => {
                let status = lost(&self.link, &error);
                self.end(status)
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Trailers of ours may come before the promised length.
        SizeHint::default()
    }
}

/// The HTTP/2 error behind an error.
pub(super) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

fn is_reset(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| error.is_reset() && error.is_remote())
}
