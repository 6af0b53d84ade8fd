//! bbolt's file format, in which etcd keeps its state and writes snapshots.
//!
//! A file is a row of pages of equal size. Pages 0 and 1 are meta pages, each
//! with a checksum (FNV-1a); the valid one with the higher transaction counts.
//! It names the root of a B+tree of buckets. A bucket is a B+tree of its own,
//! or, when it is small, one leaf inside of its entry in the tree above. Branch
//! pages hold the first key of each child, leaf pages keys with their values;
//! a page that is larger than one goes on in the pages behind it.
//!
//! * [`Database`] reads a file, one page of each level at a time. Nothing in
//!   the file is believed: keys must rise strictly, which is also why no page
//!   can be met twice, and a tree has a greatest depth.
//! * [`Writer`] writes a file out of buckets and pairs that come sorted.
//!
//! Numbers are little endian, as on every machine etcd is supported on.
//!
//! Not here: changing a file, and the list of free pages, which only matters
//! to who does; a written file has an empty one.

mod meta;
mod page;
mod reader;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

pub use meta::is_bbolt;
pub use reader::{Bucket, Cursor, Database, Item, Value};
pub use writer::{BucketWriter, Writer};

use crate::error::Error;

/// Says that the file contradicts itself.
fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Corruption(format!("bbolt file: {what}"))
}

/// Says that the disk failed.
fn io_failed(error: std::io::Error) -> Error {
    Error::Storage(format!("bbolt file: {error}"))
}
