//! The receiving side: parts become a directory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path};

use crate::snapshot::SnapshotDir;
use crate::transport::pb::snapshot_part::Part;
use crate::transport::pb::{SnapshotChunk, SnapshotFile};

/// Files in one snapshot.
const MAX_FILES: usize = 100_000;

/// Why a snapshot could not be received. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The sender broke the protocol, or bytes were damaged on the way.
    #[error("damaged snapshot: {0}")]
    Damaged(String),
    /// The local disk failed or is full.
    #[error("cannot write the snapshot: {0}")]
    Io(#[from] io::Error),
    /// The sender went away or fell silent.
    #[error("snapshot transfer ended early: {0}")]
    Interrupted(String),
}

fn damaged(what: impl Into<String>) -> ReceiveError {
    ReceiveError::Damaged(what.into())
}

/// Writes parts to a directory and checks them on the way. Blocks.
pub(crate) struct Writer {
    dir: SnapshotDir,
    files: Vec<SnapshotFile>,
    /// The file being written, by its place in `files`.
    index: usize,
    open: Option<File>,
    written: u64,
    crc_file: u32,
    crc_total: u32,
    complete: bool,
}

impl Writer {
    /// Begins a snapshot of these files.
    ///
    /// # Errors
    /// If the list is not one of plain and different names.
    pub(crate) fn new(dir: SnapshotDir, files: Vec<SnapshotFile>) -> Result<Self, ReceiveError> {
        check_files(&files)?;
        fs::create_dir_all(dir.path())?;
        Ok(Writer {
            dir,
            files,
            index: 0,
            open: None,
            written: 0,
            crc_file: 0,
            crc_total: 0,
            complete: false,
        })
    }

    /// Takes the next part after the header.
    pub(crate) fn part(&mut self, part: Option<Part>) -> Result<(), ReceiveError> {
        if self.complete {
            return Err(damaged("a part follows the end"));
        }
        match part {
            Some(Part::Chunk(chunk)) => self.chunk(&chunk),
            Some(Part::FileEnd(end)) => self.file_end(end.crc32c),
            Some(Part::End(end)) => self.end(end.crc32c),
            Some(Part::Header(_)) => Err(damaged("a second header")),
            None => Err(damaged("a part of an unknown kind")),
        }
    }

    fn current(&self) -> Result<&SnapshotFile, ReceiveError> {
        self.files.get(self.index).ok_or_else(|| damaged("more files than announced"))
    }

    fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<(), ReceiveError> {
        let file = self.current()?;
        let fits = chunk.data.len() as u64 <= file.size - self.written;
        if chunk.offset != self.written || !fits {
            return Err(damaged(format!("{}: a chunk is out of place", file.name)));
        }
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(damaged(format!("{}: checksum mismatch at offset {}", file.name, chunk.offset)));
        }
        self.file()?.write_all(&chunk.data)?;
        self.written += chunk.data.len() as u64;
        self.crc_file = crc32c::crc32c_append(self.crc_file, &chunk.data);
        self.crc_total = crc32c::crc32c_append(self.crc_total, &chunk.data);
        Ok(())
    }

    /// The current file, created at its first use.
    fn file(&mut self) -> Result<&mut File, ReceiveError> {
        if self.open.is_none() {
            let path = self.dir.path().join(&self.current()?.name);
            self.open = Some(File::create_new(path)?);
        }
        self.open.as_mut().ok_or_else(|| damaged("no file is open"))
    }

    fn file_end(&mut self, crc: u32) -> Result<(), ReceiveError> {
        let file = self.current()?;
        if self.written != file.size || self.crc_file != crc {
            return Err(damaged(format!("{}: length or checksum mismatch of the file", file.name)));
        }
        self.file()?.sync_all()?;
        self.open = None;
        self.index += 1;
        self.written = 0;
        self.crc_file = 0;
        Ok(())
    }

    fn end(&mut self, crc: u32) -> Result<(), ReceiveError> {
        if self.index != self.files.len() || self.open.is_some() || self.crc_total != crc {
            return Err(damaged("files are missing or the checksum of the whole does not match"));
        }
        File::open(self.dir.path())?.sync_all()?;
        self.complete = true;
        Ok(())
    }

    /// The directory, durable and complete.
    ///
    /// # Errors
    /// If the end has not been seen.
    pub(crate) fn finish(self) -> Result<SnapshotDir, ReceiveError> {
        if self.complete {
            Ok(self.dir)
        } else {
            Err(ReceiveError::Interrupted("the sender closed the stream".to_owned()))
        }
    }
}

