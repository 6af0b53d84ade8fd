#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Disk, DiskFile, SECTOR_BYTES};

/// A failure the simulated disk can be told to produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next that many syncs fail with EIO. As on Linux the pages count as
    /// clean afterwards: their bytes read back, but only some of them are on
    /// the medium and a later sync does not write the rest.
    FailSyncs(u32),
    /// The next that many writes fail with EIO, after a part of them was done.
    FailWrites(u32),
    /// After that many further changes (writes, syncs, changes of names) the
    /// power is gone: every change fails until [`SimDisk::crash`].
    LosePowerAfter(u32),
}

/// A disk in memory that keeps apart what is written from what is durable.
///
/// Clones share the disk. [`SimDisk::crash`] does what a power loss does:
/// unsynced sectors keep any of the versions written since the last sync, and
/// an unsynced suffix of the name changes is undone. Handles from before the
/// crash, this one included, fail from then on, so that threads of the crashed
/// process cannot touch the disk of its successor. Everything random follows
/// from the seed and the order of the calls.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    boot: u64,
}

type Sector = [u8; SECTOR_BYTES];

#[derive(Default, Clone)]
struct Inode {
    /// What a reader sees.
    current: Vec<u8>,
    /// What the medium holds.
    durable: Vec<u8>,
    /// Versions of each sector written since the last sync, oldest first.
    dirty: BTreeMap<usize, Vec<Sector>>,
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

struct Inner {
    rng: u64,
    /// Bumped by a crash: older handles are dead.
    boot: u64,
    next_inode: u64,
    inodes: HashMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<NameChange>,
    /// Bytes all files together may take.
    capacity: u64,
    fail_syncs: u32,
    fail_writes: u32,
    /// Changes left until the power is gone.
    power: Option<u32>,
    syncs: u64,
}

impl SimDisk {
    /// An empty disk without a size limit.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: seed ^ 0x9e37_79b9_7f4a_7c15,
            boot: 0,
            next_inode: 1,
            inodes: HashMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            capacity: u64::MAX,
            fail_syncs: 0,
            fail_writes: 0,
            power: None,
            syncs: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), boot: 0 }
    }

    /// Limits what all files together may take, in bytes; growth beyond it is ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner.lock().capacity = bytes;
    }

    /// Bytes all files take now.
    pub fn used(&self) -> u64 {
        self.inner.lock().used()
    }

    /// Arms a fault; the counts of repeated calls add up.
    pub fn inject(&self, fault: Fault) {
        let mut inner = self.inner.lock();
        match fault {
            Fault::FailSyncs(n) => inner.fail_syncs = inner.fail_syncs.saturating_add(n),
            Fault::FailWrites(n) => inner.fail_writes = inner.fail_writes.saturating_add(n),
            Fault::LosePowerAfter(n) => inner.power = Some(n),
        }
    }

    /// False once the power of [`Fault::LosePowerAfter`] is gone.
    pub fn has_power(&self) -> bool {
        self.inner.lock().power != Some(0)
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        let mut inner = self.inner.lock();
        inner.fail_syncs = 0;
        inner.fail_writes = 0;
        inner.power = None;
    }

    /// Successful file syncs so far.
    pub fn sync_count(&self) -> u64 {
        self.inner.lock().syncs
    }

    /// Loses power and comes back: see the type's description. Returns the
    /// handle of the machine started again.
    pub fn crash(&self) -> Self {
        let mut inner = self.inner.lock();
        inner.boot += 1;
        inner.fail_syncs = 0;
        inner.fail_writes = 0;
        inner.power = None;
        inner.crash_names();
        inner.crash_inodes();
        Self { inner: self.inner.clone(), boot: inner.boot }
    }

    /// Ends the process without losing power: handles die, the page cache
    /// stays. Returns the handle of the process started again.
    pub fn kill(&self) -> Self {
        let mut inner = self.inner.lock();
        inner.boot += 1;
        Self { inner: self.inner.clone(), boot: inner.boot }
    }

    /// Flips one bit of a file, in what is read as well as on the medium.
    ///
    /// Returns whether there was such a byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut inner = self.inner.lock();
        let Some(&id) = inner.names.get(path) else { return false };
        let Some(inode) = inner.inodes.get_mut(&id) else { return false };
        let at = offset as usize;
        let mut hit = false;
        for bytes in [&mut inode.current, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
                hit = true;
            }
        }
        hit
    }

    /// Cuts a file off at `len` bytes, in what is read as well as on the medium.
    pub fn truncate(&self, path: &Path, len: u64) -> bool {
        let mut inner = self.inner.lock();
        let Some(&id) = inner.names.get(path) else { return false };
        let Some(inode) = inner.inodes.get_mut(&id) else { return false };
        inode.current.truncate(len as usize);
        inode.durable.truncate(len as usize);
        inode.dirty.retain(|&sector, _| sector * SECTOR_BYTES < len as usize);
        true
    }

    /// The whole of a file as a reader sees it.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        let id = inner.names.get(path)?;
        inner.inodes.get(id).map(|inode| inode.current.clone())
    }

    fn file(&self, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode })
    }

    /// The disk, for a handle of the running machine.
    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner.lock();
        if inner.boot != self.boot {
            return Err(io::Error::other("the machine of this handle crashed"));
        }
        Ok(inner)
    }

    /// As [`SimDisk::alive`], for a change.
    fn powered(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.alive()?;
        match &mut inner.power {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(inner)
    }
}

