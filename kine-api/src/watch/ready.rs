//! A set of watches that polls only those that have woken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// Members by id. A poll costs as much as there are woken members, however
/// many sleep; each is polled once in turn, so none starves another.
pub(super) struct ReadySet<T> {
    slots: HashMap<i64, Slot<T>>,
    shared: Arc<Shared>,
}

struct Slot<T> {
    member: T,
    waker: Waker,
    handle: Arc<SlotWaker>,
}

/// Ids of members to poll, and who waits for them. An id stands in the queue
/// at most once per slot that ever bore it, so the queue is bounded.
#[derive(Default)]
struct Shared {
    woken: Mutex<VecDeque<i64>>,
    parent: AtomicWaker,
}

struct SlotWaker {
    id: i64,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl SlotWaker {
    fn enqueue(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.woken.lock().push_back(self.id);
        }
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.enqueue();
        self.shared.parent.wake();
    }
}

impl<T> ReadySet<T> {
    /// An empty set.
    pub(super) fn new() -> Self {
        Self { slots: HashMap::new(), shared: Arc::default() }
    }

    /// Adds a member, to be polled soon. The id must be free.
    pub(super) fn insert(&mut self, id: i64, member: T) {
        debug_assert!(!self.contains(id));
        let handle = Arc::new(SlotWaker { id, queued: AtomicBool::new(false), shared: self.shared.clone() });
        handle.enqueue();
        let waker = Waker::from(handle.clone());
        self.slots.insert(id, Slot { member, waker, handle });
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, id: i64) -> Option<T> {
        self.slots.remove(&id).map(|slot| slot.member)
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.slots.contains_key(&id)
    }

    pub(super) fn get(&self, id: i64) -> Option<&T> {
        self.slots.get(&id).map(|slot| &slot.member)
    }

    pub(super) fn get_mut(&mut self, id: i64) -> Option<&mut T> {
        self.slots.get_mut(&id).map(|slot| &mut slot.member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        self.slots.iter().map(|(id, slot)| (*id, &slot.member))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (i64, &mut T)> {
        self.slots.iter_mut().map(|(id, slot)| (*id, &mut slot.member))
    }

    /// Polls woken members until one has something; that one is polled again
    /// after the others. Pending while none has.
    pub(super) fn poll_next<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<(i64, R)> {
        self.shared.parent.register(cx.waker());
        loop {
            let Some(id) = self.shared.woken.lock().pop_front() else { return Poll::Pending };
            // A member that was removed may still stand in the queue.
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            // Cleared before the poll: a wake during it must count.
            slot.handle.queued.store(false, Ordering::Release);
            if let Poll::Ready(result) = poll(&mut slot.member, &mut Context::from_waker(&slot.waker)) {
                slot.handle.enqueue();
                return Poll::Ready((id, result));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Counts polls; has `left` items to give, then keeps the waker.
    #[derive(Default)]
    struct Source {
        left: usize,
        waker: Option<Waker>,
    }

    fn poll(source: &mut Source, cx: &mut Context<'_>, polls: &AtomicUsize) -> Poll<()> {
        polls.fetch_add(1, Ordering::Relaxed);
        if source.left == 0 {
            source.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        source.left -= 1;
        Poll::Ready(())
    }

    #[test]
    fn only_the_woken_are_polled() {
        let polls = AtomicUsize::new(0);
        let mut set = ReadySet::new();
        for id in 0..1000 {
            set.insert(id, Source::default());
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert!(set.poll_next(&mut cx, |s, cx| poll(s, cx, &polls)).is_pending());
        assert_eq!(polls.swap(0, Ordering::Relaxed), 1000);

        let waker = set.iter_mut().find(|(id, _)| *id == 17).and_then(|(_, s)| {
            s.left = 2;
            s.waker.take()
        });
        waker.iter().for_each(Waker::wake_by_ref);
        for _ in 0..2 {
            assert_eq!(set.poll_next(&mut cx, |s, cx| poll(s, cx, &polls)), Poll::Ready((17, ())));
        }
        assert!(set.poll_next(&mut cx, |s, cx| poll(s, cx, &polls)).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_busy_member_does_not_starve_another() {
        let polls = AtomicUsize::new(0);
        let mut set = ReadySet::new();
        set.insert(1, Source { left: 100, waker: None });
        set.insert(2, Source { left: 1, waker: None });
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        for _ in 0..3 {
            if let Poll::Ready((id, ())) = set.poll_next(&mut cx, |s, cx| poll(s, cx, &polls)) {
                seen.push(id);
            }
        }
        assert!(seen.contains(&2), "{seen:?}");
    }

    #[test]
    fn a_removed_member_is_not_polled() {
        let polls = AtomicUsize::new(0);
        let mut set = ReadySet::new();
        set.insert(1, Source { left: 1, waker: None });
        assert!(set.remove(1).is_some());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(set.poll_next(&mut cx, |s, cx| poll(s, cx, &polls)).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 0);
    }
}
