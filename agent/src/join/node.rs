//! Who a node is.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::files::{self, Readers};

const MAX_FILE: u64 = 1024;

/// Who joins.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Its addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// The file with the password that keeps the name for it; made where there is none.
    pub password_file: PathBuf,
}

/// The node's password: from its file, or made and kept there.
///
/// # Errors
/// The file cannot be read or written, or is empty.
pub fn node_password(file: &Path) -> io::Result<String> {
    kept(file, || hex(&rand::random::<[u8; 16]>()))
}

/// The node's id, for `--with-node-id`: from its file, or made and kept there.
///
/// # Errors
/// The file cannot be read or written, or is empty.
pub fn node_id(file: &Path) -> io::Result<String> {
    kept(file, || hex(&rand::random::<[u8; 4]>()))
}

fn kept(file: &Path, make: impl FnOnce() -> String) -> io::Result<String> {
    let Some(bytes) = files::read(file, MAX_FILE)? else {
        let made = make();
        files::write(file, format!("{made}\n").as_bytes(), Readers::Owner)?;
        return Ok(made);
    };
    let damaged = |what| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is {what}; restore it, or remove it to have a new one made", file.display()),
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged("not text"))?;
    match text.trim() {
        "" => Err(damaged("empty")),
        text if text.chars().any(|c| c.is_control()) => Err(damaged("more than one line")),
        text => Ok(text.to_owned()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_made_once_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node/password");
        let password = node_password(&file).unwrap();
        assert_eq!(password.len(), 32);
        assert_eq!(node_password(&file).unwrap(), password);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(node_password(&dir.path().join("other")).unwrap(), password);
        assert_eq!(node_id(&dir.path().join("id")).unwrap().len(), 8);
    }

    #[test]
    fn a_damaged_file_is_said_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        for text in ["", " \n", "a\nb", &"x".repeat(2000)] {
            std::fs::write(&file, text).unwrap();
            let error = node_password(&file).unwrap_err().to_string();
            assert!(error.contains("password"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }
}
