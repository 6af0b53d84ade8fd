//! Linearizable reads: which index must be applied before one is answered.
//!
//! One round to the quorum serves every reader that waited when it began. A
//! round is never reused: a reader that comes later waits for the next one.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use skiff_store::error::{NodeError, Result};
use tokio::sync::{mpsc, oneshot};

use super::core::Core;
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{ReadIndex, reply::Answer, request::Ask as Question};

/// Readers that may wait.
const QUEUE: usize = 65_536;
/// Pause before a round that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The entrance for readers.
pub(crate) struct Reads {
    queue: mpsc::Sender<oneshot::Sender<u64>>,
}

/// The other end, for [`run`].
pub(crate) struct ReadQueue(mpsc::Receiver<oneshot::Sender<u64>>);

impl Reads {
    pub(crate) fn new() -> (Self, ReadQueue) {
        let (queue, waiters) = mpsc::channel(QUEUE);
        (Self { queue }, ReadQueue(waiters))
    }

    /// Waits until a read of this member's state is linearizable; returns the
    /// index that made it so.
    ///
    /// # Errors
    /// [`NodeError::Timeout`], [`NodeError::TooManyRequests`],
    /// [`NodeError::Stopped`].
    pub(crate) async fn barrier(&self, core: &Core) -> Result<u64> {
        if let Some(index) = core.sole_voter_index() {
            return Ok(index);
        }
        let (answer, wait) = oneshot::channel();
        self.queue.try_send(answer).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NodeError::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
        })?;
        match tokio::time::timeout(core.config.request_timeout(), wait).await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(_)) => Err(NodeError::Stopped.into()),
            Err(_) => {
                METRICS.read_indexes_failed.inc();
                Err(core.timeout_error().into())
            }
        }
    }
}

/// Serves readers until the node stops.
pub(crate) async fn run(core: Arc<Core>, mut queue: ReadQueue) {
    let mut waiters = Vec::new();
    loop {
        let Some(first) = core.until_stop(queue.0.recv()).await.flatten() else { return };
        waiters.push(first);
        loop {
            // Whoever came until now is served by the round that begins now.
            while let Ok(waiter) = queue.0.try_recv() {
                waiters.push(waiter);
            }
            waiters.retain(|waiter: &oneshot::Sender<u64>| !waiter.is_closed());
            if waiters.is_empty() {
                break;
            }
            let Some(round) = core.until_stop(confirm(&core)).await else { return };
            if let Some(index) = round {
                serve(&core, index, std::mem::take(&mut waiters));
                break;
            }
            METRICS.slow_read_indexes.inc();
            if core.until_stop(tokio::time::sleep(RETRY_PAUSE)).await.is_none() {
                return;
            }
        }
    }
}

/// Answers readers once `index` is applied; at once where it is.
fn serve(core: &Arc<Core>, index: u64, waiters: Vec<oneshot::Sender<u64>>) {
    let answer = move |waiters: Vec<oneshot::Sender<u64>>| {
        for waiter in waiters {
            let _ = waiter.send(index);
        }
    };
    if core.shared.applied_index() >= index {
        return answer(waiters);
    }
    let owner = core.clone();
    core.spawn(async move {
        let wait = owner.shared.wait_applied(index);
        if tokio::time::timeout(owner.config.request_timeout(), wait).await.is_ok() {
            answer(waiters);
        }
    });
}

/// One round: confirms who leads and returns the read index.
async fn confirm(core: &Arc<Core>) -> Option<u64> {
    let leader = core.leader();
    if leader == core.member_id {
        let linearizer = core.raft().get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
        return Some(linearizer.read_log_id().index());
    }
    if leader == 0 {
        // Wakes with the next leader, or soon.
        let mut watch = core.watch_leader();
        let _ = tokio::time::timeout(Duration::from_millis(200), watch.wait_for(|id| *id != 0)).await;
        return None;
    }
    match core.call(leader, Question::ReadIndex(ReadIndex {}), core.config.election_timeout).await {
        Ok(Answer::ReadIndex(reply)) => Some(reply.index),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, leader, "cannot ask the leader for a read index");
            None
        }
    }
}
