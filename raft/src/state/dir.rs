//! Which directory holds the state, changed crash-safely.
//!
//! `state/CURRENT` names one of `state/db-<n>`. A received snapshot becomes
//! `db-<n+1>`; once it is complete and opens, `CURRENT` is replaced by an
//! atomic rename. A crash leaves the old or the new state, never half of one.
//! What `CURRENT` does not name is deleted at the next start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use skiff_store::engine::Engine;
use skiff_store::error::{Error, Result};

use crate::snapshot::SnapshotDir;

const CURRENT: &str = "CURRENT";
const FORMAT: &str = "skiff-state 1";

/// Opens, or creates, an engine in a directory.
pub type EngineFactory = Arc<dyn Fn(&Path) -> Result<Arc<dyn Engine>> + Send + Sync>;

/// The directory of directories.
pub struct StateDir {
    root: PathBuf,
    engines: EngineFactory,
    inner: Mutex<Inner>,
}

struct Inner {
    number: u64,
    /// Number for the next directory of any kind.
    next: u64,
    /// A received snapshot that is in place already but not the state yet.
    moved: Option<u64>,
    /// States replaced while readers still hold them.
    retired: Vec<(PathBuf, Weak<dyn Engine>)>,
}

impl StateDir {
    /// Opens the state under `root`, creating an empty one where there is none.
    ///
    /// # Errors
    /// [`Error::Corruption`] where `CURRENT` cannot be understood or names
    /// nothing; [`Error::Storage`] where a newer version wrote it.
    pub fn open(root: PathBuf, engines: EngineFactory) -> Result<(Self, Arc<dyn Engine>)> {
        let failed = |e: io::Error| Error::Storage(format!("{}: {e}", root.display()));
        fs::create_dir_all(&root).map_err(failed)?;
        let number = match fs::read(root.join(CURRENT)) {
            Ok(text) => parse_current(&root, &String::from_utf8_lossy(&text))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                remove_others(&root, None).map_err(failed)?;
                engines(&db(&root, 1))?.flush()?;
                write_current(&root, 1).map_err(failed)?;
                1
            }
            Err(e) => return Err(failed(e)),
        };
        let dir = named(&root, number)?;
        remove_others(&root, Some(number)).map_err(failed)?;
        let engine = engines(&dir)?;
        let inner = Mutex::new(Inner { number, next: number + 1, moved: None, retired: Vec::new() });
        Ok((Self { root, engines, inner }, engine))
    }

    /// The directory that holds the state under `root`; `None` where there is
    /// none yet. Changes nothing.
    ///
    /// # Errors
    /// As [`StateDir::open`].
    pub fn current(root: &Path) -> Result<Option<PathBuf>> {
        match fs::read(root.join(CURRENT)) {
            Ok(text) => named(root, parse_current(root, &String::from_utf8_lossy(&text))?).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Storage(format!("{}: {e}", root.join(CURRENT).display()))),
        }
    }

    /// Where the first state under `root` belongs; call [`StateDir::begin`]
    /// once it is there.
    pub fn first(root: &Path) -> PathBuf {
        db(root, 1)
    }

    /// Makes what lies at [`StateDir::first`] the state.
    ///
    /// # Errors
    /// [`Error::Storage`] where the disk fails.
    pub fn begin(root: &Path) -> Result<()> {
        write_current(root, 1).map_err(|e| Error::Storage(format!("{}: {e}", root.display())))
    }

    /// A path on the same disk that does not exist: for a checkpoint to send
    /// (`send`) or a snapshot to receive (`recv`).
    pub fn scratch(&self, kind: &str) -> SnapshotDir {
        SnapshotDir::new(self.scratch_path(kind))
    }

    /// As [`StateDir::scratch`], for a caller who deletes what it puts there.
    pub fn scratch_path(&self, kind: &str) -> PathBuf {
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        self.root.join(format!("{kind}-{number}"))
    }

    /// Makes a received snapshot the state: moves it into place, opens it,
    /// and points `CURRENT` at it. `previous` is the engine it replaces.
    ///
    /// # Errors
    /// Where it does not open; the old state then stays. After a fault of the
    /// disk the same snapshot may be adopted again: that goes on where it failed.
    pub fn adopt(&self, snapshot: &SnapshotDir, previous: Weak<dyn Engine>) -> Result<Arc<dyn Engine>> {
        let mut inner = self.inner.lock();
        let number = match inner.moved {
            Some(number) => number,
            None => inner.move_in(&self.root, snapshot)?,
        };
        let dir = db(&self.root, number);
        let engine = (self.engines)(&dir)?;
        engine.flush()?;
        write_current(&self.root, number).map_err(|e| Error::Storage(format!("{}: {e}", dir.display())))?;
        inner.moved = None;
        let old = db(&self.root, inner.number);
        inner.number = number;
        inner.retired.push((old, previous));
        Ok(engine)
    }

    /// Deletes replaced states nobody reads any more.
    pub fn sweep(&self) {
        let mut inner = self.inner.lock();
        inner.retired.retain(|(dir, engine)| {
            if engine.strong_count() > 0 {
                return true;
            }
            if let Err(e) = fs::remove_dir_all(dir) {
                tracing::warn!(dir = %dir.display(), error = %e, "cannot delete a replaced state");
            }
            false
        });
    }
}

