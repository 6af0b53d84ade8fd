//! The one thread that changes the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::storage::EntryResponder;
use skiff_store::error::{Error, Result};
use skiff_store::mvcc::{self, EntryOutcome};
use skiff_store::pb::skiff::v1::command::Op;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::tally::tally;
use crate::codec;
use crate::metrics::METRICS;
use crate::types::{LogId, Outcome, Payload, StoredMembership, TypeConfig};

/// Batches waiting for the thread: one is applied while the next is read.
const QUEUE: usize = 2;
/// First and longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Called on the applier's thread with an outcome that changed leases or tokens,
/// before the entry counts as applied.
pub type Observer = Box<dyn Fn(&EntryOutcome) + Send>;

type Work = Box<dyn FnOnce(&mut State) + Send>;

/// The handle of the thread. Dropping it ends the thread.
pub struct Applier {
    queue: mpsc::Sender<Work>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread owns.
pub(super) struct State {
    shared: Arc<Shared>,
    observer: Observer,
    membership: Arc<StoredMembership>,
    stop: Arc<AtomicBool>,
    slow: Duration,
}

impl Applier {
    /// Starts the thread. An apply slower than `slow` is logged.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(shared: Arc<Shared>, observer: Observer, slow: Duration) -> Result<Self> {
        let (queue, mut work) = mpsc::channel::<Work>(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let membership = shared.membership();
        let mut state = State { shared, observer, membership, stop: stop.clone(), slow };
        let thread = std::thread::Builder::new()
            .name("skiff-apply".into())
            .spawn(move || {
                while let Some(work) = work.blocking_recv() {
                    work(&mut state);
                }
            })
            .map_err(|e| Error::Other(format!("start the apply thread: {e}")))?;
        Ok(Self { queue, stop, thread: Some(thread) })
    }

    /// Applies entries in order and answers their proposers.
    pub async fn apply(&self, items: Vec<EntryResponder<TypeConfig>>) -> Result<()> {
        self.run(move |state| state.apply(items)).await
    }

    /// Runs `work` between two applies.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, wait) = oneshot::channel();
        let work: Work = Box::new(move |state| {
            let _ = done.send(work(state));
        });
        let stopped = || Error::Other("the apply thread has stopped".into());
        self.queue.send(work).await.map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.queue, closed));
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl State {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes over another state, as after installing a snapshot.
    pub(super) fn replace(&mut self, applied: Option<LogId>, membership: StoredMembership) {
        self.membership = Arc::new(membership);
        self.shared.set_membership(self.membership.clone());
        self.shared.set_durable(applied, self.membership.clone());
        if let Some(at) = applied {
            self.shared.set_applied(at);
        }
    }

    fn apply(&mut self, items: Vec<EntryResponder<TypeConfig>>) -> Result<()> {
        let Some((last, _)) = items.last() else { return Ok(()) };
        let last = last.log_id;
        let started = Instant::now();
        let before = self.membership.clone();
        let (entries, bytes, compacts) = self.decode(&items)?;
        let mut outcomes = self.write(&entries)?;
        let took = started.elapsed();
        METRICS.applied(&tally(&entries, &outcomes), last.index, took, took > self.slow);
        if outcomes.len() < items.len() {
            outcomes.insert(0, EntryOutcome::default());
        }
        METRICS.keys.set(self.shared.mvcc.key_count() as i64);
        if took > self.slow {
            let expected_duration = self.slow;
            tracing::warn!(
                ?took,
                ?expected_duration,
                entries = entries.len(),
                last = last.index,
                "apply request took too long"
            );
        }

        if !Arc::ptr_eq(&before, &self.membership) {
            self.shared.set_membership(self.membership.clone());
        }
        for outcome in &outcomes {
            if !outcome.leases.is_empty() || !outcome.tokens.is_empty() {
                (self.observer)(outcome);
            }
        }
        self.shared.set_applied(last);
        self.shared.count(bytes, entries.len() as u64);
        if compacts {
            self.shared.compaction.notify_one();
        }
        for ((_, responder), outcome) in items.into_iter().zip(outcomes) {
            if let Some(responder) = responder {
                responder.send(Outcome { replies: outcome.replies });
            }
        }
        Ok(())
    }

    /// The store's view of the entries, their bytes, and whether one compacts.
    ///
    /// The entry at index 0, by which a cluster begins, holds the first
    /// membership and nothing else. The store counts from 1 and never sees it;
    /// until a later entry records the membership, a restart reads it again.
    fn decode(&mut self, items: &[EntryResponder<TypeConfig>]) -> Result<(Vec<mvcc::Entry>, u64, bool)> {
        let mut entries = Vec::with_capacity(items.len());
        let mut bytes = 0;
        let mut compacts = false;
        for (index, (entry, _)) in items.iter().enumerate() {
            let at = entry.log_id;
            let commands = match &entry.payload {
                Payload::Blank => Vec::new(),
                Payload::Normal(proposal) => {
                    bytes += proposal.encoded().len() as u64;
                    proposal.commands()?.commands.clone()
                }
                Payload::Membership(m) => {
                    self.membership = Arc::new(StoredMembership::new(Some(at), m.clone()));
                    Vec::new()
                }
            };
            compacts |= commands.iter().any(|c| matches!(c.op, Some(Op::Compact(_))));
            if at.index == 0 {
                continue;
            }
            // One atomic batch: only the last position is ever read.
            let last = index + 1 == items.len();
            let position =
                if last { codec::encode_position(Some(&at), &self.membership) } else { Bytes::new() };
            entries.push(mvcc::Entry {
                term: at.committed_leader_id().term,
                index: at.index,
                position,
                commands,
            });
        }
        Ok((entries, bytes, compacts))
    }

    /// Writes entries; a fault of the disk makes it wait, never skip: the same
    /// entries again until they are in, or until the node stops.
    fn write(&self, entries: &[mvcc::Entry]) -> Result<Vec<EntryOutcome>> {
        self.patiently("write the state", || self.shared.mvcc.apply(entries))
    }

    /// Repeats what a fault of the disk made fail until it succeeds, or until
    /// the node stops. Meanwhile the state stays readable as it was.
    pub(super) fn patiently<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut pause = RETRY.0;
        loop {
            match attempt() {
                Ok(done) => {
                    self.shared.set_stuck(false);
                    return Ok(done);
                }
                Err(Error::Storage(why)) if !self.stop.load(Ordering::Relaxed) => {
                    tracing::error!(error = %why, "cannot {what}; trying again");
                    self.shared.set_stuck(true);
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(e) => {
                    // Ends the member: whoever has to repair it must know why.
                    tracing::error!(error = %e, "cannot {what}");
                    return Err(e);
                }
            }
        }
    }
}
