//! Linearizable reads: one question to the database for all readers that wait.
//!
//! An answer is never reused: a reader that comes while a question is under
//! way waits for the next one.

use std::sync::Arc;

use skiff_store::{Error, NodeError, Result};
use tokio::sync::{mpsc, oneshot};

use super::Core;
use super::failure::Failure;
use super::head::read_head;
use super::jobs::{Job, Work};
use crate::db::Session;

/// Readers that may wait.
const QUEUE: usize = 65_536;

/// The entrance for readers.
pub(crate) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<Result<()>>>,
}

/// The other end, for [`run`].
pub(crate) type ReadQueue = mpsc::Receiver<oneshot::Sender<Result<()>>>;

impl Reads {
    pub(crate) fn new() -> (Self, ReadQueue) {
        let (queue, waiters) = mpsc::channel(QUEUE);
        (Self { queue }, waiters)
    }

    /// Waits until the replica has everything that was committed before the
    /// call.
    ///
    /// # Errors
    /// The time is over, too many wait, the store stops.
    pub(crate) async fn barrier(&self, core: &Core) -> Result<()> {
        let (answer, wait) = oneshot::channel();
        self.queue.try_send(answer).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NodeError::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
        })?;
        core.in_time(async { wait.await.map_err(|_| Error::from(NodeError::Stopped))? }).await
    }
}

/// Serves readers until the store stops.
pub(crate) async fn run(core: Arc<Core>, mut queue: ReadQueue) {
    let mut session: Option<Box<dyn Session>> = None;
    let mut waiters: Vec<oneshot::Sender<Result<()>>> = Vec::new();
    loop {
        let Some(first) = core.until_stop(queue.recv()).await.flatten() else { return };
        waiters.push(first);
        loop {
            while let Ok(waiter) = queue.try_recv() {
                waiters.push(waiter);
            }
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                break;
            }
            let Some(round) = core.until_stop(round(&core, &mut session)).await else { return };
            match round {
                Ok(()) => {
                    core.contact.answered();
                    waiters.drain(..).for_each(|waiter| _ = waiter.send(Ok(())));
                    break;
                }
                Err(Failure::Database(error)) => {
                    session = None;
                    if !core.sleep(core.contact.failed(&error)).await {
                        return;
                    }
                }
                Err(Failure::Store(error)) => {
                    session = None;
                    waiters.drain(..).for_each(|waiter| _ = waiter.send(Err(error.clone())));
                }
                Err(Failure::Behind) => {
                    let Some(filled) = core.until_stop(refill(&core)).await else { return };
                    if let Err(error) = filled {
                        session = None;
                        waiters.drain(..).for_each(|waiter| _ = waiter.send(Err(error.clone())));
                    }
                }
                Err(Failure::Again | Failure::Busy | Failure::Unknown(_)) => {}
            }
        }
    }
}

async fn refill(core: &Core) -> Result<()> {
    core.replica.lock().await.reload(core).await
}

/// One question, and the replica brought up to the answer.
async fn round(core: &Core, session: &mut Option<Box<dyn Session>>) -> Result<(), Failure> {
    if session.is_none() {
        *session = Some(core.db.session().await?);
    }
    let session = session.as_deref_mut().expect("just opened");
    let head = read_head(session, core.db.dialect()).await?;
    if core.mvcc.applied_index() < head.index {
        let mut replica = core.replica.lock().await;
        // The writer may have applied it, and more, meanwhile.
        if core.mvcc.applied_index() < head.index {
            replica.catch_up(core, session, &head).await?;
        }
    } else if core.mvcc.applied_index() > head.index || core.tail.contradicts(&head) {
        check_not_gone_back(core, session).await?;
    }
    if head.newest_row > head.revision && core.mvcc.revision() < head.newest_row {
        adopt(core, head.newest_row).await?;
    }
    Ok(())
}

/// The replica was ahead of the answer: it was applied since, or the database
/// has gone back.
async fn check_not_gone_back(core: &Core, session: &mut dyn Session) -> Result<(), Failure> {
    let mut replica = core.replica.lock().await;
    let head = read_head(session, core.db.dialect()).await?;
    replica.catch_up(core, session, &head).await
}

/// Has the writer take over what another program wrote, up to a revision.
async fn adopt(core: &Core, through: i64) -> Result<(), Failure> {
    let (reply, answer) = oneshot::channel();
    if core.jobs.send(Job { work: Work::Adopt(through), reply }).await.is_err() {
        return Err(Failure::Store(NodeError::Stopped.into()));
    }
    answer
        .await
        .map_err(|_| NodeError::Stopped.into())
        .and_then(|reply| reply)
        .map(drop)
        .map_err(Failure::Store)
}
