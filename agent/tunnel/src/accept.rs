//! What becomes of the streams that the other end opens.

use std::io;

use async_trait::async_trait;

use crate::refusal::{Refusal, RefusalCode};
use crate::stream::TunnelStream;
use crate::target::Target;

/// Decides what becomes of the streams that the other end opens, and serves them.
#[async_trait]
pub trait Acceptor: Send + Sync + 'static {
    /// Accepts or refuses, and serves what was accepted. Runs as a task of its own, of which
    /// there are as many as [`crate::Options::max_streams`] at most; it ends with the tunnel.
    /// Dropping the stream unanswered gives it up.
    async fn accept(&self, incoming: Incoming);
}

/// A stream that the other end wants to open.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) stream: TunnelStream,
    pub(crate) target: Target,
}

impl Incoming {
    /// What it wants to reach.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// The other end gave it up, or the tunnel is over.
    pub fn accept(self) -> io::Result<TunnelStream> {
        self.stream.shared.session(|session| session.answer(self.stream.id, Ok(())))?;
        Ok(self.stream)
    }

    /// Refuses, with the reason.
    pub fn refuse(self, refusal: Refusal) {
        // Where it was given up, nobody wants to know.
        let _ = self.stream.shared.session(|session| session.answer(self.stream.id, Err(refusal)));
    }
}

/// Refuses every stream: for an end that only opens some.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefuseAll;

#[async_trait]
impl Acceptor for RefuseAll {
    async fn accept(&self, incoming: Incoming) {
        incoming.refuse(Refusal::new(RefusalCode::Forbidden, "this end of the tunnel opens no connections"));
    }
}
