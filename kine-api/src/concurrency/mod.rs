//! The Lock and Election services: queues made of keys.
//!
//! A claim is a key below the name's prefix that holds the claimant's lease in
//! hexadecimal and is attached to it. The claim with the lowest create revision
//! holds the lock, or leads; every other one waits for the youngest of those
//! before it to be deleted, so that a release wakes one waiter and not all. When
//! a lease ends its claims end, so a holder that died is followed by the next.
//! All state is in the store: which member a call reaches does not matter.
//!
//! Both services stand on the KV, Lease and Watch services of this process, and
//! hand the caller's metadata on ([`caller`]): limits and permissions are
//! checked where they are for every call. Errors are told as etcd tells them,
//! whose services reach its KV through its own client ([`caller`] again).
//!
//! * [`prefix`]: the keys of a lock or an election, and what is asked of them.
//! * [`claim`]: a place in the queue: enter, wait, leave.
//! * [`detached`]: a call that is cancelled still leaves its queue.
//! * [`lock`], [`election`]: the services; [`observe`]: the stream of leaders.

mod caller;
mod claim;
mod detached;
mod election;
mod lock;
mod observe;
mod prefix;

pub(crate) use election::ElectionService;
pub(crate) use lock::LockService;
