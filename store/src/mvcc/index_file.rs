//! A copy of the index on disk, so that a restart reads keys only.
//!
//! The index can always be rebuilt from the newest version of every key; that
//! reads all values too. The file spares it: it holds the index as of some
//! revision, and the changes since then are found in the `ev` rows. It is a
//! cache, never the truth: one that is damaged, too old, or of another history
//! is ignored, with a line in the log.
//!
//! Format 1, integers big endian: `SKIFFIDX`, format (4 bytes), revision (8),
//! mark (4), keys (8), crc32c of the header so far (4); then blocks of length (4), crc32c (4), payload; a block
//! of length 0 ends the file. A payload holds entries: bytes shared with the
//! key before, length of the rest, the rest, create revision, mod revision,
//! version, lease, sub-revision, all numbers as varints. The mark is a checksum of the
//! changes at the revision: a store with another history has another one.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use bytes::{Buf, BufMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::engine::{Cf, Snapshot};
use crate::error::{Error, Result};
use crate::index::{Builder, Tree};
use crate::mvcc::evaluate::EVENT_PUT;
use crate::mvcc::keys;
use crate::mvcc::state::{self, Key, Meta};
use crate::mvcc::view::event_user_key;
use crate::pb::skiff::v1::{StoredCompaction, StoredState};

const MAGIC: &[u8; 8] = b"SKIFFIDX";
const FORMAT: u32 = 1;
const HEADER_LEN: usize = 36;
/// Payload bytes at which a block is closed.
const BLOCK_BYTES: usize = 64 << 10;
/// A block longer than this is damage: one entry is at most a request long.
const MAX_BLOCK_BYTES: usize = 64 << 20;

/// Writes the index as of the snapshot's revision; replaces `path` atomically.
pub(crate) fn save(
    path: &Path,
    index: &Tree<Key, Meta>,
    revision: i64,
    snapshot: &dyn Snapshot,
) -> Result<()> {
    let mark = mark(snapshot, revision)?;
    let temporary = path.with_extension("tmp");
    let failed = |e: io::Error| Error::Storage(format!("write {}: {e}", temporary.display()));
    let written = write_file(&temporary, index, revision, mark);
    if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, path)) {
        // Half a file is of no use, and may take the last of the space.
        let _ = std::fs::remove_file(&temporary);
        return Err(failed(error));
    }
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(())
}

fn write_file(path: &Path, index: &Tree<Key, Meta>, revision: i64, mark: u32) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.put_slice(MAGIC);
    header.put_u32(FORMAT);
    header.put_i64(revision);
    header.put_u32(mark);
    header.put_u64(index.len() as u64);
    header.put_u32(crc32c::crc32c(&header));
    file.write_all(&header)?;
    let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
    let mut before: &[u8] = &[];
    for (key, meta) in index.iter() {
        put_entry(&mut block, before, key, meta);
        before = key;
        if block.len() >= BLOCK_BYTES {
            write_block(&mut file, &block)?;
            block.clear();
            before = &[];
        }
    }
    if !block.is_empty() {
        write_block(&mut file, &block)?;
    }
    write_block(&mut file, &[])?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn write_block(file: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    file.write_all(&(payload.len() as u32).to_be_bytes())?;
    file.write_all(&crc32c::crc32c(payload).to_be_bytes())?;
    file.write_all(payload)
}

fn put_entry(block: &mut Vec<u8>, before: &[u8], key: &[u8], meta: &Meta) {
    let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    encode_varint(shared as u64, block);
    encode_varint((key.len() - shared) as u64, block);
    block.put_slice(&key[shared..]);
    for number in [meta.create_revision, meta.mod_revision, meta.version, meta.lease, meta.sub.into()] {
        encode_varint(number as u64, block);
    }
}