impl Inner {
    /// Gives a received snapshot its place; answers its number.
    fn move_in(&mut self, root: &Path, snapshot: &SnapshotDir) -> Result<u64> {
        let number = self.next;
        self.next += 1;
        let dir = db(root, number);
        let failed = |e: io::Error| Error::Storage(format!("{}: {e}", dir.display()));
        sync_tree(snapshot.path()).map_err(failed)?;
        fs::rename(snapshot.path(), &dir).map_err(failed)?;
        snapshot.keep();
        self.moved = Some(number);
        Ok(number)
    }
}

fn db(root: &Path, number: u64) -> PathBuf {
    root.join(format!("db-{number}"))
}

/// The directory that `CURRENT` names, which has to be there.
fn named(root: &Path, number: u64) -> Result<PathBuf> {
    let dir = db(root, number);
    if !dir.is_dir() {
        let current = root.join(CURRENT);
        return Err(Error::Corruption(format!(
            "{}: {}, which it names, is missing",
            current.display(),
            dir.display()
        )));
    }
    Ok(dir)
}

fn parse_current(root: &Path, text: &str) -> Result<u64> {
    let place = root.join(CURRENT);
    let mut lines = text.lines();
    let format = lines.next().unwrap_or_default();
    if format != FORMAT && format.starts_with("skiff-state ") {
        return Err(Error::Storage(format!(
            "{}: format {format:?} is not known to this version, which reads {FORMAT:?}",
            place.display()
        )));
    }
    let corrupt = || Error::Corruption(format!("{}: not understood", place.display()));
    if format != FORMAT {
        return Err(corrupt());
    }
    lines.next().and_then(|line| line.strip_prefix("db-")?.parse().ok()).ok_or_else(corrupt)
}

fn write_current(root: &Path, number: u64) -> io::Result<()> {
    write_durably(&root.join(CURRENT), format!("{FORMAT}\ndb-{number}\n").as_bytes())
}

/// Replaces a file: all of the new bytes or all of the old ones, also after a crash.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // Half a file is of no use, and may take the last of the space.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn remove_others(root: &Path, keep: Option<u64>) -> io::Result<()> {
    let keep = keep.map(|n| db(root, n));
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() && Some(&path) != keep.as_ref() {
            tracing::info!(dir = %path.display(), "deleting a state that is not in use");
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_current_that_names_nothing_is_itself_named() {
        let root = tempfile::tempdir().expect("a folder");
        write_current(root.path(), 9).expect("a write");
        let error = StateDir::current(root.path()).expect_err("db-9 is not there").to_string();
        let current = root.path().join(CURRENT).display().to_string();
        assert!(error.contains(&current) && error.contains("db-9"), "{error}");
    }
}
