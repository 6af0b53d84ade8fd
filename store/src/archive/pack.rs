//! Packing of a directory.

use std::fs::{self, File};
use std::io::Read;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::tar::{BLOCK, Entry};
use super::{CHECKSUM, MANIFEST, Manifest, Scratch, failed};
use crate::api::SnapshotStream;
use crate::error::{Error, Result};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for the stream's reader.
const CHUNKS: usize = 4;

/// Streams the plain files of a directory as one archive. The directory is
/// deleted when the stream has ended or is dropped. Blocks on the directory;
/// the files are read by a blocking task of the current tokio runtime.
///
/// # Errors
/// The directory cannot be read, or holds something but plain files.
pub fn pack(dir: Scratch, manifest: Manifest) -> Result<SnapshotStream> {
    let entries = list(&dir)?;
    let text = manifest.encode().into_bytes();
    let first = Entry { name: MANIFEST.to_owned(), size: text.len() as u64 };
    let files: u64 = entries.iter().map(Entry::packed_size).sum();
    let size = first.packed_size() + files + 2 * BLOCK as u64 + CHECKSUM as u64;
    let (chunks, mut stream) = tokio::sync::mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut packer = Packer { hash: Sha256::new(), chunks };
        if let Err(Stop::Failed(error)) = packer.run(&dir, &first, text, &entries) {
            let _ = packer.chunks.blocking_send(Err(error));
        }
        // The stream ends when the packer is dropped: by then the directory
        // is gone.
        drop(dir);
        drop(packer);
    });
    let chunks = Box::pin(futures::stream::poll_fn(move |cx| stream.poll_recv(cx)));
    Ok(SnapshotStream { size, revision: manifest.revision, chunks })
}

fn list(dir: &Scratch) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir.path()).map_err(failed(dir.path()))? {
        let entry = entry.map_err(failed(dir.path()))?;
        let data = entry.metadata().map_err(failed(&entry.path()))?;
        let name = entry.file_name().into_string();
        let (Ok(name), true) = (name, data.is_file()) else {
            return Err(Error::Storage(format!("{}: not a plain file", entry.path().display())));
        };
        entries.push(Entry { name, size: data.len() });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Why packing ended early.
enum Stop {
    /// Nobody reads the stream any more.
    Abandoned,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

struct Packer {
    hash: Sha256,
    chunks: Sender<Result<Bytes>>,
}

impl Packer {
    fn run(
        &mut self,
        dir: &Scratch,
        first: &Entry,
        manifest: Vec<u8>,
        entries: &[Entry],
    ) -> Result<(), Stop> {
        self.send(first.encode()?.to_vec())?;
        self.send(padded(manifest))?;
        for entry in entries {
            self.send(entry.encode()?.to_vec())?;
            self.file(dir, entry)?;
        }
        self.send(vec![0; 2 * BLOCK])?;
        let checksum = self.hash.clone().finalize();
        self.send(checksum.to_vec())
    }

    fn file(&mut self, dir: &Scratch, entry: &Entry) -> Result<(), Stop> {
        let path = dir.path().join(&entry.name);
        let mut file = File::open(&path).map_err(failed(&path))?.take(entry.size);
        let mut left = entry.size;
        while left > 0 {
            let mut chunk = vec![0; left.min(CHUNK as u64) as usize];
            file.read_exact(&mut chunk).map_err(failed(&path))?;
            left -= chunk.len() as u64;
            self.send(if left == 0 { padded(chunk) } else { chunk })?;
        }
        Ok(())
    }

    fn send(&mut self, chunk: Vec<u8>) -> Result<(), Stop> {
        self.hash.update(&chunk);
        self.chunks.blocking_send(Ok(chunk.into())).map_err(|_| Stop::Abandoned)
    }
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}
