//! Opening a member's files or a snapshot, to look at.

use std::fs::{self, DirBuilder, File};
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_raft::offline::{MemberFiles, MemberState};
use skiff_store::Error;
use skiff_store::archive::{Checksum, Scratch, unpack_with};
use skiff_store::engine::Engine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions, mirror};
use skiff_store::etcd_snapshot::{EtcdSnapshot, is_etcd_snapshot};

use super::arguments::Arguments;
use crate::process::{DirLock, lock_for_reading};

/// Bytes of a snapshot read at a time.
const READ_BYTES: usize = 256 << 10;
/// Folders for temporary files tried, at most.
const ATTEMPTS: u32 = 100;

/// What to look at.
pub(crate) enum Place {
    /// The data directory of a member.
    DataDir(PathBuf),
    /// A file made by `etcdctl snapshot save`, of skiff or of etcd.
    Snapshot(PathBuf),
}

impl Place {
    /// What is at a path.
    pub(crate) fn at(path: &str) -> Self {
        let path = PathBuf::from(path);
        if path.is_dir() { Place::DataDir(path) } else { Place::Snapshot(path) }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Place::DataDir(path) | Place::Snapshot(path) => path,
        }
    }
}

/// Something opened. What is below is dropped in this order: the engine before
/// the files it stands on.
pub(crate) struct Source {
    /// A stand-in for the database, which may be written to.
    pub(crate) engine: Arc<RocksEngine>,
    /// The files of a member; none of a snapshot.
    pub(crate) files: Option<MemberFiles>,
    /// Bytes of the database or snapshot.
    pub(crate) size: u64,
    names: Names,
    _scratch: Scratch,
    _lock: Option<DirLock>,
}

/// What stands in for what.
struct Names {
    stand_in: PathBuf,
    original: PathBuf,
}

impl Names {
    /// An error in the words of who does not know of stand-ins.
    fn explain(&self, error: Error) -> String {
        error.to_string().replace(&self.stand_in.display().to_string(), &self.original.display().to_string())
    }
}

impl Source {
    /// Opens what the arguments name.
    pub(crate) fn of(arguments: &Arguments) -> Result<Self, super::Problem> {
        Ok(Self::open(&arguments.place()?, arguments)?)
    }

    /// Opens a place: locks it, and makes the stand-in.
    pub(crate) fn open(place: &Place, arguments: &Arguments) -> Result<Self, String> {
        match place {
            Place::DataDir(dir) => {
                let lock = lock(dir)?;
                let files = MemberFiles::open(dir).map_err(|error| error.to_string())?;
                let size = bytes_in(&files.state)?;
                let scratch = scratch(arguments)?;
                let names = Names { stand_in: scratch.path().join("state"), original: files.state.clone() };
                mirror(&files.state, &names.stand_in).map_err(|error| names.explain(error))?;
                let engine = open_engine(&names)?;
                Ok(Self { engine, files: Some(files), size, names, _scratch: scratch, _lock: lock })
            }
            Place::Snapshot(path) => {
                let file = open_snapshot(path)?;
                let size = file.metadata().map_err(|e| format!("{}: {e}", path.display()))?.len();
                let scratch = scratch(arguments)?;
                let names = Names { stand_in: scratch.path().join("state"), original: path.clone() };
                unpack_snapshot(file, checksum(arguments), &names.stand_in)
                    .map_err(|error| format!("{}: {}", path.display(), names.explain(error)))?;
                let engine = open_engine(&names)?;
                Ok(Self { engine, files: None, size, names, _scratch: scratch, _lock: None })
            }
        }
    }

    /// The state, up to where a member's next start brings it.
    pub(crate) fn state(&self) -> Result<MemberState, String> {
        let engine = self.engine.clone();
        let state = match &self.files {
            Some(files) => MemberState::of_member(files, engine),
            None => MemberState::of_snapshot(engine),
        };
        state.map_err(|error| self.explain(error))
    }

    /// An error in the words of who looks at the original.
    pub(crate) fn explain(&self, error: Error) -> String {
        self.names.explain(error)
    }
}

/// Opens a snapshot's file.
pub(crate) fn open_snapshot(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|e| format!("cannot open the snapshot {}: {e}", path.display()))
}

/// Whether the checksum of a snapshot counts.
pub(crate) fn checksum(arguments: &Arguments) -> Checksum {
    if arguments.bool("skip-hash-check") { Checksum::Ignore } else { Checksum::Compare }
}

/// Makes the database that a snapshot holds, ours or etcd's, in `dir`, which
/// must not exist.
pub(crate) fn unpack_snapshot(file: File, checksum: Checksum, dir: &Path) -> Result<(), Error> {
    if !is_etcd_snapshot(&file)? {
        return unpack_with(BufReader::with_capacity(READ_BYTES, file), dir, checksum).map(drop);
    }
    let snapshot = EtcdSnapshot::open(file, checksum)?;
    fs::create_dir(dir).map_err(|e| Error::Storage(format!("{}: {e}", dir.display())))?;
    let options = RocksOptions { compact: false, ..RocksOptions::default() };
    let engine = Arc::new(RocksEngine::open(dir, &options)?);
    snapshot.fill(engine.clone())?;
    engine.flush()
}

/// Locks a data directory, to look at it.
pub(crate) fn lock(dir: &Path) -> Result<Option<DirLock>, String> {
    lock_for_reading(dir).map_err(|problem| {
        format!(
            "{problem}; stop it first, or ask it: etcdctl endpoint status, endpoint hashkv, snapshot save"
        )
    })
}

fn open_engine(names: &Names) -> Result<Arc<RocksEngine>, String> {
    let options = RocksOptions { compact: false, ..RocksOptions::default() };
    RocksEngine::open(&names.stand_in, &options).map(Arc::new).map_err(|error| names.explain(error))
}

/// A folder for temporary files, for its owner alone, deleted at the end.
pub(crate) fn scratch(arguments: &Arguments) -> Result<Scratch, String> {
    let parent = match arguments.text("scratch-dir") {
        "" => std::env::temp_dir(),
        dir => PathBuf::from(dir),
    };
    for number in 0..ATTEMPTS {
        let path = parent.join(format!("skiff-util-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(Scratch::new(path)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(format!("cannot make a folder for temporary files in {}: {e}", parent.display()));
            }
        }
    }
    Err(format!("cannot make a folder for temporary files in {}: delete old ones", parent.display()))
}

/// Bytes of the files in a directory.
pub(crate) fn bytes_in(dir: &Path) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(failed)?.len();
    }
    Ok(bytes)
}
