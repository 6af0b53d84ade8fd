//! Turns client writes into proposals.
//!
//! Writes wait in one bounded queue. Whatever waits becomes one proposal, up
//! to a limit, so that under load one log entry carries many writes; several
//! proposals are under way at once. A member that does not lead forwards the
//! same batches to the one that does.
//!
//! A write is tried again only where it is certain that nothing happened: the
//! proposal was refused before it was appended, or never left. Where the
//! outcome is unknown the client is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use prost::Message;
use skiff_store::api::WriteReply;
use skiff_store::error::{Error, NodeError, Result};
use skiff_store::pb::skiff::v1::{Command, CommandBatch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::core::Core;
use super::wire;
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{reply::Answer, request::Ask as Question};
use crate::peer::CallError;
use crate::responder::Callback;
use crate::types::{Proposal, TypeConfig};

/// Pause before a refused proposal is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A reply and the index of the entry that held the command.
#[derive(Debug)]
pub(crate) struct Done {
    /// The reply.
    pub(crate) reply: Result<WriteReply>,
    /// Index of the entry.
    pub(crate) index: u64,
}

/// A command on its way.
pub(crate) struct Ask {
    command: Command,
    bytes: usize,
    /// Came from a peer, which itself tries again: never forwarded further.
    forwarded: bool,
    answer: oneshot::Sender<Result<Done>>,
    _pending: Pending,
}

/// Counts what is under way; taken back when dropped.
struct Pending {
    counters: Arc<Counters>,
    bytes: usize,
}

#[derive(Default)]
struct Counters {
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.counters.commands.fetch_sub(1, Ordering::Relaxed);
        self.counters.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        METRICS.proposals_pending.dec();
    }
}

/// The entrance of the queue.
pub(crate) struct Proposer {
    queue: mpsc::UnboundedSender<Ask>,
    counters: Arc<Counters>,
    limit: (usize, usize),
}

/// The other end of the queue, for [`run`].
pub(crate) struct Queue {
    asks: mpsc::UnboundedReceiver<Ask>,
}

impl Proposer {
    /// A queue of at most `limit` commands and bytes, refused ones that wait
    /// to be tried again included.
    pub(crate) fn new(limit: (usize, usize)) -> (Self, Queue) {
        // Unbounded only in form: `submit` admits no more than the limit.
        let (queue, asks) = mpsc::unbounded_channel();
        (Self { queue, counters: Arc::default(), limit }, Queue { asks })
    }

    /// Queues a command.
    ///
    /// # Errors
    /// [`NodeError::TooManyRequests`] where the queue is full;
    /// [`NodeError::Stopped`].
    pub(crate) fn submit(
        &self,
        command: Command,
        forwarded: bool,
    ) -> Result<oneshot::Receiver<Result<Done>>> {
        let bytes = command.encoded_len();
        let commands = self.counters.commands.fetch_add(1, Ordering::Relaxed);
        let total = self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        METRICS.proposals_pending.inc();
        let pending = Pending { counters: self.counters.clone(), bytes };
        if commands >= self.limit.0 || (total > 0 && total + bytes > self.limit.1) {
            return Err(NodeError::TooManyRequests.into());
        }
        let (answer, wait) = oneshot::channel();
        let ask = Ask { command, bytes, forwarded, answer, _pending: pending };
        self.queue.send(ask).map_err(|_| NodeError::Stopped)?;
        Ok(wait)
    }

    fn again(&self, asks: Vec<Ask>) {
        for ask in asks {
            // A closed queue drops the ask, which tells its waiter.
            let _ = self.queue.send(ask);
        }
    }
}

/// Takes from the queue and proposes, until the node stops.
pub(crate) async fn run(core: Arc<Core>, mut queue: Queue) {
    let in_flight = Arc::new(Semaphore::new(core.config.proposals_in_flight.max(1)));
    let mut leader = core.watch_leader();
    let mut batch: Vec<Ask> = Vec::new();
    loop {
        let Some(first) = core.until_stop(queue.asks.recv()).await.flatten() else { return };
        let Some(Ok(permit)) = core.until_stop(in_flight.clone().acquire_owned()).await else { return };
        fill(&mut batch, first, &mut queue, core.config.proposal_limit);
        loop {
            batch.retain(|ask| !ask.answer.is_closed());
            if batch.is_empty() {
                break;
            }
            let to = *leader.borrow_and_update();
            if to == core.member_id {
                propose(&core, std::mem::take(&mut batch), permit).await;
                break;
            } else if to != 0 {
                refuse_forwarded(&mut batch);
                tokio::spawn(forward(core.clone(), to, std::mem::take(&mut batch), permit));
                break;
            }
            refuse_forwarded(&mut batch);
            // Waiters give up by themselves; look again to notice.
            let _ = core.until_stop(tokio::time::timeout(Duration::from_millis(200), leader.changed())).await;
            if core.is_stopping() {
                return;
            }
        }
    }
}