/// The index at the state's revision, from the file and the changes since; or
/// `None` where the file cannot serve.
pub(crate) fn load(
    path: &Path,
    snapshot: &dyn Snapshot,
    stored: &StoredState,
    compaction: &StoredCompaction,
) -> Result<Option<Tree<Key, Meta>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Ok(ignore(path, &e.to_string())),
    };
    let (revision, written_mark, mut index) = match read_file(file) {
        Ok(parts) => parts,
        Err(e) => return Ok(ignore(path, &e.to_string())),
    };
    if revision > stored.revision {
        return Ok(ignore(path, "it is newer than the store"));
    }
    // Changes below the watchable ones are gone; those at `done_through` may be.
    if revision <= compaction.done_through {
        return Ok(ignore(path, "the changes since it was written have been compacted"));
    }
    if mark(snapshot, revision)? != written_mark {
        return Ok(ignore(path, "it is of another history"));
    }
    replay(&mut index, snapshot, revision)?;
    Ok(Some(index))
}

/// What [`load`] would do with the file, where damage is an error.
pub(crate) fn examine(
    path: &Path,
    snapshot: &dyn Snapshot,
    stored: &StoredState,
    compaction: &StoredCompaction,
) -> Result<Examined> {
    let damaged = |e: io::Error| {
        Error::Corruption(format!("{}: {e} (the file may be deleted: it is made again)", path.display()))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Examined::Absent),
        Err(e) => return Err(Error::Storage(format!("{}: {e}", path.display()))),
    };
    read_file(file).map_err(damaged)?;
    Ok(load(path, snapshot, stored, compaction)?.map_or(Examined::Unused, Examined::Read))
}

/// What an index file is good for.
pub(crate) enum Examined {
    /// There is none.
    Absent,
    /// It is whole, but too old or of another state.
    Unused,
    /// It gives this index.
    Read(Tree<Key, Meta>),
}

fn ignore<T>(path: &Path, why: &str) -> Option<T> {
    tracing::info!(path = %path.display(), why, "index file not used; the index is rebuilt from all keys");
    None
}

fn read_file(file: impl Read) -> io::Result<(i64, u32, Tree<Key, Meta>)> {
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_LEN];
    file.read_exact(&mut header)?;
    let (fields, crc) = header.split_at(HEADER_LEN - 4);
    if crc32c::crc32c(fields).to_be_bytes() != crc {
        return Err(damaged("the header's checksum is wrong"));
    }
    let mut header = fields;
    if header.copy_to_bytes(8) != MAGIC[..] || header.get_u32() != FORMAT {
        return Err(damaged("not an index file of this format"));
    }
    let (revision, mark, count) = (header.get_i64(), header.get_u32(), header.get_u64());
    let mut index = Builder::new();
    let mut entries = 0;
    while let Some(block) = read_block(&mut file)? {
        entries += read_entries(&block, &mut index)?;
    }
    if entries != count {
        return Err(damaged("it does not hold as many keys as it says"));
    }
    Ok((revision, mark, index.finish()))
}

fn read_block(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 8];
    file.read_exact(&mut head)?;
    let mut head = &head[..];
    let (len, crc) = (head.get_u32() as usize, head.get_u32());
    if len > MAX_BLOCK_BYTES {
        return Err(damaged("a block is too long"));
    }
    // Grows with what is there, not with what is declared.
    let mut block = Vec::new();
    if file.take(len as u64).read_to_end(&mut block)? != len {
        return Err(damaged("a block is cut off"));
    }
    if crc32c::crc32c(&block) != crc {
        return Err(damaged("a block's checksum is wrong"));
    }
    Ok((len > 0).then_some(block))
}

