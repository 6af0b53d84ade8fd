use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::Error;
use super::health::{Reporter, health_of};
use super::shared::Shared;
use crate::disk::{Disk, DiskFile};

const READY_PREFIX: &str = "spare-";
const UNFINISHED_PREFIX: &str = "new-";
/// Zeros are written in pieces of this size, each synced, so that preparing a
/// spare does not hold up the log's own syncs for long.
const ZERO_PIECE_BYTES: usize = 4 << 20;

/// Segment files ready to be used: written in full, durable, without a header
/// that counts.
///
/// A thread keeps one ready at any time. When it cannot, the disk is full (or
/// failing) and says so while the segment in use still has room.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    bytes: u64,
    limit: usize,
    pool: Mutex<Pool>,
    wake: Condvar,
}

struct Pool {
    ready: Vec<PathBuf>,
    next: u64,
    closed: bool,
}

impl Spares {
    /// The spares found in the directory; unfinished ones are removed.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, bytes: u64, limit: usize) -> Result<Self, Error> {
        let mut pool = Pool { ready: Vec::new(), next: 1, closed: false };
        let mut names = disk.list(dir).map_err(Error::io("list", dir))?;
        names.sort();
        for name in names {
            let number = name.strip_prefix(READY_PREFIX).or_else(|| name.strip_prefix(UNFINISHED_PREFIX));
            let Some(number) = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()) else { continue };
            let path = dir.join(&name);
            pool.next = pool.next.max(number + 1);
            let whole = || -> io::Result<bool> { Ok(disk.open(&path)?.len()? == bytes) };
            let keep = name.starts_with(READY_PREFIX)
                && pool.ready.len() < limit
                && whole().map_err(Error::io("open", &path))?;
            if keep {
                pool.ready.push(path);
            } else {
                disk.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        let dir = dir.to_path_buf();
        Ok(Self { disk, dir, bytes, limit, pool: Mutex::new(pool), wake: Condvar::new() })
    }

    /// A spare to use, prepared now where none is ready. It stays under its
    /// spare name until the caller renames it.
    pub(super) fn take(&self) -> io::Result<PathBuf> {
        let ready = self.pool.lock().ready.pop();
        self.wake.notify_all();
        match ready {
            Some(path) => Ok(path),
            None => self.prepare(),
        }
    }

    /// Puts a segment no longer needed back, or removes it where there are
    /// enough. The caller syncs the directory before anything is written.
    pub(super) fn recycle(&self, path: &Path, reusable: bool) -> io::Result<Option<PathBuf>> {
        let number = {
            let mut pool = self.pool.lock();
            if !reusable || pool.ready.len() >= self.limit {
                drop(pool);
                self.disk.remove(path)?;
                return Ok(None);
            }
            pool.number()
        };
        let spare = self.path(READY_PREFIX, number);
        self.disk.rename(path, &spare)?;
        Ok(Some(spare))
    }

    /// Makes recycled files available, after their names are durable.
    pub(super) fn add(&self, paths: Vec<PathBuf>) {
        self.pool.lock().ready.extend(paths);
    }

    fn path(&self, prefix: &str, number: u64) -> PathBuf {
        self.dir.join(format!("{prefix}{number:016x}"))
    }

    fn prepare(&self) -> io::Result<PathBuf> {
        let number = self.pool.lock().number();
        let path = self.path(UNFINISHED_PREFIX, number);
        let spare = self.path(READY_PREFIX, number);
        let made = self.disk.create(&path).and_then(|file| write_zeros(&*file, 0, self.bytes));
        let made = made.and_then(|()| self.disk.rename(&path, &spare));
        if let Err(error) = made {
            // Give back what it took: it may be all the room there is.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        Ok(spare)
    }

    /// Keeps one spare ready until [`Spares::close`]; runs on its own thread.
    pub(super) fn run(&self, shared: &Shared) {
        let mut pause = shared.options.retry_min;
        loop {
            {
                let mut pool = self.pool.lock();
                while !pool.closed && !pool.ready.is_empty() {
                    self.wake.wait(&mut pool);
                }
                if pool.closed {
                    return;
                }
            }
            match self.prepare() {
                Ok(path) => {
                    self.pool.lock().ready.push(path);
                    shared.health.report(Reporter::Spares, super::Health::Ok);
                    pause = shared.options.retry_min;
                }
                Err(error) => {
                    shared.health.report(Reporter::Spares, health_of(&error));
                    tracing::warn!(%error, dir = %self.dir.display(), "cannot prepare a log segment");
                    if self.sleep(pause) {
                        return;
                    }
                    pause = (pause * 2).min(shared.options.retry_max);
                }
            }
        }
    }

    /// Waits; returns whether closed.
    fn sleep(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut pool = self.pool.lock();
        while !pool.closed {
            if self.wake.wait_until(&mut pool, deadline).timed_out() {
                break;
            }
        }
        pool.closed
    }

    pub(super) fn close(&self) {
        self.pool.lock().closed = true;
        self.wake.notify_all();
    }
}

impl Pool {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// Writes zeros over `from..to` and makes them durable.
pub(super) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_PIECE_BYTES.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let n = (to - at).min(zeros.len() as u64);
        file.write_at(&zeros[..n as usize], at)?;
        file.sync()?;
        at += n;
    }
    Ok(())
}
