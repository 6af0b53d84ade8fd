//! An engine in memory, for tests and simulation.
//!
//! Snapshots are O(1) clones of copy-on-write trees. A checkpoint is one file:
//! magic, version, entries in order, count, and a CRC-32C over all before it.
//!
//! Not here: bounds on memory, and any disk outside of checkpoints.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::RwLock;

use super::{Batch, Cf, Cursor, Engine, EngineSize, Op, Snapshot};
use crate::error::{Error, Result};
use crate::index::{self, Builder, Tree};

/// Opens a checkpoint file.
const MAGIC: &[u8; 8] = b"SKIFFMEM";
/// Version of the checkpoint's format. 1: as the module says.
const VERSION: u32 = 1;
/// Name of the file in the checkpoint's directory.
const FILE: &str = "state";
/// Stands where an entry's column family would: no more entries.
const END: u8 = u8::MAX;

/// Everything at one moment.
#[derive(Clone, Default)]
struct State {
    /// By the column family's place in [`Cf::ALL`].
    trees: [Tree<Bytes, Bytes>; Cf::ALL.len()],
    /// Bytes of all keys and values.
    bytes: u64,
}

/// An [`Engine`] in memory.
#[derive(Default)]
pub struct MemEngine {
    now: RwLock<State>,
    flushed: RwLock<State>,
}

impl MemEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// The engine a crash would leave: what was flushed.
    pub fn crashed(&self) -> Self {
        Self::with(self.flushed.read().clone())
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it is damaged; [`Error::Storage`] where it
    /// cannot be read or a newer version wrote it.
    pub fn open_checkpoint(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = fs::read(&path).map_err(|e| Error::Storage(format!("read {}: {e}", path.display())))?;
        State::decode(&bytes).map(Self::with).map_err(|fault| match fault {
            Fault::Damaged(what) => Error::Corruption(format!("{}: {what}", path.display())),
            Fault::Newer(version) => Error::Storage(format!(
                "{}: written in format {version}, this version reads up to {VERSION}",
                path.display()
            )),
        })
    }

    fn with(state: State) -> Self {
        Self { now: RwLock::new(state.clone()), flushed: RwLock::new(state) }
    }
}

impl Engine for MemEngine {
    fn write(&self, batch: Batch) -> Result<()> {
        let mut state = self.now.write();
        batch.ops.into_iter().for_each(|op| state.apply(op));
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(MemSnapshot(self.now.read().clone()))
    }

    fn flush(&self) -> Result<()> {
        // Held over both, so that of two flushes the later state stays.
        let mut flushed = self.flushed.write();
        *flushed = self.now.read().clone();
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        let state = self.now.read().clone();
        state.save(dir).map_err(|e| Error::Storage(format!("checkpoint to {}: {e}", dir.display())))
    }

    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> EngineSize {
        EngineSize { total: self.now.read().bytes }
    }
}

