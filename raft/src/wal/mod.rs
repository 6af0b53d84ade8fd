//! The write-ahead log: Raft's vote and entries, durable.
//!
//! The log knows nothing of openraft: an entry is an id and opaque bytes, a
//! vote is opaque bytes. `crate::log_store` adapts it.
//!
//! # Writing
//!
//! Callers change the view and queue a record under one lock; that is all a
//! write costs them. One thread takes whatever is queued, encodes it as one
//! batch, writes it with one call and syncs it with one fdatasync (group
//! commit), then calls the callbacks in the order of the writes. What comes
//! while a sync runs waits for the next one: at most one batch is ever not
//! durable, and everything below depends on that.
//!
//! Segments are files of a fixed size, written with zeros once and used again
//! under a new name when everything in them is purged. A batch therefore
//! overwrites blocks that exist, and fdatasync has no metadata to write.
//!
//! A file gets its segment name only when its header and first batch are
//! durable, and each segment begins with the vote, the committed id and the
//! purged id, so that any gapless run of segments at the end of the log stands
//! on its own and the ones before it can go.
//!
//! # On disk
//!
//! ```text
//! segment  header (4096 bytes) | batch | batch | ...          <sequence>.wal
//! header   magic "SKIFFWAL", format version, crc | sequence, salt,
//!          next index, start position, file bytes, crc
//! batch    magic, crc, position, synced, body bytes, records, kind | record...
//!          padded to whole sectors of 512 bytes
//! record   crc, length, kind | body
//! ```
//!
//! A position counts the bytes of the log from its beginning on, over all
//! segments. Every checksum (crc32c) includes the segment's salt, a random
//! number of this use of the file, and the position it was written for: bytes
//! of an earlier use of a recycled file, or at another place, do not pass.
//!
//! # Recovery: torn or damaged?
//!
//! A crash may leave the last batch torn: it was never reported as durable, and
//! is cut off. Anything else that does not read back is damage and refused with
//! [`Error::Corruption`], never skipped. To tell the two apart:
//!
//! - A batch is written only after the one before it was synced. So a bad batch
//!   with a valid one anywhere behind it was durable once: damage. Each batch
//!   says up to where the log was synced when it was written, and recovery
//!   looks at every later sector of the segment for one that says so.
//! - A segment begins only after the one before it was synced up to there, and
//!   says at which position. So every batch before that position must be
//!   there, and every index follows the last; what lies behind it (a batch
//!   whose sync failed and that went to the new segment instead) is nothing.
//! - When the queue runs empty, and at a close, a mark of one sector is written
//!   behind the last batch; it says that the batch before it is durable, so a
//!   bad last batch with a mark behind it is damage, too. The mark costs a
//!   write into the page cache but no sync: the next batch overwrites it. A
//!   sealing mark likewise says that a further segment exists.
//! - A segment's file has its full length before it has its name. A shorter one
//!   was cut off by something else; that is accepted only where it took nothing
//!   but unused space, which is when the end of the log can still be seen.
//!
//! What remains: damage to the very last batch after a power loss that also
//! lost the mark looks like a torn batch, and a vanished last segment whose
//! predecessor's sealing mark was lost looks like the end of the log. No log
//! that reports after one sync can tell these.
//!
//! Before the end of the log is written on, recovery makes it safe. The last
//! batch is written once more and synced: it may sit in the page cache only,
//! left by a process whose sync failed. And what a crash left behind the end is
//! overwritten with zeros, as far as one batch can reach: a later batch that is
//! torn in its turn could otherwise be completed by sectors of the earlier one.
//!
//! # When the disk fails
//!
//! After a failed write or sync nothing can be said about the bytes, not even by
//! syncing again (the kernel may have dropped them and marked the pages clean).
//! The batch is written again at the start of a fresh segment, and again, with
//! growing pauses, until it is durable. Nothing is reported before, and the
//! process never ends for it. Room for the next segment is taken ahead of time;
//! when that fails, [`Wal::health`] says [`Health::DiskFull`] while up to a
//! segment of writes still goes through, which is time to raise the alarm.
//!
//! # Upgrades
//!
//! The header's first 16 bytes, the magic and the version with a checksum of
//! their own, stay as they are in every version. A binary that meets a newer
//! version refuses with [`Error::NewerFormat`], by name; an older one will be
//! read, and new segments written in the newest.
//!
//! # Not here
//!
//! Compression (payloads are small and the log is short-lived), encryption, and
//! several logs in one (there is one Raft group).

mod error;
mod format;
mod handle;
mod health;
mod image;
mod metrics;
mod options;
mod reader;
mod recovery;
mod segment;
mod shared;
mod spares;
mod view;
mod writer;
mod written;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use format::{LogEntry, LogId};
pub use handle::Wal;
pub use health::Health;
pub(crate) use health::health_of;
pub use image::LogImage;
pub use options::WalOptions;
pub use reader::ReadPlan;
pub use shared::Done;
