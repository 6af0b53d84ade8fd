//! Calls that finish what they began when nobody waits for them any more.

use std::future::Future;

use tokio::sync::oneshot;
use tonic::Status;

/// Tells whether the one who called is gone.
pub(super) struct Gone(oneshot::Receiver<()>);

impl Gone {
    /// Awaits `work`, or the moment the caller is gone: `None` then.
    pub(super) async fn or<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.0 => None,
            done = work => Some(done),
        }
    }
}

/// Does `work` in a task of its own, which goes on when this future is dropped
/// and learns of that by [`Gone`].
pub(super) async fn detached<T, W>(work: impl FnOnce(Gone) -> W) -> Result<T, Status>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    let (_here, gone) = oneshot::channel();
    match tokio::spawn(work(Gone(gone))).await {
        Ok(done) => done,
        Err(error) => Err(Status::internal(format!("the call's task failed: {error}"))),
    }
}

/// What a caller would be told who is gone.
pub(super) fn canceled() -> Status {
    Status::cancelled("context canceled")
}