/// Names come from another process and become paths here: only plain ones.
fn check_files(files: &[SnapshotFile]) -> Result<(), ReceiveError> {
    if files.len() > MAX_FILES {
        return Err(damaged("too many files"));
    }
    let mut seen = HashSet::new();
    for file in files {
        let mut parts = Path::new(&file.name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == file.name.as_str());
        if !plain || file.name.contains('\0') || !seen.insert(file.name.as_str()) {
            return Err(damaged(format!("bad file name {:?}", file.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::pb::SnapshotPart;
    use crate::transport::snapshot::read::{list_files, read_parts};

    fn parts_of(dir: &Path) -> (Vec<SnapshotFile>, Vec<SnapshotPart>) {
        let files = list_files(dir).unwrap();
        let mut parts = Vec::new();
        read_parts(dir, &files, 64, |part| {
            parts.push(part);
            true
        })
        .unwrap();
        (files, parts)
    }

    fn write_all(
        root: &Path,
        files: Vec<SnapshotFile>,
        parts: &[SnapshotPart],
    ) -> Result<SnapshotDir, ReceiveError> {
        let mut writer = Writer::new(SnapshotDir::new(root.join("in")), files)?;
        for part in parts {
            writer.part(part.part.clone())?;
        }
        writer.finish()
    }

    fn source(sizes: &[usize]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (i, size) in sizes.iter().enumerate() {
            let data: Vec<u8> = (0..*size).map(|b| (b * 7 + i) as u8).collect();
            fs::write(dir.path().join(format!("{i:06}.sst")), data).unwrap();
        }
        dir
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn copies_any_directory(sizes in proptest::collection::vec(0usize..300, 0..6)) {
            let from = source(&sizes);
            let to = tempfile::tempdir().unwrap();
            let (files, parts) = parts_of(from.path());
            let dir = write_all(to.path(), files.clone(), &parts).unwrap();
            prop_assert_eq!(&list_files(dir.path()).unwrap(), &files);
            for file in files {
                prop_assert_eq!(fs::read(dir.path().join(&file.name)).unwrap(), fs::read(from.path().join(&file.name)).unwrap());
            }
        }

        #[test]
        fn refuses_any_lost_repeated_or_damaged_part(seed in any::<u64>(), fault in 0u8..3) {
            let from = source(&[100, 0, 65, 200]);
            let to = tempfile::tempdir().unwrap();
            let (files, mut parts) = parts_of(from.path());
            let at = seed as usize % parts.len();
            match fault {
                0 => { parts.remove(at); }
                1 => parts.insert(at, parts[at].clone()),
                _ => match parts[at].part.as_mut().unwrap() {
                    Part::Chunk(chunk) => {
                        let mut data = chunk.data.to_vec();
                        data[0] ^= 1;
                        chunk.data = data.into();
                    }
                    Part::FileEnd(end) => end.crc32c ^= 1,
                    Part::End(end) => end.crc32c ^= 1,
                    Part::Header(_) => unreachable!(),
                },
            }
            prop_assert!(write_all(to.path(), files, &parts).is_err());
            prop_assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "the partial directory is removed");
        }
    }

    #[test]
    fn refuses_names_that_leave_the_directory() {
        for name in ["", ".", "..", "a/b", "../a", "/etc/passwd", "a/", "./a"] {
            let files = vec![SnapshotFile { name: name.to_owned(), size: 0 }];
            assert!(check_files(&files).is_err(), "{name:?}");
        }
        let twice = vec![SnapshotFile { name: "a".to_owned(), size: 0 }; 2];
        assert!(check_files(&twice).is_err());
    }
}
