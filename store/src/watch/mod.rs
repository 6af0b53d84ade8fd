//! Watches: every event of a range from a revision on, once, in order.
//!
//! A [`Watcher`] is either *synced* (it has everything up to the current
//! revision, and the hub pushes new events into its bounded queue) or
//! *catching up* (it reads the history). A synced watcher whose queue is full
//! falls back to catching up, so a slow consumer costs bounded memory and
//! loses nothing; only compaction of history it has not read ends it.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::error::Error;
use crate::pb::mvccpb::Event;

/// What to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchSpec {
    /// First key.
    pub key: Bytes,
    /// End of the range, as in a Range request.
    pub range_end: Bytes,
    /// First revision to report; 0 or less for the next one.
    pub start_revision: i64,
    /// Fill in the pair as it was before each event.
    pub prev_kv: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
}

/// What a watcher reports.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// Events of whole revisions, in order.
    Events {
        /// Every event of the range up to this revision has now been reported.
        revision: i64,
        /// The events.
        events: Vec<Event>,
    },
    /// The start revision, or history not read yet, has been compacted. Last.
    Compacted {
        /// The revision compacted at.
        compact_revision: i64,
    },
    /// The store failed or is closing. Last.
    Closed(Error),
}

/// A running watch. Dropping it ends it.
pub struct Watcher {
    _todo: (),
}

impl Watcher {
    /// The next item; `None` after the last.
    pub async fn next(&mut self) -> Option<WatchItem> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next item; `None` after the last.
    pub fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        todo!()
    }

    /// The revision up to which every event has been taken out of this
    /// watcher, if it is synced and nothing waits; `None` while events are
    /// still to come. A progress notification must not name a higher one.
    pub fn progress(&self) -> Option<i64> {
        todo!()
    }
}
