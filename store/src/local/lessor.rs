//! The times of leases: a table of deadlines, without a clock.
//!
//! The state machine knows which leases exist; the applier feeds this table
//! the changes that it reports, and revokes what has expired.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::mvcc::LeaseChange;
use crate::pb::skiff::v1::StoredLease;

/// Deadlines of leases. Times are readings of one clock.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    leases: HashMap<i64, Timed>,
    /// Deadlines of the leases that have not expired, in order.
    deadlines: BTreeSet<(Duration, i64)>,
}

#[derive(Debug, Clone, Copy)]
struct Timed {
    ttl: i64,
    deadline: Duration,
    expired: bool,
}

impl Lessor {
    /// Begins to keep time, as after a start: every lease gets its
    /// remaining time as last recorded, or else all of it.
    pub(super) fn new(leases: &[StoredLease], now: Duration) -> Self {
        let mut lessor = Self::default();
        for lease in leases {
            lessor.start(lease, now);
        }
        lessor
    }

    /// Follows a change that was applied.
    pub(super) fn apply(&mut self, change: &LeaseChange, now: Duration) {
        match change {
            LeaseChange::Granted(lease) => self.start(lease, now),
            LeaseChange::Revoked(id) => self.remove(*id),
            // The one who keeps time is the one who recorded it.
            LeaseChange::Checkpointed(_) => {}
        }
    }

    /// Renews a lease; its TTL in seconds, or `None` if it is not there or has
    /// expired.
    pub(super) fn renew(&mut self, id: i64, now: Duration) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        if lease.expired || lease.deadline <= now {
            return None;
        }
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = now + seconds(lease.ttl);
        self.deadlines.insert((lease.deadline, id));
        Some(lease.ttl)
    }

    /// Time a lease has left; zero once it has expired; `None` if it is not
    /// there.
    pub(super) fn remaining(&self, id: i64, now: Duration) -> Option<Duration> {
        self.leases.get(&id).map(|lease| lease.deadline.saturating_sub(now))
    }

    /// The leases that have expired since the last call, earliest first, at
    /// most `max`. They can no longer be renewed; the caller revokes them, or
    /// [retries](Lessor::retry).
    pub(super) fn take_expired(&mut self, now: Duration, max: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now || expired.len() >= max {
                break;
            }
            self.deadlines.pop_first();
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.expired = true;
                expired.push(id);
            }
        }
        expired
    }

    /// Reports an expired lease again, as its revoke failed.
    pub(super) fn retry(&mut self, id: i64) {
        if let Some(lease) = self.leases.get(&id).filter(|lease| lease.expired) {
            self.deadlines.insert((lease.deadline, id));
        }
    }

    fn start(&mut self, lease: &StoredLease, now: Duration) {
        self.remove(lease.id);
        let left = if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl };
        let deadline = now + seconds(left);
        self.leases.insert(lease.id, Timed { ttl: lease.ttl, deadline, expired: false });
        self.deadlines.insert((deadline, lease.id));
    }

    fn remove(&mut self, id: i64) {
        if let Some(lease) = self.leases.remove(&id) {
            self.deadlines.remove(&(lease.deadline, id));
        }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn lease(id: i64, ttl: i64, remaining_ttl: i64) -> StoredLease {
        StoredLease { id, ttl, remaining_ttl }
    }

    #[test]
    fn leases_expire_in_order_and_once() {
        let mut lessor = Lessor::new(&[lease(1, 10, 0), lease(2, 10, 4)], S(100));
        lessor.apply(&LeaseChange::Granted(lease(3, 5, 0)), S(100));
        assert_eq!(lessor.take_expired(S(103), 10), []);
        assert_eq!(lessor.take_expired(S(110), 2), [2, 3]);
        assert_eq!(lessor.take_expired(S(110), 2), [1]);
        assert_eq!(lessor.take_expired(S(999), 2), []);
        lessor.retry(3);
        assert_eq!(lessor.take_expired(S(999), 2), [3]);
        lessor.apply(&LeaseChange::Revoked(3), S(999));
        assert_eq!(lessor.remaining(3, S(999)), None);
    }

    #[test]
    fn an_expired_lease_cannot_be_renewed() {
        let mut lessor = Lessor::new(&[lease(1, 10, 0)], S(0));
        assert_eq!(lessor.renew(1, S(9)), Some(10));
        assert_eq!(lessor.remaining(1, S(9)), Some(S(10)));
        assert_eq!(lessor.take_expired(S(18), 9), []);
        assert_eq!(lessor.renew(1, S(19)), None);
        assert_eq!(lessor.take_expired(S(19), 9), [1]);
        assert_eq!(lessor.renew(1, S(19)), None);
        assert_eq!(lessor.renew(2, S(19)), None);
    }
}
