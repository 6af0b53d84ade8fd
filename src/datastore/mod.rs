//! `skiff datastore`: moves a store from one place to another.
//!
//! * `place`: where stores can be: databases, running etcds, files.
//! * `source`: reading one into a replica, and keeping the replica up to date
//!   (`following`: a running etcd).
//! * `target`: writing one (`etcd_target`, by doing the history over again:
//!   `replay`).
//! * `migrate`: from the first byte to the comparison of hashes.
//!
//! A source is only read. A target is empty, or holds the beginning of the same
//! migration; no server opens it as a store before it is whole.

mod command;
mod etcd;
mod etcd_target;
mod following;
mod migrate;
mod place;
mod progress;
mod replay;
mod source;
mod target;

pub(crate) use command::main;

/// Runs work that blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the work broke off: {error}"))?
}
