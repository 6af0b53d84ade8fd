//! Whether the database answers, and what is to be said while it does not.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skiff_store::{Error, NodeError, Result};
use tokio::sync::watch;

use crate::db::DbError;
use crate::metrics::METRICS;

/// After this time without an answer the store says that it has no leader.
const PATIENCE: Duration = Duration::from_secs(3);
/// An outage shorter than this postpones no lease's end.
const HICCUP: Duration = Duration::from_secs(1);
/// Leases live on for as long as an outage lasted, at most this long.
const MAX_GRACE: Duration = Duration::from_secs(600);
/// Pauses between attempts to reach the database.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// The state of the contact with the database.
pub(crate) struct Contact {
    member: u64,
    leader: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failing_since: Option<Instant>,
    failures: u32,
    /// Since when nothing could be written; reads may go on.
    writes_failing_since: Option<Instant>,
    grace_until: Option<Instant>,
    last_error: Option<String>,
    fatal: Option<Error>,
}

impl Contact {
    pub(crate) fn new(member: u64) -> Self {
        METRICS.reachable.set(1);
        Self { member, leader: watch::Sender::new(member), state: Mutex::default() }
    }

    /// The member itself while the database answers, else 0.
    pub(crate) fn leader(&self) -> &watch::Sender<u64> {
        &self.leader
    }

    /// Notes that the database answered.
    pub(crate) fn answered(&self) {
        let mut state = self.state.lock();
        let Some(since) = state.failing_since.take() else { return };
        let outage = since.elapsed();
        state.failures = 0;
        state.last_error = None;
        if outage >= HICCUP {
            // Nobody could renew meanwhile.
            state.grace_until = Some(Instant::now() + outage.min(MAX_GRACE));
        }
        drop(state);
        tracing::info!(outage_seconds = outage.as_secs_f64(), "the datastore answers again");
        METRICS.reachable.set(1);
        self.lead(self.member);
    }

    /// Notes that something was written.
    pub(crate) fn written(&self) {
        self.answered();
        let mut state = self.state.lock();
        if let Some(since) = state.writes_failing_since.take()
            && since.elapsed() >= HICCUP
        {
            state.grace_until = Some(Instant::now() + since.elapsed().min(MAX_GRACE));
        }
    }

    /// Notes that nothing can be written: leases cannot be renewed either.
    pub(crate) fn write_failed(&self) {
        self.state.lock().writes_failing_since.get_or_insert_with(Instant::now);
    }

    /// True where the database answers again and nobody has tried to write yet.
    pub(crate) fn writes_unproven(&self) -> bool {
        let state = self.state.lock();
        state.failing_since.is_none() && state.writes_failing_since.is_some()
    }

    /// Notes a failure; answers how long to wait before the next attempt.
    pub(crate) fn failed(&self, error: &DbError) -> Duration {
        let mut state = self.state.lock();
        let first = state.failing_since.is_none();
        let since = *state.failing_since.get_or_insert_with(Instant::now);
        state.failures = state.failures.saturating_add(1);
        let pause = PAUSES.0 * 2u32.saturating_pow(state.failures.min(10) - 1);
        let text = error.to_string();
        let news = first || state.last_error.as_ref() != Some(&text);
        state.last_error = Some(text);
        drop(state);
        if news {
            tracing::warn!(%error, "the datastore fails; trying again");
        }
        METRICS.reachable.set(0);
        if since.elapsed() >= PATIENCE {
            self.lead(0);
        }
        pause.min(PAUSES.1)
    }

    fn lead(&self, leader: u64) {
        self.leader.send_if_modified(|now| std::mem::replace(now, leader) != leader);
    }

    /// True while leases live on because the database was away.
    pub(crate) fn in_grace(&self) -> bool {
        let state = self.state.lock();
        state.failing_since.is_some()
            || state.writes_failing_since.is_some()
            || state.grace_until.is_some_and(|until| Instant::now() < until)
    }

    /// Stops serving: going on would contradict what clients have seen.
    pub(crate) fn fail(&self, error: Error) {
        let before = self.state.lock().fatal.replace(error.clone());
        if before.is_none() {
            tracing::error!(%error, "the store does not serve any more");
        }
        METRICS.reachable.set(0);
        self.lead(0);
    }

    /// # Errors
    /// Why the store does not serve any more.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.state.lock().fatal {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// What is wrong, for the status.
    pub(crate) fn faults(&self) -> Vec<String> {
        let state = self.state.lock();
        let fatal = state.fatal.as_ref().map(ToString::to_string);
        let failing = state.last_error.as_ref().map(|error| format!("the datastore fails: {error}"));
        fatal.into_iter().chain(failing).collect()
    }

    /// What a request is told that ran out of time.
    pub(crate) fn timeout_error(&self) -> Error {
        if self.state.lock().failing_since.is_some() {
            NodeError::TimeoutConnectionLost.into()
        } else {
            NodeError::Timeout.into()
        }
    }
}
