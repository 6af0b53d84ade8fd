//! Keeps time for leases.
//!
//! Every member knows which leases there are (the store replicates them); only
//! the leader knows when they end. A new leader gives every lease its full
//! time again, or what the last checkpoint left of it, so that a lease never
//! ends early; it ends late by at most the time without a leader.
//!
//! A lease past its deadline ends by a replicated revoke that carries the
//! leader's term: were the leader deposed meanwhile, its successor's renewals
//! win and the revoke does nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skiff_store::mvcc::LeaseChange;
use skiff_store::pb::skiff::v1::StoredLease;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::metrics::METRICS;

/// Revokes a second, at most: as etcd, so that a burst of expiries does not
/// starve writes.
pub const REVOKES_PER_SECOND: usize = 1000;
/// How often the remaining time of a long lease is recorded.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Checkpoints proposed at once.
pub const CHECKPOINT_BATCH: usize = 1000;
/// When to propose again a revoke that has not come through.
const REVOKE_AGAIN: Duration = Duration::from_secs(3);

/// The outcome of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Renewed for the TTL, in seconds. With `clear`, a recorded remaining
    /// time must first be cleared by a checkpoint, or the next leader would
    /// take it for the truth.
    Renewed {
        /// Seconds granted.
        ttl: i64,
        /// A checkpoint is recorded.
        clear: bool,
    },
    /// There is no such lease, or it has expired.
    NotFound,
    /// This member does not keep time.
    NotPrimary,
}

/// The time keeper.
pub struct Lessor {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    leases: HashMap<i64, Lease>,
    /// The term this member keeps time in.
    term: Option<u64>,
    /// Deadlines, some outdated: a popped one counts only if the lease agrees.
    deadlines: BinaryHeap<Reverse<(Instant, i64)>>,
    /// Due checkpoints, outdated ones among them.
    checkpoints: BinaryHeap<Reverse<(Instant, i64)>>,
}

struct Lease {
    ttl: i64,
    /// Seconds left at the last checkpoint; 0 for the whole TTL.
    remaining: i64,
    /// Only while this member keeps time.
    deadline: Option<Instant>,
}

impl Lease {
    fn span(&self) -> Duration {
        let seconds = if self.remaining > 0 { self.remaining } else { self.ttl };
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }
}

impl Lessor {
    /// Knows `leases`, keeps no time yet.
    pub fn new(clock: Arc<dyn Clock>, leases: Vec<StoredLease>) -> Self {
        let lessor = Self { clock, inner: Mutex::default() };
        lessor.reset(leases);
        lessor
    }

    /// Forgets everything for `leases`, as after installing a snapshot.
    pub fn reset(&self, leases: Vec<StoredLease>) {
        let mut inner = self.inner.lock();
        inner.leases.clear();
        inner.deadlines.clear();
        inner.checkpoints.clear();
        let now = self.clock.now();
        for lease in leases {
            inner.set(&lease, now);
        }
    }

