//! The writer: one a server. It takes what waits and commits it together.
//!
//! A transaction locks the head first, so that everything after happens in the
//! order of the locks, whatever the number of servers. What fails is tried
//! again as long as somebody waits for it; where the connection broke during
//! the commit the log is asked whether the entry is in it, under the lock, so
//! that a commit that is still under way has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use skiff_store::api::WriteReply;
use skiff_store::mvcc::{Entry, EntryOutcome, Prepared};
use skiff_store::pb::skiff::v1::{Command, CommandBatch};
use skiff_store::{Error, NodeError, Result};
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::head::{Head, lock_head};
use super::rows::Rows;
use super::{Core, TERM, adopt, blocking, leases, log, store_error};
use crate::db::{DbError, DbErrorKind, Session};
use crate::metrics::METRICS;

/// Requests committed together, and their bytes.
const MAX_JOBS: usize = 512;
const MAX_BYTES: usize = 4 << 20;
/// Pause after the replica could not be filled anew.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// Attempts of a batch that the database refuses for what others do.
const MAX_REFUSALS: u32 = 50;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A client's command, or one of the store's own.
    Command(Command),
    /// End the leases whose time is over.
    Expire,
    /// Take over what another program wrote.
    Adopt,
}

/// Work and who waits for it.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Result<WriteReply>>,
}

impl Job {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Command(command) => command.encoded_len(),
            Work::Expire | Work::Adopt => 0,
        }
    }
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Nothing happened.
    Database(DbError),
    /// Nothing happened; the replica or the contract is at fault.
    Store(Error),
    /// Nothing happened but that an obstacle was removed.
    Again,
    /// The log does not reach back to the replica's position.
    Behind,
    /// The commit may have happened.
    Unknown(Box<InDoubt>),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Failure::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}

/// A batch whose commit was not answered.
pub(crate) struct InDoubt {
    error: DbError,
    prepared: Prepared,
    index: u64,
    writer: String,
}