fn read_entries(mut block: &[u8], index: &mut Builder<Key, Meta>) -> io::Result<u64> {
    let mut key: Vec<u8> = Vec::new();
    let mut entries = 0;
    while block.has_remaining() {
        let mut number = || decode_varint(&mut block).map_err(|_| damaged("a number is cut off"));
        let (shared, rest) = (number()? as usize, number()? as usize);
        if shared > key.len() || rest > block.len() {
            return Err(damaged("a key is cut off"));
        }
        key.truncate(shared);
        key.extend_from_slice(&block[..rest]);
        block.advance(rest);
        let mut number =
            || decode_varint(&mut block).map(|n| n as i64).map_err(|_| damaged("a number is cut off"));
        let meta = Meta {
            create_revision: number()?,
            mod_revision: number()?,
            version: number()?,
            lease: number()?,
            sub: u32::try_from(number()?).map_err(|_| damaged("a sub-revision is too large"))?,
        };
        index.push(Key::from(&key[..]), meta).map_err(|_| damaged("keys are out of order"))?;
        entries += 1;
    }
    Ok(entries)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A checksum of the changes at a revision.
fn mark(snapshot: &dyn Snapshot, revision: i64) -> Result<u32> {
    let mut crc = 0;
    let mut cursor = snapshot.cursor(Cf::Events, false);
    cursor.seek(&keys::event_key(revision, 0))?;
    while cursor.valid() && keys::event_revision(cursor.key())? == revision {
        crc = crc32c::crc32c_append(crc, cursor.value());
        let (_, sub) = keys::event_place(cursor.key())?;
        let version = keys::version_key(event_user_key(cursor.as_ref())?, revision, sub);
        if let Some(version) = snapshot.get(Cf::Kv, &version)? {
            crc = crc32c::crc32c_append(crc, &version);
        }
        cursor.next()?;
    }
    Ok(crc)
}

/// Brings an index of `revision` up to the snapshot.
fn replay(index: &mut Tree<Key, Meta>, snapshot: &dyn Snapshot, revision: i64) -> Result<()> {
    let mut cursor = snapshot.cursor(Cf::Events, false);
    cursor.seek(&keys::event_key(revision + 1, 0))?;
    while cursor.valid() {
        let at = keys::event_place(cursor.key())?;
        let key = event_user_key(cursor.as_ref())?;
        if cursor.value()[0] == EVENT_PUT {
            if let Some(meta) = meta_at(snapshot, key, at)? {
                index.insert(Key::from(key), meta);
            }
        } else {
            index.remove(key);
        }
        cursor.next()?;
    }
    Ok(())
}

/// What the index would hold of a version; `None` if a later one has replaced
/// it and it has been compacted.
fn meta_at(snapshot: &dyn Snapshot, key: &[u8], (revision, sub): (i64, u32)) -> Result<Option<Meta>> {
    let row = keys::version_key(key, revision, sub);
    match snapshot.get(Cf::Kv, &row)? {
        Some(value) => Ok(state::decode_version(&row, value)?.map(|kv| Meta::of(&kv, sub))),
        None => Ok(None),
    }
}

/// What the index file needs of a state to be written for it.
pub(crate) fn worth_saving(saved_revision: i64, revision: i64, keys: usize) -> bool {
    // Rewriting it costs as much as reading it; below a tenth of changes the
    // replay is cheaper.
    revision - saved_revision > (keys as i64) / 10
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file whose checksums fit, around any payload.
    fn sealed(blocks: &[Vec<u8>], keys: u64) -> Vec<u8> {
        let mut file = Vec::new();
        file.put_slice(MAGIC);
        file.put_u32(FORMAT);
        file.put_i64(7);
        file.put_u32(0);
        file.put_u64(keys);
        let crc = crc32c::crc32c(&file);
        file.put_u32(crc);
        for block in blocks.iter().filter(|block| !block.is_empty()) {
            write_block(&mut file, block).unwrap();
        }
        write_block(&mut file, &[]).unwrap();
        file
    }

    proptest! {
        #[test]
        fn strange_blocks_never_panic(
            blocks in prop::collection::vec(prop::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..40), 0..3),
            keys in 0u64..4,
        ) {
            let _ = read_file(&sealed(&blocks, keys)[..]);
        }

        #[test]
        fn strange_files_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_file(&bytes[..]).is_err());
        }
    }

    #[test]
    fn a_declared_length_is_not_believed() {
        let mut file = sealed(&[], 0);
        file.truncate(HEADER_LEN);
        file.put_u32(MAX_BLOCK_BYTES as u32);
        file.put_u32(0);
        let error = read_file(&file[..]).err().unwrap();
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}
