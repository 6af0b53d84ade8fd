//! The writer: one a server. It takes what waits and commits it together.
//!
//! A transaction locks the head first, so that everything after happens in the
//! order of the locks, whatever the number of servers. What fails is tried
//! again as long as somebody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_store::mvcc::{Entry, Prepared};
use skiff_store::pb::skiff::v1::{Command, CommandBatch};
use skiff_store::{NodeError, Result};
use tokio::sync::{MutexGuard, mpsc};

use super::adopt::Found;
use super::batch::Batch;
use super::doubt::InDoubt;
use super::failure::Failure;
use super::head::{Head, lock_head};
use super::jobs::{Batched, Job, Work, answer_adopted, refuse_all};
use super::replica::Replica;
use super::rows::Rows;
use super::{Core, TERM, adopt, blocking, drawn, leases, log, store_error};
use crate::db::{DbError, DbErrorKind, Session};
use crate::metrics::METRICS;

/// Requests committed together, and their bytes.
const MAX_JOBS: usize = 512;
const MAX_BYTES: usize = 4 << 20;
/// Rounds that another program may be faster before ids are drawn beside it, and
/// how many are drawn together.
const CROWDED: u32 = 4;
const MAX_DRAWN: usize = 16;
/// Attempts of a batch that the database refuses for what others do.
const MAX_REFUSALS: u32 = 50;

