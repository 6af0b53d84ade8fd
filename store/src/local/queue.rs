//! Requests that wait for the applier.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::api::WriteReply;
use crate::error::{Error, NodeError, Result};
use crate::pb::skiff::v1::Command;

/// A request to apply.
pub(super) struct Job {
    pub(super) command: Command,
    /// Answer only once everything up to this revision is compacted.
    pub(super) physical: Option<i64>,
    pub(super) reply: oneshot::Sender<Result<WriteReply>>,
}

/// A bounded queue of jobs.
pub(super) struct Queue {
    jobs: Mutex<(VecDeque<Job>, bool)>,
    filled: Condvar,
    max: usize,
}

impl Queue {
    pub(super) fn new(max: usize) -> Self {
        Self { jobs: Mutex::default(), filled: Condvar::new(), max }
    }

    /// Adds a job.
    ///
    /// # Errors
    /// The queue is full, or closed.
    pub(super) fn push(&self, job: Job) -> Result<()> {
        let mut jobs = self.jobs.lock();
        if jobs.1 {
            return Err(Error::Node(NodeError::Stopped));
        }
        if jobs.0.len() >= self.max {
            return Err(Error::Node(NodeError::TooManyRequests));
        }
        jobs.0.push_back(job);
        drop(jobs);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes up to `max` jobs, after waiting up to `wait` for the first;
    /// `None` once closed.
    pub(super) fn take(&self, max: usize, wait: Duration) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock();
        if jobs.0.is_empty() && !jobs.1 {
            self.filled.wait_for(&mut jobs, wait);
        }
        if jobs.1 {
            return None;
        }
        let count = jobs.0.len().min(max);
        Some(jobs.0.drain(..count).collect())
    }

    /// Drops all jobs, unanswered, and takes no more.
    pub(super) fn close(&self) {
        let mut jobs = self.jobs.lock();
        let unanswered = std::mem::replace(&mut *jobs, (VecDeque::new(), true));
        drop(jobs);
        drop(unanswered);
        self.filled.notify_all();
    }
}
