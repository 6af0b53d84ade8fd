//! The process and its surroundings: threads, signals, the data directory's lock, the
//! service manager.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::process_metrics;

/// Threads for requests, replication and their timers. The log's writer, the
/// applier and RocksDB have their own. More than the cores only costs switches.
const MIN_WORKERS: usize = 2;
/// What still runs at the end has this long.
const LAST_TIMEOUT: Duration = Duration::from_millis(100);

/// Descriptors kept for files, as against connections.
const RESERVED_DESCRIPTORS: u64 = 512;

/// The environment. Variables that are no text cannot be settings of ours.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// Runs the work of a tool to its end, and tells if it failed.
pub(crate) fn run_tool(command: &str, work: impl Future<Output = Result<(), String>>) -> ExitCode {
    let ended = runtime().map_err(|error| format!("cannot start threads: {error}")).and_then(|runtime| {
        let ended = runtime.block_on(work);
        runtime.shutdown_timeout(LAST_TIMEOUT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{command}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the work of a server to its end, and tells if it failed.
pub(crate) fn run(command: &str, work: impl Future<Output = Result<(), String>>) -> ExitCode {
    if let Err(error) = process_metrics::export() {
        tracing::warn!(%error, "cannot export process metrics");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(work);
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(LAST_TIMEOUT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // To the log for machines, and plainly for who sits before it.
            tracing::error!(problem, "ended");
            eprintln!("{command}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The threads of the process: the one place that decides on them.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(MIN_WORKERS, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(MIN_WORKERS))
        .thread_name("skiff")
        .enable_all()
        .build()
}

/// Waits for all tasks.
pub(crate) async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to listen for them.
    ///
    /// # Errors
    /// The system refuses handlers.
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next; answers its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupt",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// The lock of a directory: held until dropped, and gone with the process
/// however it ends.
pub(crate) struct DirLock {
    _file: File,
}

/// Makes a directory if it is not there (for its owner alone) and locks it.
/// `what` it is called in errors.
///
/// # Errors
/// A sentence with the path: it cannot be made, or another process has it.
pub(crate) fn lock_dir(what: &str, dir: &Path) -> Result<DirLock, String> {
    let shown = dir.display();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| format!("cannot make the {what} {shown}: {e}"))?;
    let meta = fs::metadata(dir).map_err(|e| format!("cannot look at the {what} {shown}: {e}"))?;
    if meta.mode() & 0o077 != 0 {
        // etcd insists on 0700 as well; a directory made by hand is put right.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|e| format!("the {what} {shown} is open to others and that cannot be changed: {e}"))?;
    }
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        rustix::io::Errno::WOULDBLOCK => {
            format!("the {what} {shown} is in use by another process{}", owner(&path))
        }
        e => format!("cannot lock {}: {e}", path.display()),
    })?;
    // For whoever finds it locked; not needed for the lock itself.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(DirLock { _file: file })
}

/// Locks a data directory for those who only read it: none may run in it, but
/// several may read. Changes nothing; without a `LOCK` file, as in a copy of a
/// data directory, there is nothing to lock.
///
/// # Errors
/// A sentence with the path and what to do: a process has it, or it cannot be
/// opened.
pub(crate) fn lock_for_reading(dir: &Path) -> Result<Option<DirLock>, String> {
    let path = dir.join("LOCK");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("cannot open {}: {e}", path.display())),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(DirLock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(format!("the data directory {} is in use by another process{}", dir.display(), owner(&path)))
        }
        Err(e) => Err(format!("cannot lock {}: {e}", path.display())),
    }
}

fn owner(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().parse::<u32>().is_ok() => format!(" (process {})", text.trim()),
        _ => String::new(),
    }
}

/// Raises the limit of open files as far as allowed; answers how many
/// connections fit.
pub(crate) fn connection_slots() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    let got = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(1024),
    };
    usize::try_from(got.saturating_sub(RESERVED_DESCRIPTORS).max(got / 2)).unwrap_or(1024)
}

/// Tells the service manager (systemd's `Type=notify`) a state, if there is one.
pub(crate) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send_notification(Path::new(&path), state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

fn send_notification(path: &Path, state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;

    let socket = UnixDatagram::unbound()?;
    let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name)?,
        None => std::os::unix::net::SocketAddr::from_pathname(path)?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_owner() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/m1.etcd");
        let lock = lock_dir("data directory", &dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let error = lock_dir("data directory", &dir).err().unwrap();
        assert!(
            error.contains("in use by another process") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(lock);
        assert!(lock_dir("data directory", &dir).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = lock_dir("data directory", &path).err().unwrap();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn the_service_manager_hears_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send_notification(&path, "READY=1").unwrap();
        let mut buffer = [0; 16];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
