//! Where the log lies: in the data directory, or where `--wal-dir` says.
//!
//! A log that is not found must never be begun anew: a vote would be forgotten,
//! and entries that were acknowledged. So the place is written down, and another
//! one is only taken if the log was moved there.

use std::io;
use std::path::{Path, PathBuf};

use skiff_store::error::{Error, Result};

use super::NodeConfig;
use crate::disk::Disk;
use crate::metadata::Metadata;

/// What a file of the log is called.
const SUFFIX: &str = ".wal";

/// The place of the log, written down if it was moved.
///
/// # Errors
/// Where the log is not at the place asked for, saying what to do.
pub(super) fn find(
    config: &NodeConfig,
    metadata: &mut Metadata,
    member_dir: &Path,
    disk: &dyn Disk,
) -> Result<PathBuf> {
    let default = member_dir.join("wal");
    let before = metadata.log_dir.clone().unwrap_or_else(|| default.clone());
    let wanted = config.wal_dir.clone().unwrap_or_else(|| default.clone());
    if wanted == before {
        return Ok(wanted);
    }
    let flag = |dir: &Path| match dir == default {
        true => "without --wal-dir".to_owned(),
        false => format!("with --wal-dir={}", dir.display()),
    };
    let (old, new) = (before.display(), wanted.display());
    match (holds_log(disk, &before)?, holds_log(disk, &wanted)?) {
        (false, true) => {
            tracing::warn!(from = %old, to = %new, "the log was moved");
            metadata.log_dir = config.wal_dir.clone();
            metadata.save(member_dir)?;
            Ok(wanted)
        }
        (true, false) => Err(Error::Other(format!(
            "the log of this member lies in {old}, not in {new}: start it {}, or move all files of {old} to \
             {new} and start it again like this",
            flag(&before)
        ))),
        (true, true) => Err(Error::Other(format!(
            "the log of this member lies in {old}, but there is another one in {new}: start it {}, or, if its \
             log was copied to {new}, remove {old}",
            flag(&before)
        ))),
        (false, false) => Err(Error::Corruption(format!(
            "the log of this member is missing: it lay in {old}, and {new} has none either"
        ))),
    }
}

/// Refuses to begin a member's life on a log that is there already.
///
/// # Errors
/// Where `--wal-dir` holds one.
pub(super) fn check_vacant(config: &NodeConfig, disk: &dyn Disk) -> Result<()> {
    match &config.wal_dir {
        Some(dir) if holds_log(disk, dir)? => Err(Error::Other(format!(
            "--wal-dir={}: holds a log already, but the data directory is new: give an empty directory, or the \
             data directory that belongs to the log",
            dir.display()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a state whose log is gone as a whole.
///
/// # Errors
/// Where something was applied, and there is no log.
pub(super) fn check_present(disk: &dyn Disk, dir: &Path, applied: bool) -> Result<()> {
    if applied && !holds_log(disk, dir)? {
        return Err(Error::Corruption(format!(
            "{}: the log is missing beside a state; restore a snapshot, or remove this member and add it again \
             with an empty data directory",
            dir.display()
        )));
    }
    Ok(())
}

fn holds_log(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| name.ends_with(SUFFIX))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::Storage(format!("{}: {error}", dir.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    struct Place {
        root: tempfile::TempDir,
        config: NodeConfig,
        metadata: Metadata,
    }

    impl Place {
        fn new(wal_dir: Option<&str>) -> Self {
            let root = tempfile::tempdir().unwrap();
            let wal_dir = wal_dir.map(|name| root.path().join(name));
            std::fs::create_dir(root.path().join("member")).unwrap();
            let metadata = Metadata {
                cluster_id: 1,
                member_id: 2,
                removed: Default::default(),
                forced: false,
                log_dir: wal_dir.clone(),
            };
            Self { config: NodeConfig { wal_dir, ..NodeConfig::default() }, root, metadata }
        }

        fn begin_log(&self, name: &str) {
            std::fs::create_dir_all(self.root.path().join(name)).unwrap();
            std::fs::write(self.root.path().join(name).join("0000000000000001.wal"), "log").unwrap();
        }

        fn ask(&mut self, wal_dir: Option<&str>) -> Result<PathBuf> {
            self.config.wal_dir = wal_dir.map(|name| self.root.path().join(name));
            find(&self.config, &mut self.metadata, &self.root.path().join("member"), &RealDisk)
        }
    }

    #[test]
    fn another_place_is_taken_only_if_the_log_is_there() {
        let mut place = Place::new(None);
        place.begin_log("member/wal");
        assert!(place.ask(None).is_ok());
        let error = place.ask(Some("fast")).unwrap_err().to_string();
        assert!(error.contains("start it without --wal-dir, or move all files"), "{error}");
        place.begin_log("fast");
        let error = place.ask(Some("fast")).unwrap_err().to_string();
        assert!(error.contains("another one in"), "{error}");
        std::fs::remove_dir_all(place.root.path().join("member/wal")).unwrap();
        assert_eq!(place.ask(Some("fast")).unwrap(), place.root.path().join("fast"));
        let written = Metadata::load(&place.root.path().join("member")).unwrap().unwrap();
        assert_eq!(written.log_dir, Some(place.root.path().join("fast")));
        // From now on the flag must stay.
        let error = place.ask(None).unwrap_err().to_string();
        assert!(
            error.contains(&format!("with --wal-dir={}", place.root.path().join("fast").display())),
            "{error}"
        );
    }

    #[test]
    fn a_lost_log_is_not_begun_anew() {
        let mut place = Place::new(Some("fast"));
        assert!(matches!(place.ask(None), Err(Error::Corruption(_))));
        let dir = place.ask(Some("fast")).unwrap();
        assert!(check_present(&RealDisk, &dir, false).is_ok());
        assert!(matches!(check_present(&RealDisk, &dir, true), Err(Error::Corruption(_))));
        assert!(check_vacant(&place.config, &RealDisk).is_ok());
        place.begin_log("fast");
        assert!(check_present(&RealDisk, &dir, true).is_ok());
        assert!(check_vacant(&place.config, &RealDisk).is_err());
    }
}
