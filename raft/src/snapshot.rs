//! A copy of the state in a directory: what a lagging peer receives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// A directory of plain files (no subdirectories) that holds a checkpoint of
/// the state. Clones share it; the last one dropped deletes it, unless it was
/// [kept](SnapshotDir::keep).
#[derive(Debug, Clone)]
pub struct SnapshotDir(Arc<Guard>);

/// Tells whether a [`SnapshotDir`] is still in use.
#[derive(Debug, Clone, Default)]
pub struct WeakSnapshotDir(Weak<Guard>);

impl WeakSnapshotDir {
    /// The directory, if it is still in use.
    pub fn upgrade(&self) -> Option<SnapshotDir> {
        self.0.upgrade().map(SnapshotDir)
    }
}

#[derive(Debug)]
struct Guard {
    path: PathBuf,
    kept: std::sync::atomic::AtomicBool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.kept.load(std::sync::atomic::Ordering::Acquire) {
            return;
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), error = %e, "cannot delete a snapshot");
            }
            _ => {}
        }
    }
}

impl SnapshotDir {
    /// Takes over a directory, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Guard { path, kept: false.into() }))
    }

    /// A reference that does not keep the directory.
    pub fn downgrade(&self) -> WeakSnapshotDir {
        WeakSnapshotDir(Arc::downgrade(&self.0))
    }

    /// Where the files are.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Leaves the directory in place: it became the state, or moved.
    pub fn keep(&self) {
        self.0.kept.store(true, std::sync::atomic::Ordering::Release);
    }
}
