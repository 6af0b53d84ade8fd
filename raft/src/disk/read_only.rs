use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

use super::real::RealFile;
use super::{Disk, DiskFile, RealDisk};

/// The machine's file system, for those who must not change it: whatever
/// would write fails.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadOnlyDisk;

fn refused<T>() -> Result<T> {
    Err(Error::from(ErrorKind::ReadOnlyFilesystem))
}

impl Disk for ReadOnlyDisk {
    fn create_dir_all(&self, _dir: &Path) -> Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        // The system refuses to write to a file opened like this.
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn create(&self, _path: &Path) -> Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn rename(&self, _from: &Path, _to: &Path) -> Result<()> {
        refused()
    }

    fn remove(&self, _path: &Path) -> Result<()> {
        refused()
    }

    fn sync_dir(&self, _dir: &Path) -> Result<()> {
        refused()
    }
}
