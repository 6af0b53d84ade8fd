//! Unpacking, with every byte checked.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::tar::{BLOCK, Entry};
use super::{CHECKSUM, MANIFEST, Manifest, Scratch, failed};
use crate::error::{Error, Result};

/// A manifest is longer than this only by mistake.
const MAX_MANIFEST: u64 = 4096;

/// Unpacks an archive into `dir`, which must not exist, and makes its files
/// durable. Leaves nothing behind where it fails. Blocks.
///
/// # Errors
/// [`Error::Corruption`] where the archive is damaged, cut or none at all;
/// [`Error::Storage`] where a newer version wrote it, or the disk fails.
pub fn unpack(archive: impl Read, dir: &Path) -> Result<Manifest> {
    unpack_with(archive, dir, Checksum::Compare)
}

/// Whether the checksum at the end of an archive counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// It must fit.
    Compare,
    /// It may be wrong: for what can still be saved of a damaged archive.
    Ignore,
}

/// As [`unpack`], with or without a look at the checksum.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_with(archive: impl Read, dir: &Path, checksum: Checksum) -> Result<Manifest> {
    fs::create_dir(dir).map_err(failed(dir))?;
    let scratch = Scratch::new(dir.to_owned());
    let manifest = Unpacker { archive, hash: Sha256::new(), checksum }.run(dir)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))?;
    scratch.keep();
    Ok(manifest)
}

struct Unpacker<R> {
    archive: R,
    hash: Sha256,
    checksum: Checksum,
}

impl<R: Read> Unpacker<R> {
    fn run(&mut self, dir: &Path) -> Result<Manifest> {
        let manifest = self.manifest()?;
        while let Some(entry) = self.header()? {
            let path = dir.join(&entry.name);
            let mut file = File::create_new(&path).map_err(failed(&path))?;
            self.contents(entry.size, |bytes| file.write_all(bytes).map_err(failed(&path)))?;
            file.sync_all().map_err(failed(&path))?;
        }
        let mut end = [0; BLOCK];
        self.read(&mut end)?;
        self.check_end(&end)?;
        Ok(manifest)
    }

    fn manifest(&mut self) -> Result<Manifest> {
        let no_archive = || Error::Corruption("this is no snapshot written by skiff".to_owned());
        let entry = self.header().map_err(|_| no_archive())?;
        let entry = entry.filter(|entry| entry.name == MANIFEST && entry.size <= MAX_MANIFEST);
        let mut text = Vec::new();
        self.contents(entry.ok_or_else(no_archive)?.size, |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        Manifest::decode(&text)
    }

    fn check_end(&mut self, end: &[u8; BLOCK]) -> Result<()> {
        let expected = self.hash.clone().finalize();
        let mut checksum = [0; CHECKSUM];
        self.read(&mut checksum)?;
        let fits = checksum[..] == expected[..] || self.checksum == Checksum::Ignore;
        if *end != [0; BLOCK] || !fits {
            return Err(Error::Corruption("the snapshot's checksum does not fit its contents".to_owned()));
        }
        match self.archive.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::Corruption("the snapshot goes on behind its end".to_owned())),
            Err(error) => Err(read_error(&error)),
        }
    }

    fn header(&mut self) -> Result<Option<Entry>> {
        let mut block = [0; BLOCK];
        self.read(&mut block)?;
        Entry::decode(&block)
    }

    /// Reads a file and its padding.
    fn contents(&mut self, size: u64, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let wanted = left.min(buffer.len() as u64) as usize;
            // The last read takes the padding with it.
            let bytes = &mut buffer[..wanted.next_multiple_of(BLOCK)];
            self.read(bytes)?;
            write(&bytes[..wanted])?;
            left -= wanted as u64;
        }
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.archive.read_exact(bytes).map_err(|error| read_error(&error))?;
        self.hash.update(bytes);
        Ok(())
    }
}

fn read_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::Corruption("the snapshot is cut off".to_owned());
    }
    Error::Storage(format!("reading the snapshot: {error}"))
}
