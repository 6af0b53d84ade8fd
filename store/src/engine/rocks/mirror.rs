//! A stand-in for a database, to look at one without changing it.
//!
//! RocksDB writes into a database's directory by opening it. The tables, which
//! hold the data, are never changed once written: the stand-in reaches them by
//! symbolic links, and has copies of the few small files that are written on.
//! It can be written to, also: the original sees nothing of it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use crate::error::{Error, Result};

/// Makes the stand-in of the database in `dir` at `to`, which must not exist.
/// Nobody may write to the database while the stand-in is used.
///
/// # Errors
/// [`Error::Corruption`] where `dir` holds no database; [`Error::Storage`]
/// where the files cannot be read or written.
pub fn mirror(dir: &Path, to: &Path) -> Result<()> {
    let failed = |path: &Path, e: std::io::Error| Error::Storage(format!("{}: {e}", path.display()));
    let dir = dir.canonicalize().map_err(|e| failed(dir, e))?;
    if !dir.join("CURRENT").is_file() {
        return Err(Error::Corruption(format!("{}: CURRENT is missing", dir.display())));
    }
    // What a member stores is for its owner alone.
    DirBuilder::new().mode(0o700).create(to).map_err(|e| failed(to, e))?;
    for entry in fs::read_dir(&dir).map_err(|e| failed(&dir, e))? {
        let entry = entry.map_err(|e| failed(&dir, e))?;
        let (name, path) = (entry.file_name(), entry.path());
        let target = to.join(&name);
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".sst") {
            symlink(&path, &target).map_err(|e| failed(&target, e))?;
        } else if is_written_on(name) {
            fs::copy(&path, &target).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}

/// The small files a database consists of beside its tables.
fn is_written_on(name: &str) -> bool {
    matches!(name, "CURRENT" | "IDENTITY")
        || name.starts_with("MANIFEST-")
        || name.starts_with("OPTIONS-")
        || name.ends_with(".log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rocks::{RocksEngine, RocksOptions};
    use crate::engine::{Batch, Cf, Engine};

    fn bytes_of(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_is_written_to_the_stand_in_does_not_reach_the_original() {
        let root = tempfile::tempdir().unwrap();
        let (dir, to) = (root.path().join("db"), root.path().join("stand-in"));
        let put = |engine: &RocksEngine, key: &'static str| {
            let mut batch = Batch::default();
            batch.put(Cf::Kv, key, "value");
            engine.write(batch).unwrap();
            engine.flush().unwrap();
        };
        let engine = RocksEngine::open(&dir, &RocksOptions::default()).unwrap();
        put(&engine, "a");
        drop(engine);
        let before = bytes_of(&dir);
        mirror(&dir, &to).unwrap();
        let options = RocksOptions { compact: false, ..RocksOptions::default() };
        let engine = RocksEngine::open(&to, &options).unwrap();
        put(&engine, "b");
        engine.reclaim().unwrap();
        let snapshot = engine.snapshot();
        assert!(
            snapshot.get(Cf::Kv, b"a").unwrap().is_some() && snapshot.get(Cf::Kv, b"b").unwrap().is_some()
        );
        drop((snapshot, engine));
        fs::remove_dir_all(&to).unwrap();
        assert_eq!(bytes_of(&dir), before);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = mirror(root.path(), &root.path().join("x")).unwrap_err();
        assert!(matches!(&error, Error::Corruption(text) if text.contains("CURRENT")), "{error}");
    }
}
