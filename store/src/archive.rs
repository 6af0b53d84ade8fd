//! Snapshots as files: a copy of a store, packed into one stream of bytes.
//!
//! The format is a tar archive (ustar) of the files of an engine's checkpoint,
//! with a manifest as its first entry, and behind its end the SHA-256 of all
//! bytes before. Everything in a tar is a multiple of 512 bytes long, so the
//! whole is 32 bytes longer than one: that is what etcd's clients check. The
//! manifest says the version of this format; it is called `skiff-snapshot`.
//!
//! Not here: what etcd's own offline tools read (they open a snapshot as a
//! bbolt database); that is [`crate::etcd_snapshot`].

mod pack;
mod tar;
mod unpack;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use pack::pack;
pub use unpack::{Checksum, unpack, unpack_with};

/// Version of the format. An archive of a higher one is refused.
pub const FORMAT: u32 = 1;
/// Name of the first entry.
const MANIFEST: &str = "skiff-snapshot";
/// Length of the checksum at the end.
const CHECKSUM: usize = 32;

/// What an archive says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Revision of the copy.
    pub revision: i64,
}

impl Manifest {
    fn encode(self) -> String {
        format!("format {FORMAT}\nrevision {}\n", self.revision)
    }

    fn decode(text: &[u8]) -> Result<Self> {
        let damaged = || Error::Corruption("the manifest of the snapshot".to_owned());
        let text = std::str::from_utf8(text).map_err(|_| damaged())?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let format: u32 = value("format").and_then(|format| format.parse().ok()).ok_or_else(damaged)?;
        if format > FORMAT {
            return Err(Error::Storage(format!(
                "the snapshot was written in format {format} by a newer skiff; this binary reads up to {FORMAT}"
            )));
        }
        let revision = value("revision").and_then(|revision| revision.parse().ok()).ok_or_else(damaged)?;
        Ok(Self { revision })
    }
}

/// A directory that is deleted when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Takes over a directory, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, kept: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot delete a snapshot's directory");
            }
            _ => {}
        }
    }
}

/// Says what failed where.
fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::Storage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::TryStreamExt;
    use proptest::prelude::*;

    type Files = Vec<(String, Vec<u8>)>;

    fn packed(files: &Files, revision: i64) -> Vec<u8> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("checkpoint");
        std::fs::create_dir(&dir).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(async {
            let stream = pack(Scratch::new(dir.clone()), Manifest { revision }).unwrap();
            assert_eq!((stream.revision, stream.size % 512), (revision, 32));
            let chunks: Vec<Bytes> = stream.chunks.try_collect().await.unwrap();
            let bytes = chunks.concat();
            assert_eq!(bytes.len() as u64, stream.size);
            bytes
        });
        assert!(!dir.exists(), "left behind");
        bytes
    }

    fn unpacked(bytes: &[u8]) -> Result<(Manifest, Files)> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("restored");
        let manifest = unpack(bytes, &dir).inspect_err(|_| assert!(!dir.exists(), "left behind"))?;
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        Ok((manifest, files))
    }

    fn any_files() -> impl Strategy<Value = Files> {
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            (0usize..3).prop_map(|blocks| vec![0; blocks * 512]),
            Just(vec![7; 700_000]),
        ];
        prop::collection::btree_map("[a-zA-Z0-9_-]{1,60}", bytes, 0..5)
            .prop_map(|files| files.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn what_is_packed_is_unpacked(files in any_files(), revision in any::<i64>()) {
            let bytes = packed(&files, revision);
            prop_assert_eq!(unpacked(&bytes).unwrap(), (Manifest { revision }, files));
        }

        #[test]
        fn damage_is_refused(files in any_files(), at in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let mut bytes = packed(&files, 7);
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 0x40;
            }
            prop_assert!(unpacked(&bytes).is_err());
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let mut bytes = packed(&Files::new(), 1);
        bytes.push(0);
        assert!(matches!(unpacked(&bytes), Err(Error::Corruption(_))));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let error = Manifest::decode(b"format 2\nrevision 1\n").unwrap_err().to_string();
        assert!(error.contains("format 2 by a newer skiff"), "{error}");
    }

    /// An archive whose checksum fits, of any headers and contents.
    fn sealed(parts: &[Vec<u8>]) -> Vec<u8> {
        use sha2::{Digest, Sha256};
        let manifest = Manifest { revision: 7 }.encode().into_bytes();
        let first = tar::Entry { name: MANIFEST.to_owned(), size: manifest.len() as u64 };
        let mut bytes = first.encode().unwrap().to_vec();
        bytes.extend(manifest);
        bytes.resize(1024, 0);
        parts.iter().for_each(|part| bytes.extend(part));
        bytes.resize(bytes.len() + 1024, 0);
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        bytes
    }

    fn header(name: &str, size: u64) -> Vec<u8> {
        let mut block = tar::Entry { name: "x".to_owned(), size }.encode().unwrap();
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }

    #[test]
    fn whoever_made_it_nothing_is_written_elsewhere() {
        for name in ["../outside", "/tmp/outside", "a/b", "..", ".", ".hidden", "a\\b"] {
            let error = unpacked(&sealed(&[header(name, 0)])).unwrap_err();
            assert!(matches!(error, Error::Corruption(_)), "{name}: {error}");
        }
        assert_eq!(unpacked(&sealed(&[header("plain", 0)])).unwrap().1.len(), 1);
    }

    #[test]
    fn a_name_may_come_once() {
        assert!(unpacked(&sealed(&[header("twice", 0), header("twice", 0)])).is_err());
    }

    #[test]
    fn a_declared_size_is_not_believed() {
        for size in [1 << 30, u64::MAX, u64::MAX - 511, 1 << 63] {
            let error = unpacked(&sealed(&[header("large", size)])).unwrap_err();
            assert!(matches!(&error, Error::Corruption(text) if text.contains("cut off")), "{size}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
        #[test]
        fn strange_archives_never_panic(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 512), 0..4),
            names in prop::collection::vec(("[ -~]{0,20}", any::<u64>()), 0..3),
            seed in prop::option::of(any::<u64>()),
        ) {
            let mut blocks: Vec<Vec<u8>> = names.iter().map(|(name, size)| header(name, *size)).collect();
            blocks.extend(parts);
            let bytes = sealed(&blocks);
            let bytes = seed.map_or(bytes.clone(), |seed| crate::conformance::fuzz::mutated(&bytes, seed));
            let _ = unpacked(&bytes);
            let root = tempfile::tempdir().unwrap();
            let _ = unpack_with(&bytes[..], &root.path().join("x"), Checksum::Ignore);
        }
    }
}
