//! How openraft answers a proposal.

use openraft::RaftTypeConfig;
use openraft::raft::responder::Responder;

/// Answers by calling a function, on whatever task or thread has the answer:
/// it must be short and must not block. Dropped uncalled if the log stops
/// before there is an answer.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    /// Calls `f` with the answer.
    pub fn new(f: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(f))
    }
}

impl<C: RaftTypeConfig, T: Send + 'static> Responder<C, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
