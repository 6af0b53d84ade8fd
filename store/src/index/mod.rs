//! The ordered map in memory under the key index and the memory engine.
//!
//! * [`Tree`]: a copy-on-write B+tree that knows how many keys lie before any
//!   key, so counting and paging visit nothing they do not return.
//! * [`Cursor`] and [`Range`]: walks over it.
//! * [`Builder`]: packs sorted input densely, for a restart.
//!
//! Not here: persistence, and any notion of revisions.

mod builder;
mod cursor;
mod node;
#[cfg(test)]
mod tests;
mod tree;

pub use builder::{Builder, OutOfOrder};
pub use cursor::{Cursor, Range};
pub use tree::Tree;
