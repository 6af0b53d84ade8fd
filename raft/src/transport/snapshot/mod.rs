//! Snapshots on the wire: the files of a checkpoint's directory.
//!
//! The header lists the files with their lengths; then come the files in that
//! order as chunks, each with its checksum, each file closed by the checksum of
//! the whole file, the last by the checksum of everything. The receiver writes
//! to a directory of its own, which is removed unless everything was there and
//! matched.

mod read;
mod receive;
mod send;
mod write;

pub(crate) use receive::receive;
pub(crate) use send::send;
pub(crate) use write::ReceiveError;