/// Why a checkpoint cannot be read.
enum Fault {
    Damaged(&'static str),
    Newer(u32),
}

impl State {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Put(cf, key, value) => {
                let (key_len, value_len) = (key.len() as u64, value.len() as u64);
                self.bytes += value_len;
                match self.trees[place(cf)].insert(key, value) {
                    Some(old) => self.bytes -= old.len() as u64,
                    None => self.bytes += key_len,
                }
            }
            Op::Delete(cf, key) => self.remove(cf, &key),
            Op::DeleteRange(cf, from, to) => {
                let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
                let keys: Vec<Bytes> =
                    self.trees[place(cf)].range(range.0, range.1).map(|(k, _)| k.clone()).collect();
                keys.iter().for_each(|key| self.remove(cf, key));
            }
        }
    }

    fn remove(&mut self, cf: Cf, key: &[u8]) {
        if let Some(old) = self.trees[place(cf)].remove(key) {
            self.bytes -= (key.len() + old.len()) as u64;
        }
    }

    /// Writes a checkpoint aside, syncs it, moves it to `dir`.
    fn save(&self, dir: &Path) -> std::io::Result<()> {
        if dir.exists() {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        let mut aside = dir.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir_all(&aside)?;
        let mut out = Summed { out: BufWriter::new(File::create(aside.join(FILE))?), crc: 0 };
        self.encode(&mut out)?;
        out.out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        File::open(&aside)?.sync_all()?;
        fs::rename(&aside, dir)?;
        match dir.parent() {
            Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }

    fn encode(&self, out: &mut Summed) -> std::io::Result<()> {
        out.put(MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        let mut head = Vec::with_capacity(9);
        for (place, tree) in self.trees.iter().enumerate() {
            for (key, value) in tree {
                head.clear();
                head.put_u8(place as u8);
                head.put_u32_le(length(key)?);
                head.put_u32_le(length(value)?);
                out.put(&head)?;
                out.put(key)?;
                out.put(value)?;
            }
        }
        out.put(&[END])?;
        out.put(&self.count().to_le_bytes())?;
        let crc = out.crc;
        out.put(&crc.to_le_bytes())
    }

    fn decode(file: &[u8]) -> Result<Self, Fault> {
        let Some((content, mut crc)) = file.split_last_chunk::<4>().map(|(c, crc)| (c, &crc[..])) else {
            return Err(Fault::Damaged("too short"));
        };
        let mut rest = content.strip_prefix(MAGIC).ok_or(Fault::Damaged("not a checkpoint"))?;
        // Before the sum: another version may sum otherwise.
        let version = rest.try_get_u32_le().map_err(|_| Fault::Damaged("too short"))?;
        if version > VERSION {
            return Err(Fault::Newer(version));
        }
        if version != VERSION || crc.get_u32_le() != crc32c::crc32c(content) {
            return Err(Fault::Damaged("checksum mismatch"));
        }
        Self::decode_entries(rest)
    }

    fn decode_entries(mut rest: &[u8]) -> Result<Self, Fault> {
        let short = |_| Fault::Damaged("an entry is cut off");
        let mut builders = Cf::ALL.map(|_| Builder::new());
        let mut state = State::default();
        loop {
            let family = rest.try_get_u8().map_err(short)?;
            if family == END {
                break;
            }
            let builder =
                builders.get_mut(usize::from(family)).ok_or(Fault::Damaged("no such column family"))?;
            let key_len = rest.try_get_u32_le().map_err(short)? as usize;
            let value_len = rest.try_get_u32_le().map_err(short)? as usize;
            let (entry, after) =
                rest.split_at_checked(key_len + value_len).ok_or(Fault::Damaged("an entry is cut off"))?;
            let (key, value) = entry.split_at(key_len);
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            builder.push(key, value).map_err(|_| Fault::Damaged("keys out of order"))?;
            state.bytes += entry.len() as u64;
            rest = after;
        }
        state.trees = builders.map(Builder::finish);
        if rest.try_get_u64_le().ok() != Some(state.count()) || !rest.is_empty() {
            return Err(Fault::Damaged("wrong number of entries"));
        }
        Ok(state)
    }

    /// Number of entries.
    fn count(&self) -> u64 {
        self.trees.iter().map(|tree| tree.len() as u64).sum()
    }
}

/// The place of a column family in a state, and in the checkpoint's format.
fn place(cf: Cf) -> usize {
    match cf {
        Cf::Kv => 0,
        Cf::Events => 1,
        Cf::Leases => 2,
        Cf::Meta => 3,
    }
}

fn length(bytes: &[u8]) -> std::io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| std::io::ErrorKind::InvalidInput.into())
}

/// A file with the running sum of what was written.
struct Summed {
    out: BufWriter<File>,
    crc: u32,
}

impl Summed {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

/// A [`Snapshot`] of a [`MemEngine`].
struct MemSnapshot(State);

impl Snapshot for MemSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.trees[place(cf)].get(key).cloned())
    }

    fn cursor(&self, cf: Cf, _fill_cache: bool) -> Box<dyn Cursor + '_> {
        Box::new(MemCursor(self.0.trees[place(cf)].cursor()))
    }
}

/// A [`Cursor`] over a [`MemSnapshot`].
struct MemCursor<'a>(index::Cursor<'a, Bytes, Bytes>);

impl Cursor for MemCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.0.seek(key);
        Ok(())
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.0.seek_for_prev(key);
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.0.next();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.0.prev();
        Ok(())
    }

    fn valid(&self) -> bool {
        self.0.entry().is_some()
    }

    fn key(&self) -> &[u8] {
        self.0.entry().map_or(&[], |(key, _)| key)
    }

    fn value(&self) -> &[u8] {
        self.0.entry().map_or(&[], |(_, value)| value)
    }
}
