//! What waits for the writer, and who gets which answer.

use prost::Message;
use skiff_store::api::WriteReply;
use skiff_store::mvcc::EntryOutcome;
use skiff_store::pb::skiff::v1::Command;
use skiff_store::{Error, Result};
use tokio::sync::oneshot;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A client's command, or one of the store's own.
    Command(Command),
    /// End the leases whose time is over.
    Expire,
    /// Take over what another program wrote, up to a revision.
    Adopt(i64),
}

/// Work and who waits for it.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Result<WriteReply>>,
}

impl Job {
    /// About how large it is.
    pub(crate) fn bytes(&self) -> usize {
        match &self.work {
            Work::Command(command) => command.encoded_len(),
            Work::Expire | Work::Adopt(_) => 0,
        }
    }

    /// Whether somebody still waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

/// Jobs whose commands are together in one entry. Their answers are told by
/// their places, so that none of them may be left out once they are here.
pub(crate) struct Batched {
    jobs: Vec<Job>,
    /// How many commands each of them has.
    counts: Vec<usize>,
    /// Commands before theirs.
    before: usize,
}

impl Batched {
    /// Jobs with the number of commands of each, after `before` other commands.
    pub(crate) fn new(jobs: Vec<Job>, counts: Vec<usize>, before: usize) -> Self {
        Self { jobs, counts, before }
    }

    /// Whether anybody still waits for an answer.
    pub(crate) fn is_wanted(&self) -> bool {
        self.jobs.iter().any(Job::is_wanted)
    }

    /// The jobs, where nothing came of it.
    pub(crate) fn into_jobs(self) -> Vec<Job> {
        self.jobs
    }

    /// Gives the answers.
    pub(crate) fn answer(self, outcomes: Vec<EntryOutcome>) {
        let mut replies = outcomes.into_iter().flat_map(|outcome| outcome.replies).skip(self.before);
        for (job, count) in self.jobs.into_iter().zip(self.counts) {
            let mut last = Ok(WriteReply::Done(0));
            for reply in replies.by_ref().take(count) {
                last = reply;
            }
            let _ = job.reply.send(last);
        }
    }

    /// Gives all the same answer.
    pub(crate) fn refuse(self, error: &Error) {
        refuse_all(self.jobs, error);
    }
}

/// Answers those who wait for a revision, and no longer do.
pub(crate) fn answer_adopted(jobs: &mut Vec<Job>, revision: i64) {
    let (done, left): (Vec<_>, Vec<_>) = std::mem::take(jobs)
        .into_iter()
        .partition(|job| matches!(job.work, Work::Adopt(through) if through <= revision));
    *jobs = left;
    for job in done {
        let _ = job.reply.send(Ok(WriteReply::Done(revision)));
    }
}

/// Gives jobs the same answer.
pub(crate) fn refuse_all(jobs: Vec<Job>, error: &Error) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}
