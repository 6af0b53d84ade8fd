//! A temporary folder that stays when its test fails.

use std::path::{Path, PathBuf};

/// A folder of its own for one test; removed at the end unless the test panics or
/// `SKIFF_KEEP` is set.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes a folder whose name starts with `label`, under `SKIFF_TEST_DIR` or the system's folder
    /// for temporary files.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn new(label: &str) -> Self {
        let base = std::env::var_os("SKIFF_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new()
            .prefix(&format!("skiff-{label}-"))
            .tempdir_in(&base)
            .unwrap_or_else(|error| panic!("cannot make a folder in {}: {error}", base.display()));
        let path = dir.path().to_path_buf();
        Scratch { dir: Some(dir), path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if (std::thread::panicking() || std::env::var_os("SKIFF_KEEP").is_some())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept {}", dir.keep().display());
        }
    }
}
