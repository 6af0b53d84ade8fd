//! A value made from files, made again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// Files are looked at no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells two versions of a file apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// A value made from files.
///
/// While new files cannot be used (half written, a key that does not fit), the
/// old value stays in use and the trouble is logged once a version.
pub(crate) struct Reload<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    check_interval: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    versions: Vec<Option<Version>>,
    checked: Instant,
}

impl<T> Reload<T> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        Self::with_interval(files, CHECK_INTERVAL, make)
    }

    pub(super) fn with_interval(
        files: Vec<PathBuf>,
        check_interval: Duration,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Versions first: a change while the files are read is seen next time.
        let versions = versions(&files);
        let value = Arc::new(make()?);
        let state = Mutex::new(State { value, versions, checked: Instant::now() });
        Ok(Reload { files, make: Box::new(make), check_interval, state })
    }

    /// The value of the newest usable files.
    pub(crate) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.checked.elapsed() < self.check_interval {
            return state.value.clone();
        }
        state.checked = Instant::now();
        let versions = versions(&self.files);
        if versions != state.versions {
            state.versions = versions;
            match (self.make)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    tracing::info!(files = ?self.files, "loaded changed certificate files");
                }
                Err(problem) => {
                    tracing::warn!(problem, "cannot use changed certificate files; the old ones stay in use");
                }
            }
        }
        state.value.clone()
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    use std::os::unix::fs::MetadataExt;
    let version = |path: &PathBuf| {
        std::fs::metadata(path).ok().map(|meta| Version {
            inode: meta.ino(),
            bytes: meta.len(),
            modified: meta.modified().ok(),
        })
    };
    files.iter().map(version).collect()
}
