//! Watches: every event of a range from a revision on, once, in order.
//!
//! A [`Watcher`] is either *synced* (it has everything up to the current
//! revision, and the hub pushes new events into its bounded queue) or
//! *catching up* (it reads the history). A synced watcher whose queue is full
//! falls back to catching up, so a slow consumer costs bounded memory and
//! loses nothing; only compaction of history it has not read ends it.

mod batch;
mod catch_up;
mod cell;
mod history;
mod hub;
mod inbox;
mod index;
mod interval;
mod matcher;
mod metrics;
mod range;
mod recent;
mod ring;
#[cfg(test)]
mod tests;
mod watcher;

use bytes::Bytes;

use crate::error::Error;
use crate::pb::mvccpb::Event;

pub use history::{History, HistoryError, HistoryPage};
pub use hub::{Hub, HubConfig};
pub use watcher::Watcher;

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

/// An event as the applier publishes it.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedEvent {
    /// The event. `prev_kv` may be set if the applier happens to know it; the
    /// hub reads it from the history if somebody wants it and it is not.
    pub event: Event,
}

impl From<Event> for PublishedEvent {
    fn from(event: Event) -> Self {
        Self { event }
    }
}
