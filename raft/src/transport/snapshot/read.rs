//! The sending side: a directory becomes parts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bytes::BytesMut;

use crate::transport::pb::snapshot_part::Part;
use crate::transport::pb::{SnapshotChunk, SnapshotEnd, SnapshotFile, SnapshotFileEnd, SnapshotPart};

/// The files of a snapshot's directory by name. Their contents must not change
/// any more.
///
/// # Errors
/// As of the file system; a directory within the directory, or a name that is
/// not UTF-8, is invalid data.
pub(crate) fn list_files(dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let name = entry.file_name().into_string().ok();
        let name = name.filter(|_| meta.is_file()).ok_or_else(|| {
            let path = entry.path();
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a plain file", path.display()))
        })?;
        files.push(SnapshotFile { name, size: meta.len() });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Reads the files in order and hands on every part after the header, ending
/// early if `emit` answers false. Blocks.
///
/// # Errors
/// As of the file system; a file whose length changed is invalid data.
pub(crate) fn read_parts(
    dir: &Path,
    files: &[SnapshotFile],
    chunk_bytes: usize,
    mut emit: impl FnMut(SnapshotPart) -> bool,
) -> io::Result<()> {
    let mut total = 0;
    for file in files {
        let mut source = File::open(dir.join(&file.name))?;
        let mut offset = 0;
        let mut whole = 0;
        while offset < file.size {
            let wanted = (file.size - offset).min(chunk_bytes as u64) as usize;
            let mut data = BytesMut::zeroed(wanted);
            source.read_exact(&mut data)?;
            let data = data.freeze();
            whole = crc32c::crc32c_append(whole, &data);
            total = crc32c::crc32c_append(total, &data);
            let chunk = SnapshotChunk { offset, crc32c: crc32c::crc32c(&data), data };
            offset += wanted as u64;
            if !emit(part(Part::Chunk(chunk))) {
                return Ok(());
            }
        }
        if source.read(&mut [0])? != 0 {
            let message = format!("{} grew while it was sent", file.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !emit(part(Part::FileEnd(SnapshotFileEnd { crc32c: whole }))) {
            return Ok(());
        }
    }
    emit(part(Part::End(SnapshotEnd { crc32c: total })));
    Ok(())
}

fn part(part: Part) -> SnapshotPart {
    SnapshotPart { part: Some(part) }
}