/// The writer's task.
pub(crate) struct Writer {
    core: Arc<Core>,
    queue: mpsc::Receiver<Job>,
    session: Option<Box<dyn Session>>,
    /// While another program writes so much that we always come too late: how
    /// many ids to draw.
    crowd: Option<usize>,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, queue: mpsc::Receiver<Job>) -> Self {
        Self { core, queue, session: None, crowd: None }
    }

    /// Works until the store stops.
    pub(crate) async fn run(mut self) {
        let core = self.core.clone();
        let mut held: Option<Job> = None;
        loop {
            let first = match held.take() {
                Some(job) => job,
                None => match core.until_stop(self.queue.recv()).await.flatten() {
                    Some(job) => job,
                    None => return,
                },
            };
            let mut bytes = first.bytes();
            let mut jobs = vec![first];
            while jobs.len() < MAX_JOBS {
                let Ok(job) = self.queue.try_recv() else { break };
                bytes += job.bytes();
                if bytes > MAX_BYTES {
                    held = Some(job);
                    break;
                }
                jobs.push(job);
            }
            self.commit(jobs).await;
        }
    }

    /// Commits jobs together; one by one where the database refuses them
    /// together for a reason of one of them.
    async fn commit(&mut self, jobs: Vec<Job>) {
        let Err((jobs, error)) = self.try_commit(jobs).await else { return };
        if jobs.len() < 2 {
            return refuse_all(jobs, &store_error(&error));
        }
        for job in jobs {
            if let Err((jobs, error)) = self.try_commit(vec![job]).await {
                refuse_all(jobs, &store_error(&error));
            }
        }
    }

    /// Tries until the jobs are answered, or nobody waits any more.
    async fn try_commit(&mut self, mut jobs: Vec<Job>) -> Result<(), (Vec<Job>, DbError)> {
        let core = self.core.clone();
        let (mut refusals, mut rounds) = (0, 0);
        loop {
            jobs.retain(Job::is_wanted);
            if jobs.is_empty() {
                return Ok(());
            }
            if let Err(error) = core.check_running() {
                refuse_all(jobs, &error);
                return Ok(());
            }
            let next = match self.attempt(&mut jobs).await {
                Ok(()) => {
                    core.contact.written();
                    (refusals, rounds) = (0, 0);
                    if jobs.is_empty() { Next::Answered } else { Next::Again(Duration::ZERO) }
                }
                Err(failure) => {
                    rounds += u32::from(failure.is_for_others());
                    if rounds >= CROWDED && self.crowd.is_none() {
                        self.crowd = Some(MAX_DRAWN);
                    }
                    self.after(failure, &mut jobs, &mut refusals).await
                }
            };
            match next {
                Next::Answered => return Ok(()),
                Next::Refused(error) => return Err((jobs, error)),
                Next::Again(pause) if core.sleep(pause).await => {}
                Next::Again(_) => {
                    refuse_all(jobs, &NodeError::Stopped.into());
                    return Ok(());
                }
            }
        }
    }

    /// What to do after an attempt failed.
    async fn after(&mut self, failure: Failure, jobs: &mut Vec<Job>, refusals: &mut u32) -> Next {
        match failure {
            Failure::Again => {
                self.roll_back().await;
                Next::Again(Duration::ZERO)
            }
            Failure::Busy => {
                self.roll_back().await;
                // Whoever has it may need the lock of the head for what it does.
                drop(self.core.until_stop(self.core.replica.lock()).await);
                Next::Again(Duration::ZERO)
            }
            Failure::Behind => {
                // Not under the lock of the head, which all servers wait for.
                self.roll_back().await;
                match self.core.replica.lock().await.reload(&self.core).await {
                    Ok(()) => Next::Again(Duration::ZERO),
                    Err(error) => {
                        refuse_all(std::mem::take(jobs), &error);
                        Next::Answered
                    }
                }
            }
            Failure::Store(error) => {
                self.session = None;
                refuse_all(std::mem::take(jobs), &error);
                Next::Answered
            }
            Failure::Unknown(doubt) => {
                self.session = None;
                let mut left = doubt.resolve(&self.core).await;
                left.append(jobs);
                *jobs = left;
                if jobs.is_empty() { Next::Answered } else { Next::Again(Duration::ZERO) }
            }
            Failure::Database(error) => self.after_refusal(error, jobs, refusals).await,
        }
    }

    async fn after_refusal(&mut self, error: DbError, jobs: &mut Vec<Job>, refusals: &mut u32) -> Next {
        let passing = matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry);
        METRICS.retries.with_label_values(&[if passing { "true" } else { "false" }]).inc();
        if passing && *refusals < MAX_REFUSALS {
            *refusals += 1;
            self.roll_back().await;
            return Next::Again(Duration::from_millis(u64::from(*refusals)));
        }
        self.session = None;
        self.core.contact.write_failed();
        match error.kind() {
            DbErrorKind::Unreachable | DbErrorKind::ConnectionLost => {
                Next::Again(self.core.contact.failed(&error))
            }
            DbErrorKind::ReadOnly | DbErrorKind::DiskFull | DbErrorKind::Denied => {
                self.core.contact.failed(&error);
                refuse_all(std::mem::take(jobs), &store_error(&error));
                Next::Answered
            }
            _ => Next::Refused(error),
        }
    }

    async fn roll_back(&mut self) {
        if let Some(mut session) = self.session.take()
            && session.rollback().await.is_ok()
        {
            self.session = Some(session);
        }
    }

    /// Commits jobs, from the first on, and takes out those that are answered.
    async fn attempt(&mut self, jobs: &mut Vec<Job>) -> Result<(), Failure> {
        let core = self.core.clone();
        if self.session.is_none() {
            self.session = Some(core.db.session().await?);
        }
        let session = self.session.as_deref_mut().expect("just opened");
        session.begin().await?;
        let begun = Instant::now();
        let head = lock_head(session, core.db.dialect()).await?;
        let mut replica = core.lock_replica_briefly().await?;
        replica.catch_up(&core, session, &head).await?;
        let behind = head.newest_row - head.revision;
        answer_adopted(jobs, core.mvcc.revision());
        if jobs.is_empty() {
            drop(replica);
            session.rollback().await?;
            return Ok(());
        }
        if behind > 0 {
            adopt::check_there(&core, session, &head).await?;
        } else {
            self.crowd = None;
        }
        let mut batch = jobs.len();
        let mut found = None;
        if let Some(room) = self.crowd
            && behind < adopt::PAGE as i64
            && jobs.iter().any(|job| !matches!(job.work, Work::Adopt(_)))
        {
            batch = batch.min(room);
            let (before, drawn) = among_others(&core, session, &mut replica, &head, batch).await?;
            self.crowd = Some(if drawn < batch { drawn } else { (room * 2).min(MAX_DRAWN) });
            batch = batch.min(drawn);
            found = Some(before);
        } else if behind > 0 {
            adopt::adopt(&core, session, &mut replica, &head).await?;
            answer_adopted(jobs, core.mvcc.revision());
            return Err(Failure::Again);
        }
        let rest = jobs.split_off(batch);
        let done = self.commit_batch(jobs, head, found, replica, begun).await;
        jobs.extend(rest);
        done
    }

    /// Commits jobs after what was found of another program, within the
    /// transaction that holds the head.
    async fn commit_batch(
        &mut self,
        jobs: &mut Vec<Job>,
        head: Head,
        found: Option<Found>,
        mut replica: MutexGuard<'_, Replica>,
        begun: Instant,
    ) -> Result<(), Failure> {
        let core = self.core.clone();
        let session = self.session.as_deref_mut().expect("a transaction is open");
        let limit = if found.is_some() { 1 } else { usize::MAX };
        let (own, counts) = expand(&core, session, jobs, limit).await?;
        let mut commands = found.as_ref().map(|found| found.commands.clone()).unwrap_or_default();
        let before = commands.len();
        commands.extend(own);
        let commands = CommandBatch { commands };
        let present = found.as_ref().map_or(head.revision, |found| found.through);
        let (prepared, rows) = prepare(&core, &head, &commands, present).await?;
        if prepared.is_empty() {
            drop(replica);
            // What was cleared away beside the log is to stay so.
            match jobs.iter().any(|job| matches!(job.work, Work::Expire)) {
                true => session.commit().await?,
                false => session.rollback().await?,
            }
            Batched::new(std::mem::take(jobs), counts, before).answer(prepared.into_outcomes());
            return Ok(());
        }
        METRICS.batch.observe(commands.commands.len() as f64);
        let (index, writer) = (head.index + 1, transaction_name());
        let batch = Batch {
            prepared: &prepared,
            rows,
            index,
            commands: &commands,
            writer: &writer,
            compacted_before: core.mvcc.compact_revision(),
        };
        batch.write(session, core.db.dialect()).await?;
        if let Some(found) = &found {
            found.finish(&core, session).await?;
        }
        if let Err(error) = log::commit(session, index, &writer).await {
            return Err(match error.kind() {
                // It was rolled back for certain.
                DbErrorKind::UniqueViolation
                | DbErrorKind::Retry
                | DbErrorKind::ReadOnly
                | DbErrorKind::DiskFull => error.into(),
                _ => {
                    let batched = Batched::new(std::mem::take(jobs), counts, before);
                    Failure::Unknown(Box::new(InDoubt { error, prepared, index, writer, batched }))
                }
            });
        }
        let mvcc = core.mvcc.clone();
        let outcomes = match blocking(move || mvcc.commit(prepared)).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // It is durable; the replica is filled anew before it is read.
                tracing::error!(%error, "the replica could not take a change that is committed");
                replica.broken = true;
                return Err(Failure::Store(NodeError::Timeout.into()));
            }
        };
        core.tail.note(index, writer);
        replica.applied(&core, &outcomes);
        drop(replica);
        METRICS.commits.observe(begun.elapsed().as_secs_f64());
        Batched::new(std::mem::take(jobs), counts, before).answer(outcomes);
        Ok(())
    }
}

