//! What was published and not matched yet.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use super::PublishedEvent;
use super::batch::event_bytes;

/// Hands events from the applier to the matcher in bounded memory. When it is
/// full it forgets what it holds and remembers only how far that went: the
/// matcher then reads it from the history.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    max_bytes: usize,
}

#[derive(Default)]
struct Queue {
    published: VecDeque<Published>,
    bytes: usize,
    /// Everything up to this revision is to be read from the history first.
    gap: Option<i64>,
    last: i64,
    closed: bool,
}

/// One call of publish.
pub(super) struct Published {
    /// Last revision.
    pub(super) revision: i64,
    /// The events.
    pub(super) events: Vec<PublishedEvent>,
    bytes: usize,
}

/// The next thing for the matcher to do.
pub(super) enum Work {
    /// Match these events.
    Match(Published),
    /// Read the history up to this revision, then call [`Inbox::recovered`].
    Recover(i64),
}

impl Inbox {
    pub(super) fn new(max_bytes: usize, revision: i64) -> Self {
        let queue = Queue { last: revision, ..Queue::default() };
        Self { queue: Mutex::new(queue), filled: Condvar::new(), max_bytes }
    }

    /// Adds events; never blocks for long.
    pub(super) fn push(&self, revision: i64, events: Vec<PublishedEvent>) {
        let bytes = events.iter().map(|published| event_bytes(&published.event)).sum();
        let mut queue = self.queue.lock();
        if queue.closed || revision <= queue.last {
            return;
        }
        queue.last = revision;
        if queue.bytes + bytes > self.max_bytes {
            queue.overflow(revision);
        } else {
            queue.bytes += bytes;
            queue.published.push_back(Published { revision, events, bytes });
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Forgets everything held; the matcher reads up to `revision` instead.
    pub(super) fn reset(&self, revision: i64) {
        let mut queue = self.queue.lock();
        let revision = revision.max(queue.last);
        queue.last = revision;
        queue.overflow(revision);
        drop(queue);
        self.filled.notify_one();
    }

    /// The next thing to do; `None` if there is nothing, or once closed. Waits
    /// for something with `wait`.
    pub(super) fn next(&self, wait: bool) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(revision) = queue.gap {
                return Some(Work::Recover(revision));
            }
            if let Some(published) = queue.published.pop_front() {
                queue.bytes -= published.bytes;
                return Some(Work::Match(published));
            }
            if !wait {
                return None;
            }
            self.filled.wait(&mut queue);
        }
    }

    /// The history has been read up to `revision`.
    pub(super) fn recovered(&self, revision: i64) {
        let mut queue = self.queue.lock();
        if queue.gap.is_some_and(|gap| gap <= revision) {
            queue.gap = None;
        }
    }

    /// Drops everything and takes no more.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue { closed: true, ..Queue::default() };
        drop(queue);
        self.filled.notify_all();
    }

    /// True once closed.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }
}

impl Queue {
    fn overflow(&mut self, revision: i64) {
        self.published = VecDeque::new();
        self.bytes = 0;
        self.gap = Some(revision);
    }
}
