//! The one thread that changes the state.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::Job;
use super::{Shared, TERM, next_entry};
use crate::api::WriteReply;
use crate::error::{Error, Result};
use crate::pb::skiff::v1::command::Op;
use crate::pb::skiff::v1::{Command, LeaseRevoke};

/// Commands applied together.
const MAX_BATCH: usize = 256;
/// Leases revoked together.
const MAX_EXPIRED: usize = 256;
/// How often leases are looked at while nothing else happens. The clock may be
/// any, so this does not wait for a deadline.
const TICK: Duration = Duration::from_millis(20);

/// Applies commands, ends leases, compacts.
pub(super) struct Applier {
    shared: Arc<Shared>,
    /// Answers held back until a revision is compacted physically.
    compacting: Vec<(i64, WriteReply, oneshot::Sender<Result<WriteReply>>)>,
    more_to_compact: bool,
}

impl Applier {
    pub(super) fn start(shared: Arc<Shared>) -> Result<()> {
        let mut applier = Self { shared, compacting: Vec::new(), more_to_compact: true };
        let run = move || {
            if let Err(error) = applier.run() {
                tracing::error!(%error, "the local store stops");
                applier.shared.mvcc.close_watches(error);
            }
            applier.shared.queue.close();
        };
        let thread = std::thread::Builder::new().name("local-apply".to_owned()).spawn(run);
        thread.map(drop).map_err(|error| Error::Other(format!("starting the applier: {error}")))
    }

    /// Works until the store closes.
    ///
    /// # Errors
    /// Faults of the engine: the state can no longer be changed.
    fn run(&mut self) -> Result<()> {
        loop {
            let wait = if self.more_to_compact { Duration::ZERO } else { TICK };
            let Some(jobs) = self.shared.queue.take(MAX_BATCH, wait) else { return Ok(()) };
            self.apply(jobs)?;
            self.expire()?;
            self.compact()?;
        }
    }

    fn apply(&mut self, jobs: Vec<Job>) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let commands = jobs.iter().map(|job| job.command.clone()).collect();
        let replies = match self.commit(commands) {
            Ok(replies) => replies,
            Err(error) => {
                jobs.into_iter().for_each(|job| _ = job.reply.send(Err(error.clone())));
                return Err(error);
            }
        };
        for (job, reply) in jobs.into_iter().zip(replies) {
            match (job.physical, reply) {
                (Some(revision), Ok(reply)) => self.compacting.push((revision, reply, job.reply)),
                (_, reply) => _ = job.reply.send(reply),
            }
        }
        Ok(())
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<Vec<Result<WriteReply>>> {
        let Shared { mvcc, lessor, tokens, clock, config, .. } = &*self.shared;
        let outcomes = mvcc.apply(&[next_entry(mvcc, commands)])?;
        if config.flush {
            mvcc.flush()?;
        }
        self.more_to_compact = true;
        let mut lessor = lessor.lock();
        let now = clock.now();
        for outcome in &outcomes {
            outcome.leases.iter().for_each(|change| lessor.apply(change, now));
            if !outcome.tokens.is_empty() {
                tokens.apply(&outcome.tokens, now);
            }
        }
        Ok(outcomes.into_iter().flat_map(|outcome| outcome.replies).collect())
    }

    fn expire(&mut self) -> Result<()> {
        let now = self.shared.clock.now();
        let expired = self.shared.lessor.lock().take_expired(now, MAX_EXPIRED);
        if expired.is_empty() {
            return Ok(());
        }
        let revoke = |id| Command::from(Op::LeaseRevoke(LeaseRevoke { id, expired_in_term: TERM }));
        let replies = self.commit(expired.iter().copied().map(revoke).collect())?;
        for (id, reply) in expired.into_iter().zip(replies) {
            if let Err(error) = reply {
                tracing::debug!(id, %error, "an expired lease was not revoked");
                self.shared.lessor.lock().retry(id);
            }
        }
        Ok(())
    }

    /// Does one step of compaction and answers who waited for its end.
    fn compact(&mut self) -> Result<()> {
        let mvcc = &self.shared.mvcc;
        if self.more_to_compact {
            self.more_to_compact = mvcc.compact_step()?;
        }
        for (revision, reply, sender) in std::mem::take(&mut self.compacting) {
            if mvcc.compacted_physically(revision) {
                let _ = sender.send(Ok(reply));
            } else {
                self.compacting.push((revision, reply, sender));
            }
        }
        Ok(())
    }
}