/// Draws ids beside another program that writes all the time, and finds what is
/// before them; answers how many ids there are as well.
async fn among_others(
    core: &Core,
    session: &mut dyn Session,
    replica: &mut Replica,
    head: &Head,
    count: usize,
) -> Result<(Found, usize), Failure> {
    let Some(drawn) = drawn::draw(session, count).await? else { return Err(Failure::Again) };
    if drawn.first - head.revision > adopt::PAGE as i64 {
        return Err(Failure::Again);
    }
    drawn::decide(session, core.db.dialect(), head.revision, drawn.first).await?;
    let found = adopt::find(core, session, head, drawn.first).await?;
    if found.through + 1 < drawn.first {
        // Too much for one entry.
        adopt::commit(core, session, replica, head, found).await?;
        return Err(Failure::Again);
    }
    Ok((found, drawn.count))
}

/// How it goes on after a failure.
enum Next {
    /// The jobs are answered.
    Answered,
    /// Another attempt after a pause.
    Again(Duration),
    /// The database will not have this batch.
    Refused(DbError),
}

/// Evaluates commands on the replica.
async fn prepare(
    core: &Core,
    head: &Head,
    commands: &CommandBatch,
    present: i64,
) -> Result<(Prepared, Rows), Failure> {
    let entry = Entry {
        term: TERM,
        index: head.index + 1,
        position: Default::default(),
        commands: commands.commands.clone(),
    };
    let (mvcc, db) = (core.mvcc.clone(), core.db.clone());
    let work = move || {
        let prepared = mvcc.prepare(&[entry])?;
        let rows = Rows::of(&prepared, db.dialect(), present)?;
        Ok((prepared, rows))
    };
    Ok(blocking(work).await?)
}

/// The commands of jobs, and how many each has; at most `expired` for leases whose
/// time is over.
async fn expand(
    core: &Core,
    session: &mut dyn Session,
    jobs: &[Job],
    expired: usize,
) -> Result<(Vec<Command>, Vec<usize>), Failure> {
    let mut commands = Vec::with_capacity(jobs.len());
    let mut counts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = commands.len();
        match &job.work {
            Work::Command(command) => commands.push(command.clone()),
            Work::Expire => commands.extend(leases::expired(core, session, expired).await?),
            Work::Adopt(_) => {}
        }
        counts.push(commands.len() - before);
    }
    Ok((commands, counts))
}

/// A name that no other transaction has.
pub(crate) fn transaction_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}
