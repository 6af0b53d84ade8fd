//! Small files that hold secrets: for their owner alone, and replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The largest file that is read.
pub const MAX_BYTES: u64 = 1 << 20;

/// Makes a folder, and those above it, for their owner alone.
///
/// # Errors
/// A sentence with the path.
pub fn make_dir(dir: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| format!("cannot make {}: {e}", dir.display()))
}

/// Writes a file with mode 0600 that is there whole or not at all, and makes its
/// folder if need be.
///
/// # Errors
/// A sentence with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    replace(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // One that a killed process left may have another mode.
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file; `None` if it is not there.
///
/// # Errors
/// A sentence with the path: it cannot be read, or is larger than [`MAX_BYTES`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let failed = |e: io::Error| format!("cannot read {}: {e}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{} is larger than {MAX_BYTES} bytes", path.display()));
    }
    Ok(Some(bytes))
}

/// Reads a file of one line, such as a token.
///
/// # Errors
/// As [`read`], or it is no text.
pub fn read_line(path: &Path) -> Result<Option<String>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is no text", path.display()))?;
    Ok(Some(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        fs::write(dir.path().join("a/b.new"), "left behind").unwrap();
        write(&path, b"two\n").unwrap();
        assert_eq!(read_line(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(write(&path.join("c"), b"").unwrap_err().contains("a/b"));
    }
}