    /// Follows what was applied.
    pub fn apply(&self, changes: &[LeaseChange]) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        for change in changes {
            match change {
                LeaseChange::Granted(lease) => {
                    METRICS.lease_granted.inc();
                    METRICS.lease_ttl.observe(lease.ttl as f64);
                    inner.set(lease, now);
                }
                LeaseChange::Revoked(id) => {
                    METRICS.lease_revoked.inc();
                    inner.leases.remove(id);
                }
                LeaseChange::Checkpointed(lease) => inner.checkpointed(lease),
            }
        }
        inner.shrink();
    }

    /// Begins to keep time, as the leader of `term`. Every lease is extended
    /// by `extend`, for the time its holder may have found no leader.
    pub fn promote(&self, term: u64, extend: Duration) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if inner.term == Some(term) {
            return;
        }
        inner.term = Some(term);
        let Inner { leases, deadlines, checkpoints, .. } = &mut *inner;
        deadlines.clear();
        checkpoints.clear();
        for (id, lease) in leases {
            let deadline = saturating(now, lease.span() + extend);
            lease.deadline = Some(deadline);
            deadlines.push(Reverse((deadline, *id)));
            plan_checkpoint(checkpoints, *id, now, deadline);
        }
    }

    /// Stops keeping time.
    pub fn demote(&self) {
        let mut inner = self.inner.lock();
        inner.term = None;
        inner.deadlines.clear();
        inner.checkpoints.clear();
        for lease in inner.leases.values_mut() {
            lease.deadline = None;
        }
    }

    /// The term this member keeps time in.
    pub fn term(&self) -> Option<u64> {
        self.inner.lock().term
    }

    /// Gives a lease its full time again. The caller has confirmed that this
    /// member leads.
    pub fn renew(&self, id: i64) -> Renewal {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if inner.term.is_none() {
            return Renewal::NotPrimary;
        }
        let Inner { leases, deadlines, checkpoints, .. } = &mut *inner;
        let Some(lease) = leases.get_mut(&id) else { return Renewal::NotFound };
        if lease.deadline.is_none_or(|at| at <= now) {
            return Renewal::NotFound;
        }
        let clear = lease.remaining > 0;
        lease.remaining = 0;
        let deadline = saturating(now, lease.span());
        // A deadline that stays is queued already: pruning could not tell the two.
        if lease.deadline.replace(deadline) != Some(deadline) {
            deadlines.push(Reverse((deadline, id)));
            plan_checkpoint(checkpoints, id, now, deadline);
        }
        METRICS.lease_renewed.inc();
        let ttl = lease.ttl;
        inner.shrink();
        Renewal::Renewed { ttl, clear }
    }

    /// Seconds a lease has left, rounded down, and seconds granted. `None` for
    /// no such lease, or one that has expired.
    pub fn time_to_live(&self, id: i64) -> Option<(i64, i64)> {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let lease = inner.leases.get(&id)?;
        let left = lease.deadline?.checked_duration_since(now)?;
        Some((left.as_secs() as i64, lease.ttl))
    }

    /// Takes leases that have expired, at most `limit`, with the term to
    /// revoke them in. A lease that is still there comes again later.
    pub fn take_expired(&self, limit: usize) -> Option<(u64, Vec<i64>)> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let term = inner.term?;
        let Inner { leases, deadlines, .. } = &mut *inner;
        let mut expired = Vec::new();
        let mut again = Vec::new();
        while expired.len() < limit
            && let Some(Reverse((at, id))) = deadlines.peek().copied()
            && at <= now
        {
            deadlines.pop();
            let Some(lease) = leases.get(&id) else { continue };
            if lease.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            expired.push(id);
            again.push(Reverse((now + REVOKE_AGAIN, id)));
        }
        deadlines.extend(again);
        (!expired.is_empty()).then_some((term, expired))
    }

    /// Takes due checkpoints: lease ids and seconds they have left.
    pub fn take_checkpoints(&self, limit: usize) -> Vec<(i64, i64)> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if inner.term.is_none() {
            return Vec::new();
        }
        let Inner { leases, checkpoints, .. } = &mut *inner;
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(Reverse((at, id))) = checkpoints.peek().copied()
            && at <= now
        {
            checkpoints.pop();
            let Some(deadline) = leases.get(&id).and_then(|lease| lease.deadline) else { continue };
            let left = deadline.saturating_duration_since(now);
            if left > CHECKPOINT_INTERVAL {
                due.push((id, left.as_secs() as i64));
            }
            plan_checkpoint(checkpoints, id, now, deadline);
        }
        due
    }

    /// When there is something to do next; `None` while nothing is planned.
    pub fn next_deadline(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        let first = |heap: &BinaryHeap<Reverse<(Instant, i64)>>| heap.peek().map(|Reverse((at, _))| *at);
        match (first(&inner.deadlines), first(&inner.checkpoints)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Inner {
    fn set(&mut self, stored: &StoredLease, now: Instant) {
        let mut lease = Lease { ttl: stored.ttl, remaining: stored.remaining_ttl, deadline: None };
        if self.term.is_some() {
            let deadline = saturating(now, lease.span());
            lease.deadline = Some(deadline);
            self.deadlines.push(Reverse((deadline, stored.id)));
            plan_checkpoint(&mut self.checkpoints, stored.id, now, deadline);
        }
        self.leases.insert(stored.id, lease);
    }

    fn checkpointed(&mut self, stored: &StoredLease) {
        if let Some(lease) = self.leases.get_mut(&stored.id) {
            lease.remaining = stored.remaining_ttl;
        }
    }

    /// Drops outdated deadlines once they are the greater part, so that often
    /// renewed leases do not fill the memory.
    fn shrink(&mut self) {
        let bound = 2 * self.leases.len() + 1024;
        if self.deadlines.len() > bound {
            let leases = &self.leases;
            self.deadlines.retain(|Reverse((at, id))| {
                leases.get(id).is_some_and(|l| l.deadline.is_some_and(|d| d <= *at))
            });
        }
        if self.checkpoints.len() > bound {
            let old = std::mem::take(&mut self.checkpoints);
            let mut last: HashMap<i64, Instant> = HashMap::new();
            for Reverse((at, id)) in old {
                if self.leases.contains_key(&id) {
                    let entry = last.entry(id).or_insert(at);
                    *entry = (*entry).max(at);
                }
            }
            self.checkpoints = last.into_iter().map(|(id, at)| Reverse((at, id))).collect();
        }
    }
}

/// Plans the next checkpoint of a lease that has more than an interval left.
fn plan_checkpoint(
    checkpoints: &mut BinaryHeap<Reverse<(Instant, i64)>>,
    id: i64,
    now: Instant,
    deadline: Instant,
) {
    if deadline.saturating_duration_since(now) > CHECKPOINT_INTERVAL {
        checkpoints.push(Reverse((now + CHECKPOINT_INTERVAL, id)));
    }
}

/// `now + span`, for spans of centuries too: the longest TTL is 285 years.
fn saturating(now: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(10_000_000_000);
    now.checked_add(span.min(FAR)).unwrap_or(now + CHECKPOINT_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const EXTEND: Duration = Duration::from_secs(1);

    fn lease(id: i64, ttl: i64, remaining_ttl: i64) -> StoredLease {
        StoredLease { id, ttl, remaining_ttl }
    }

    fn lessor(leases: Vec<StoredLease>) -> Lessor {
        Lessor::new(Arc::new(SystemClock), leases)
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_leader_keeps_time() {
        let lessor = lessor(vec![lease(1, 5, 0)]);
        pass(100).await;
        assert_eq!(lessor.take_expired(10), None);
        assert_eq!(lessor.renew(1), Renewal::NotPrimary);
        assert_eq!(lessor.time_to_live(1), None);
        lessor.promote(3, EXTEND);
        assert_eq!(lessor.time_to_live(1), Some((6, 5)));
        pass(5).await;
        assert_eq!(lessor.take_expired(10), None);
        pass(1).await;
        assert_eq!(lessor.take_expired(10), Some((3, vec![1])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_lease_lives_and_an_expired_one_is_not_renewed() {
        let lessor = lessor(vec![]);
        lessor.promote(1, EXTEND);
        lessor.apply(&[LeaseChange::Granted(lease(1, 5, 0)), LeaseChange::Granted(lease(2, 5, 0))]);
        pass(4).await;
        assert_eq!(lessor.renew(1), Renewal::Renewed { ttl: 5, clear: false });
        pass(4).await;
        assert_eq!(lessor.take_expired(10), Some((1, vec![2])));
        assert_eq!(lessor.renew(2), Renewal::NotFound);
        assert_eq!(lessor.renew(1), Renewal::Renewed { ttl: 5, clear: false });
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoke_that_fails_comes_again_until_it_is_applied() {
        let lessor = lessor(vec![lease(1, 5, 0)]);
        lessor.promote(1, Duration::ZERO);
        pass(5).await;
        assert!(lessor.take_expired(10).is_some());
        assert_eq!(lessor.take_expired(10), None);
        pass(3).await;
        assert!(lessor.take_expired(10).is_some());
        lessor.apply(&[LeaseChange::Revoked(1)]);
        pass(3).await;
        assert_eq!(lessor.take_expired(10), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_counts_from_the_checkpoint() {
        let lessor = lessor(vec![lease(1, 1000, 400)]);
        lessor.promote(1, Duration::ZERO);
        assert_eq!(lessor.time_to_live(1), Some((400, 1000)));
        assert_eq!(lessor.renew(1), Renewal::Renewed { ttl: 1000, clear: true });
        assert_eq!(lessor.time_to_live(1), Some((1000, 1000)));
    }

    #[tokio::test(start_paused = true)]
    async fn long_leases_are_checkpointed() {
        let lessor = lessor(vec![lease(1, 1000, 0), lease(2, 200, 0)]);
        lessor.promote(1, Duration::ZERO);
        assert!(lessor.take_checkpoints(10).is_empty());
        pass(300).await;
        assert_eq!(lessor.take_checkpoints(10), vec![(1, 700)]);
        pass(300).await;
        assert_eq!(lessor.take_checkpoints(10), vec![(1, 400)]);
        pass(300).await;
        assert!(lessor.take_checkpoints(10).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_do_not_pile_up() {
        let lessor = lessor(vec![lease(1, 1000, 0)]);
        lessor.promote(1, Duration::ZERO);
        for _ in 0..10_000 {
            lessor.renew(1);
        }
        assert!(lessor.inner.lock().deadlines.len() < 2000);
        assert!(lessor.inner.lock().checkpoints.len() < 2000);
    }
}