/// Adds what waits, up to the limit.
fn fill(batch: &mut Vec<Ask>, first: Ask, queue: &mut Queue, limit: (usize, usize)) {
    let mut bytes = first.bytes;
    batch.push(first);
    while batch.len() < limit.0
        && bytes < limit.1
        && let Ok(ask) = queue.asks.try_recv()
    {
        bytes += ask.bytes;
        batch.push(ask);
    }
}

/// Answers what came from peers: they find the leader themselves.
fn refuse_forwarded(batch: &mut Vec<Ask>) {
    for ask in batch.extract_if(.., |ask| ask.forwarded) {
        let _ = ask.answer.send(Err(NodeError::NotLeader.into()));
    }
}

async fn propose(core: &Arc<Core>, asks: Vec<Ask>, permit: OwnedSemaphorePermit) {
    let commands = asks.iter().map(|ask| ask.command.clone()).collect();
    let proposal = Proposal::new(CommandBatch { commands });
    let owner = core.clone();
    let answer = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
        drop(permit);
        answer(&owner, asks, result);
    });
    // A stopped log drops the callback, which tells the waiters.
    let _ = core.raft().client_write_ff(proposal, Some(answer)).await;
}

/// Routes a proposal's outcome to its waiters. On the applier's thread, or
/// openraft's: short, and without waiting.
fn answer(core: &Arc<Core>, asks: Vec<Ask>, result: ClientWriteResult<TypeConfig>) {
    match result {
        Ok(response) => {
            let index = response.log_id.index;
            let mut replies = response.data.replies.into_iter();
            for ask in asks {
                let reply = replies
                    .next()
                    .unwrap_or_else(|| Err(Error::Other("a command was applied without an answer".into())));
                let _ = ask.answer.send(Ok(Done { reply, index }));
            }
        }
        Err(ClientWriteError::ForwardToLeader(_)) => try_again(core, asks),
        Err(ClientWriteError::LogEntryDiscarded(_)) => fail(asks, NodeError::LeaderChanged),
        Err(other) => {
            tracing::error!(error = %other, "a proposal failed in a way it cannot");
            fail(asks, NodeError::LeaderChanged);
        }
    }
}

fn fail(asks: Vec<Ask>, error: NodeError) {
    METRICS.proposals_failed.inc_by(asks.len() as u64);
    for ask in asks {
        let _ = ask.answer.send(Err(error.into()));
    }
}

/// Queues again, after a pause, what certainly did not happen.
fn try_again(core: &Arc<Core>, mut asks: Vec<Ask>) {
    refuse_forwarded(&mut asks);
    asks.retain(|ask| !ask.answer.is_closed());
    if asks.is_empty() {
        return;
    }
    let owner = core.clone();
    core.spawn(async move {
        tokio::time::sleep(RETRY_PAUSE).await;
        owner.proposer.again(asks);
    });
}

async fn forward(core: Arc<Core>, to: u64, asks: Vec<Ask>, permit: OwnedSemaphorePermit) {
    let commands = asks.iter().map(|ask| ask.command.clone()).collect();
    let question = Question::Write(CommandBatch { commands });
    let called = core.call(to, question, core.config.request_timeout()).await;
    drop(permit);
    match called {
        Ok(Answer::Write(replies)) => {
            let index = replies.index;
            let mut again = Vec::new();
            let mut replies = replies.replies.into_iter();
            for ask in asks {
                match wire::decode_write_reply(replies.next().unwrap_or_default()) {
                    Err(Error::Node(NodeError::NotLeader)) => again.push(ask),
                    Err(Error::Node(e)) => {
                        METRICS.proposals_failed.inc();
                        let _ = ask.answer.send(Err(e.into()));
                    }
                    reply => {
                        let _ = ask.answer.send(Ok(Done { reply, index }));
                    }
                }
            }
            try_again(&core, again);
        }
        Ok(Answer::Error(e)) => match wire::decode_error(e) {
            Error::Node(NodeError::NotLeader) => try_again(&core, asks),
            e => {
                for ask in asks {
                    let _ = ask.answer.send(Err(e.clone()));
                }
            }
        },
        Err(CallError::Unreachable(_) | CallError::Refused(_) | CallError::Removed) => try_again(&core, asks),
        Err(CallError::Lost(_)) => fail(asks, NodeError::TimeoutConnectionLost),
        Err(CallError::Timeout) => fail(asks, NodeError::Timeout),
        Ok(_) => fail(asks, NodeError::LeaderChanged),
    }
}
