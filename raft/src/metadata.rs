//! `member/metadata`: who this data directory belongs to.
//!
//! A small text of `key value` lines that ends in a checksum, replaced whole:
//! a format version first, so that an older binary refuses by name what a
//! newer one wrote.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use skiff_store::error::{Error, Result};

use crate::state::write_durably;

/// The format this version writes; it reads all up to it.
const FORMAT: u32 = 1;

/// The identity of a member, and the members it saw leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Cluster id.
    pub cluster_id: u64,
    /// Member id.
    pub member_id: u64,
    /// Members removed from the cluster; their ids never come back.
    pub removed: BTreeSet<u64>,
    /// A new cluster was forced, and no start without the flag came since.
    pub forced: bool,
    /// Where the log lies, if not in `wal` beside this file.
    pub log_dir: Option<PathBuf>,
}

impl Metadata {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Corruption`] where its checksum is wrong; [`Error::Storage`]
    /// where a newer version wrote it.
    pub fn load(member_dir: &Path) -> Result<Option<Self>> {
        let path = place(member_dir);
        match fs::read(&path) {
            // Bytes that are no text fail the checksum.
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), &path).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Storage(format!("{}: {e}", path.display()))),
        }
    }

    /// Replaces the file durably.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn save(&self, member_dir: &Path) -> Result<()> {
        let path = place(member_dir);
        write_durably(&path, self.render().as_bytes())
            .map_err(|e| Error::Storage(format!("{}: {e}", path.display())))
    }

    fn render(&self) -> String {
        let removed: Vec<String> = self.removed.iter().map(|id| format!("{id:016x}")).collect();
        let body = format!(
            "format {FORMAT}\ncluster {:016x}\nmember {:016x}\nremoved {}\n",
            self.cluster_id,
            self.member_id,
            removed.join(",")
        );
        let forced = if self.forced { "forced yes\n" } else { "" };
        let log = self.log_dir.as_ref().map_or_else(String::new, |dir| format!("log {}\n", dir.display()));
        let body = body + forced + &log;
        let sum = crc32c::crc32c(body.as_bytes());
        format!("{body}crc32c {sum:08x}\n")
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let corrupt = |what: &str| Error::Corruption(format!("{}: {what}", path.display()));
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let format: u32 = field("format").and_then(|v| v.parse().ok()).ok_or_else(|| corrupt("no format"))?;
        if format > FORMAT {
            return Err(Error::Storage(format!(
                "{}: format {format} is not known to this version, which reads up to {FORMAT}",
                path.display()
            )));
        }
        let (body, sum) = text.rsplit_once("crc32c ").ok_or_else(|| corrupt("no checksum"))?;
        let sum = sum.strip_suffix('\n').unwrap_or(sum);
        if u32::from_str_radix(sum, 16).ok() != Some(crc32c::crc32c(body.as_bytes())) {
            return Err(corrupt("wrong checksum"));
        }
        let id = |name: &str| {
            field(name).and_then(|v| u64::from_str_radix(v, 16).ok()).ok_or_else(|| corrupt(name))
        };
        let removed = field("removed")
            .unwrap_or_default()
            .split(',')
            .filter(|id| !id.is_empty())
            .map(|id| u64::from_str_radix(id, 16).map_err(|_| corrupt("removed")))
            .collect::<Result<_>>()?;
        let (forced, log_dir) = (field("forced") == Some("yes"), field("log").map(PathBuf::from));
        Ok(Self { cluster_id: id("cluster")?, member_id: id("member")?, removed, forced, log_dir })
    }
}

fn place(member_dir: &Path) -> PathBuf {
    member_dir.join("metadata")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Metadata {
        Metadata {
            cluster_id: 7,
            member_id: u64::MAX,
            removed: [3, 9].into(),
            forced: true,
            log_dir: Some("/a b".into()),
        }
    }

    #[test]
    fn survives_the_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Metadata::load(dir.path()).unwrap(), None);
        example().save(dir.path()).unwrap();
        assert_eq!(Metadata::load(dir.path()).unwrap(), Some(example()));
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let text = example().render();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(Metadata::parse(&changed, Path::new("metadata")).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let text = example().render().replace("format 1", "format 9");
        let error = Metadata::parse(&text, Path::new("metadata")).unwrap_err();
        assert!(matches!(error, Error::Storage(text) if text.contains("format 9")));
    }
}