/// The writer's task.
pub(crate) struct Writer {
    core: Arc<Core>,
    queue: mpsc::Receiver<Job>,
    session: Option<Box<dyn Session>>,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, queue: mpsc::Receiver<Job>) -> Self {
        Self { core, queue, session: None }
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
            return answer_all(jobs, &store_error(&error));
        }
        for job in jobs {
            if let Err((jobs, error)) = self.try_commit(vec![job]).await {
                answer_all(jobs, &store_error(&error));
            }
        }
    }

    /// Tries until the jobs are answered, or nobody waits any more.
    async fn try_commit(&mut self, mut jobs: Vec<Job>) -> Result<(), (Vec<Job>, DbError)> {
        let core = self.core.clone();
        let mut refusals = 0;
        loop {
            jobs.retain(|job| !job.reply.is_closed());
            if jobs.is_empty() {
                return Ok(());
            }
            if let Err(error) = core.check_running() {
                answer_all(jobs, &error);
                return Ok(());
            }
            let next = match self.attempt(&mut jobs).await {
                Ok(()) => {
                    core.contact.written();
                    return Ok(());
                }
                Err(failure) => self.after(failure, &mut jobs, &mut refusals).await,
            };
            match next {
                Next::Answered => return Ok(()),
                Next::Refused(error) => return Err((jobs, error)),
                Next::Again(pause) if core.sleep(pause).await => {}
                Next::Again(_) => {
                    answer_all(jobs, &NodeError::Stopped.into());
                    return Ok(());
                }
            }
        }
    }

    /// What to do after an attempt failed.
    async fn after(&mut self, failure: Failure, jobs: &mut Vec<Job>, refusals: &mut u32) -> Next {
        match failure {
            Failure::Again => Next::Again(Duration::ZERO),
            Failure::Behind => {
                // Not under the lock of the head, which all servers wait for.
                self.roll_back().await;
                match self.core.replica.lock().await.reload(&self.core).await {
                    Ok(()) => Next::Again(Duration::ZERO),
                    Err(error) => {
                        answer_all(std::mem::take(jobs), &error);
                        Next::Answered
                    }
                }
            }
            Failure::Store(error) => {
                self.session = None;
                answer_all(std::mem::take(jobs), &error);
                Next::Answered
            }
            Failure::Unknown(doubt) => match self.resolve(*doubt, jobs).await {
                true => Next::Answered,
                false => Next::Again(Duration::ZERO),
            },
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
                answer_all(std::mem::take(jobs), &store_error(&error));
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

    async fn attempt(&mut self, jobs: &mut Vec<Job>) -> Result<(), Failure> {
        let core = self.core.clone();
        if self.session.is_none() {
            self.session = Some(core.db.session().await?);
        }
        let session = self.session.as_deref_mut().expect("just opened");
        session.begin().await?;
        let begun = Instant::now();
        let head = lock_head(session, core.db.dialect()).await?;
        let mut replica = core.replica.lock().await;
        replica.catch_up(&core, session, &head).await?;
        if head.newest_row > head.revision {
            adopt::adopt(&core, session, &mut replica, head).await?;
            return Err(Failure::Again);
        }
        let (commands, counts) = expand(&core, session, jobs).await?;
        let (prepared, rows) = prepare(&core, &head, &commands).await?;
        if prepared.is_empty() {
            drop(replica);
            session.rollback().await?;
            answer(std::mem::take(jobs), &counts, prepared.into_outcomes());
            return Ok(());
        }
        METRICS.batch.observe(commands.commands.len() as f64);
        let (index, writer) = (head.index + 1, transaction_name());
        let compacted_before = core.mvcc.compact_revision();
        let batch = Batch {
            prepared: &prepared,
            rows,
            index,
            commands: &commands,
            writer: &writer,
            compacted_before,
        };
        batch.write(session, core.db.dialect()).await?;
        if let Err(error) = log::commit(session, index, &writer).await {
            return Err(match error.kind() {
                // It was rolled back for certain.
                DbErrorKind::UniqueViolation
                | DbErrorKind::Retry
                | DbErrorKind::ReadOnly
                | DbErrorKind::DiskFull => error.into(),
                _ => Failure::Unknown(Box::new(InDoubt { error, prepared, index, writer })),
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
        answer(std::mem::take(jobs), &counts, outcomes);
        Ok(())
    }

    /// Finds out whether a commit happened; true where the jobs were answered.
    async fn resolve(&mut self, doubt: InDoubt, jobs: &mut Vec<Job>) -> bool {
        let core = self.core.clone();
        let InDoubt { error, prepared, index, writer } = doubt;
        tracing::warn!(%error, index, "the outcome of a commit is unknown; asking the log");
        core.contact.write_failed();
        let mut pause = core.contact.failed(&error);
        self.session = None;
        loop {
            if !core.sleep(pause).await {
                answer_all(std::mem::take(jobs), &NodeError::Stopped.into());
                return true;
            }
            // None is taken out: the answers belong to them in this order.
            if jobs.iter().all(|job| job.reply.is_closed()) {
                return true;
            }
            match self.was_committed(index, &writer).await {
                Ok(Verdict::Committed) => {
                    let counts = counts_of(jobs, &prepared);
                    answer(std::mem::take(jobs), &counts, prepared.into_outcomes());
                    return true;
                }
                Ok(Verdict::Not) => return false,
                Ok(Verdict::Forgotten) => {
                    answer_all(std::mem::take(jobs), &NodeError::TimeoutConnectionLost.into());
                    return true;
                }
                Err(Failure::Database(error)) => {
                    self.session = None;
                    pause = core.contact.failed(&error);
                }
                Err(Failure::Behind) => {
                    self.session = None;
                    pause = Duration::ZERO;
                    if self.core.replica.lock().await.reload(&core).await.is_err() {
                        pause = RELOAD_PAUSE;
                    }
                }
                Err(_) => {
                    self.session = None;
                    answer_all(std::mem::take(jobs), &NodeError::TimeoutConnectionLost.into());
                    return true;
                }
            }
        }
    }

    async fn was_committed(&mut self, index: u64, writer: &str) -> Result<Verdict, Failure> {
        let core = self.core.clone();
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
            let mut replica = core.replica.lock().await;
            replica.catch_up(&core, session.as_mut(), &head).await?;
        }
        session.rollback().await?;
        self.session = Some(session);
        Ok(verdict)
    }
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

enum Verdict {
    Committed,
    Not,
    Forgotten,
}

/// Evaluates commands on the replica.
async fn prepare(core: &Core, head: &Head, commands: &CommandBatch) -> Result<(Prepared, Rows), Failure> {
    let entry = Entry {
        term: TERM,
        index: head.index + 1,
        position: Default::default(),
        commands: commands.commands.clone(),
    };
    let (mvcc, db) = (core.mvcc.clone(), core.db.clone());
    let work = move || {
        let prepared = mvcc.prepare(&[entry])?;
        let rows = Rows::of(&prepared, db.dialect())?;
        Ok((prepared, rows))
    };
    Ok(blocking(work).await?)
}

/// The commands of jobs, and how many each has.
async fn expand(
    core: &Core,
    session: &mut dyn Session,
    jobs: &[Job],
) -> Result<(CommandBatch, Vec<usize>), Failure> {
    let mut commands = Vec::with_capacity(jobs.len());
    let mut counts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = commands.len();
        match &job.work {
            Work::Command(command) => commands.push(command.clone()),
            Work::Expire => commands.extend(leases::expired(core, session).await?),
            Work::Adopt => {}
        }
        counts.push(commands.len() - before);
    }
    Ok((CommandBatch { commands }, counts))
}

/// How many commands each job had, where each has one but at most one of them.
fn counts_of(jobs: &[Job], prepared: &Prepared) -> Vec<usize> {
    let total: usize = prepared.outcomes().iter().map(|outcome| outcome.replies.len()).sum();
    let single = jobs.iter().filter(|job| matches!(job.work, Work::Command(_))).count();
    let count = |job: &Job| match job.work {
        Work::Command(_) => 1,
        Work::Expire => total - single,
        Work::Adopt => 0,
    };
    jobs.iter().map(count).collect()
}

fn answer(jobs: Vec<Job>, counts: &[usize], outcomes: Vec<EntryOutcome>) {
    let mut replies = outcomes.into_iter().flat_map(|outcome| outcome.replies);
    for (job, count) in jobs.into_iter().zip(counts) {
        let mut last = Ok(WriteReply::Done(0));
        for reply in replies.by_ref().take(*count) {
            last = reply;
        }
        let _ = job.reply.send(last);
    }
}

fn answer_all(jobs: Vec<Job>, error: &Error) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}

/// A name that no other transaction has.
pub(crate) fn transaction_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}
