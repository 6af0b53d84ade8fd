//! Snapshots as files: a copy of a store, packed into one stream of bytes.
//!
//! The format is a tar archive (ustar) of the files of an engine's checkpoint,
//! with a manifest as its first entry, and behind its end the SHA-256 of all
//! bytes before. Everything in a tar is a multiple of 512 bytes long, so the
//! whole is 32 bytes longer than one: that is what etcd's clients check. The
//! manifest says the version of this format; it is called `skiff-snapshot`.
//!
//! Not here: what etcd's own offline tools read (they open a snapshot as a
//! bbolt database).

mod pack;
mod tar;
mod unpack;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use pack::pack;
pub use unpack::unpack;

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
}