impl Inner {
    /// xorshift64*: small, and good enough to choose what a crash keeps.
    fn random(&mut self) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        self.rng = if self.rng == 0 { 0x9e37_79b9 } else { self.rng };
        self.rng.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .collect::<std::collections::BTreeSet<_>>()
            .iter()
            .filter_map(|id| self.inodes.get(id))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    fn crash_names(&mut self) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = (self.random() as usize) % (changes.len() + 1);
        for change in &changes[..kept] {
            apply_name(&mut self.durable_names, change);
        }
        self.names = self.durable_names.clone();
        let alive: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| alive.contains(id));
    }

    fn crash_inodes(&mut self) {
        let mut ids: Vec<u64> = self.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(mut inode) = self.inodes.remove(&id) else { continue };
            for (sector, versions) in std::mem::take(&mut inode.dirty) {
                // One more choice than there are versions: the one before them all.
                let choice = (self.random() as usize) % (versions.len() + 1);
                if choice > 0 {
                    inode.persist(sector, &versions[choice - 1]);
                }
            }
            inode.current = inode.durable.clone();
            self.inodes.insert(id, inode);
        }
    }

    /// A sync that fails: some sectors reach the medium, all count as clean.
    fn lose_sync(&mut self, id: u64) {
        let Some(mut inode) = self.inodes.remove(&id) else { return };
        for (sector, versions) in std::mem::take(&mut inode.dirty) {
            if self.random().is_multiple_of(2)
                && let Some(last) = versions.last()
            {
                inode.persist(sector, last);
            }
        }
        self.inodes.insert(id, inode);
    }
}

impl Inode {
    fn persist(&mut self, sector: usize, bytes: &Sector) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.current.len().max(self.durable.len()));
        if end <= start {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&bytes[..end - start]);
    }

    fn write(&mut self, buf: &[u8], offset: usize) {
        if buf.is_empty() {
            return;
        }
        let end = offset + buf.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(buf);
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let start = sector * SECTOR_BYTES;
            let stop = (start + SECTOR_BYTES).min(self.current.len());
            let mut bytes = [0; SECTOR_BYTES];
            bytes[..stop - start].copy_from_slice(&self.current[start..stop]);
            self.dirty.entry(sector).or_default().push(bytes);
        }
    }

    fn sync(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if let Some(last) = versions.last() {
                self.persist(sector, last);
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Link(path, id) => {
            names.insert(path.clone(), *id);
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.alive()?;
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.alive()?;
        let id = *inner.names.get(path).ok_or_else(|| not_found(path))?;
        drop(inner);
        Ok(self.file(id))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.powered()?;
        let id = inner.next_inode;
        inner.next_inode += 1;
        inner.inodes.insert(id, Inode::default());
        inner.change_name(NameChange::Link(path.to_path_buf(), id));
        drop(inner);
        Ok(self.file(id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.powered()?;
        if !inner.names.contains_key(from) {
            return Err(not_found(from));
        }
        inner.change_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.powered()?;
        if !inner.names.contains_key(path) {
            return Err(not_found(path));
        }
        inner.change_name(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut inner = self.powered()?;
        for change in std::mem::take(&mut inner.unsynced_names) {
            apply_name(&mut inner.durable_names, &change);
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inner, u64) -> io::Result<T>) -> io::Result<T> {
        act(&mut *self.disk.alive()?, self.inode)
    }

    fn change<T>(&self, act: impl FnOnce(&mut Inner, u64) -> io::Result<T>) -> io::Result<T> {
        act(&mut *self.disk.powered()?, self.inode)
    }
}

fn inode(inner: &mut Inner, id: u64) -> io::Result<&mut Inode> {
    inner.inodes.get_mut(&id).ok_or_else(|| io::Error::other("no such inode"))
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner, id| Ok(inode(inner, id)?.current.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|inner, id| {
            let bytes = &inode(inner, id)?.current;
            let start = (offset as usize).min(bytes.len());
            let n = buf.len().min(bytes.len() - start);
            buf[..n].copy_from_slice(&bytes[start..start + n]);
            Ok(n)
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(|inner, id| {
            let (used, capacity) = (inner.used(), inner.capacity);
            let grown = (offset as usize + buf.len()).saturating_sub(inode(inner, id)?.current.len());
            if grown > 0 && used.saturating_add(grown as u64) > capacity {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            if inner.fail_writes > 0 {
                inner.fail_writes -= 1;
                let part = (inner.random() as usize) % (buf.len() + 1);
                inode(inner, id)?.write(&buf[..part], offset as usize);
                return Err(io::Error::other("simulated EIO on write"));
            }
            inode(inner, id)?.write(buf, offset as usize);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|inner, id| {
            if inner.fail_syncs > 0 {
                inner.fail_syncs -= 1;
                inner.lose_sync(id);
                return Err(io::Error::other("simulated EIO on sync"));
            }
            inode(inner, id)?.sync();
            inner.syncs += 1;
            Ok(())
        })
    }
}
