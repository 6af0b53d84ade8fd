//! Commits that were not answered: whether they happened is asked of the log,
//! under the lock of the head, so that a commit that is still under way has
//! ended.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::NodeError;
use skiff_store::mvcc::Prepared;

use super::failure::Failure;
use super::head::lock_head;
use super::jobs::{Batched, Job};
use super::{Core, log};
use crate::db::DbError;

/// Pause after the replica could not be filled anew.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// A batch whose commit was not answered.
pub(crate) struct InDoubt {
    /// What was answered instead.
    pub(crate) error: DbError,
    /// What the batch does.
    pub(crate) prepared: Prepared,
    /// Index of its entry.
    pub(crate) index: u64,
    /// Names its transaction.
    pub(crate) writer: String,
    /// Who waits for it.
    pub(crate) batched: Batched,
}

enum Verdict {
    Committed,
    Not,
    Forgotten,
}

impl InDoubt {
    /// Finds out whether the commit happened, and answers then; otherwise gives
    /// back the jobs, which are to be done again.
    pub(crate) async fn resolve(self, core: &Arc<Core>) -> Vec<Job> {
        let InDoubt { error, prepared, index, writer, batched } = self;
        tracing::warn!(%error, index, "the outcome of a commit is unknown; asking the log");
        core.contact.write_failed();
        let mut pause = core.contact.failed(&error);
        loop {
            if !core.sleep(pause).await {
                batched.refuse(&NodeError::Stopped.into());
                return Vec::new();
            }
            if !batched.is_wanted() {
                return Vec::new();
            }
            match was_committed(core, index, &writer).await {
                Ok(Verdict::Committed) => {
                    batched.answer(prepared.into_outcomes());
                    return Vec::new();
                }
                Ok(Verdict::Not) => return batched.into_jobs(),
                Ok(Verdict::Forgotten) => {
                    batched.refuse(&NodeError::TimeoutConnectionLost.into());
                    return Vec::new();
                }
                Err(Failure::Database(error)) => pause = core.contact.failed(&error),
                Err(Failure::Busy) => {
                    pause = Duration::ZERO;
                    drop(core.until_stop(core.replica.lock()).await);
                }
                Err(Failure::Behind) => {
                    pause = Duration::ZERO;
                    if core.replica.lock().await.reload(core).await.is_err() {
                        pause = RELOAD_PAUSE;
                    }
                }
                Err(_) => {
                    batched.refuse(&NodeError::TimeoutConnectionLost.into());
                    return Vec::new();
                }
            }
        }
    }
}

async fn was_committed(core: &Arc<Core>, index: u64, writer: &str) -> Result<Verdict, Failure> {
    let mut session = core.db.session().await?;
    session.begin().await?;
    let head = lock_head(session.as_mut(), core.db.dialect()).await?;
    let verdict = if head.index < index {
        Verdict::Not
    } else {
        match log::writer_of(session.as_mut(), index).await? {
            Some(found) if found == writer => Verdict::Committed,
            Some(_) => Verdict::Not,
            None => Verdict::Forgotten,
        }
    };
    core.contact.answered();
    if matches!(verdict, Verdict::Committed) {
        // Whoever is answered reads what it wrote.
        let mut replica = core.lock_replica_briefly().await?;
        replica.catch_up(core, session.as_mut(), &head).await?;
    }
    session.rollback().await?;
    Ok(verdict)
}
