//! `snapshot restore`: a member of a new cluster, from a snapshot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use skiff_raft::offline::{self, Restored};
use skiff_store::Error;
use skiff_store::engine::Engine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::mvcc::audit;

use super::Problem;
use super::arguments::Arguments;
use super::output;
use super::source::{checksum, open_snapshot, unpack_snapshot};
use super::status::hex;
use crate::cli::{Request, Settings};
use crate::config::Config;
use crate::etcd::node_config;
use crate::process::lock_dir;

/// Flags that mean here what they mean to a member that starts.
const SHARED: [&str; 5] =
    ["name", "data-dir", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls"];

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let snapshot = PathBuf::from(arguments.word("a snapshot")?);
    let bump = bump(arguments)?;
    if !arguments.text("wal-dir").is_empty() {
        return Err(Problem::Usage(
            "--wal-dir cannot be used here: restore without it, move the files of member/wal, and start with --wal-dir"
                .to_owned(),
        ));
    }
    let config = config(arguments)?;
    check_target(&config.data_dir)?;
    let file = open_snapshot(&snapshot)?;
    let restored =
        make(&config, bump, |dir| unpack_snapshot(file, checksum(arguments), dir)).map_err(|problem| {
            match problem {
                Unmade::Contents(error) => format!("{}: {error}", snapshot.display()),
                Unmade::Place(problem) => problem,
            }
        })?;
    report(arguments, &config, &restored)
}

/// By how much to raise the revision.
fn bump(arguments: &Arguments) -> Result<Option<i64>, Problem> {
    let by = arguments.count("bump-revision")?;
    match (by, arguments.bool("mark-compacted")) {
        (0, false) => Ok(None),
        (by, true) if by > 0 => Ok(Some(by)),
        _ => Err(Problem::Usage(
            "--mark-compacted is required with --bump-revision above 0, and not allowed without".to_owned(),
        )),
    }
}

/// The settings of the member to be, checked as its start checks them.
pub(crate) fn config(arguments: &Arguments) -> Result<Config, Problem> {
    let flags = SHARED.iter().map(|name| (name, arguments.text(name))).filter(|(_, text)| !text.is_empty());
    let flags: Vec<String> = flags.map(|(name, text)| format!("--{name}={text}")).collect();
    match Settings::parse(flags, []) {
        Ok(Request::Run(settings)) => Config::from_settings(&settings).map_err(Problem::Usage),
        Ok(_) => Err(Problem::Usage("these flags ask for something else".to_owned())),
        Err(problem) => Err(Problem::Usage(problem.to_string())),
    }
}

/// Refuses a directory that holds something.
pub(crate) fn check_target(dir: &Path) -> Result<(), String> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(format!(
            "data-dir {:?} not empty or could not be read; name one that does not exist (--data-dir)",
            dir.display().to_string()
        )),
    }
}

/// Why there is no data directory now.
pub(crate) enum Unmade {
    /// What was to be put there is damaged or cannot be there.
    Contents(Error),
    /// It cannot be put there.
    Place(String),
}

impl From<String> for Unmade {
    fn from(problem: String) -> Self {
        Unmade::Place(problem)
    }
}

/// Makes the data directory of a member, whose database `unpack` makes in a
/// directory that does not exist.
///
/// Makes everything in a directory beside and renames it: what is at the
/// directory's own name is whole or not there.
pub(crate) fn make(
    config: &Config,
    bump: Option<i64>,
    unpack: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<Restored, Unmade> {
    let target =
        std::path::absolute(&config.data_dir).map_err(|e| format!("{}: {e}", config.data_dir.display()))?;
    let mut name = target.file_name().ok_or_else(|| "--data-dir names no directory".to_owned())?.to_owned();
    name.push(".restoring");
    let beside = target.with_file_name(name);
    // Two restores of the same directory do not meet; what one left behind
    // that was killed is taken over.
    let _lock = lock_dir("data directory", &beside)?;
    let failed = |e: std::io::Error| format!("{}: {e}", beside.display());
    clear(&beside).map_err(failed)?;
    let mut node = node_config(config);
    node.data_dir.clone_from(&beside);
    let engine = |dir: &Path| {
        let options = RocksOptions { verify: true, ..RocksOptions::default() };
        let engine = RocksEngine::open(dir, &options)?;
        audit(&engine, None)?;
        Ok(Arc::new(engine) as Arc<dyn Engine>)
    };
    let restored = offline::restore(&node, bump, unpack, engine);
    let done = restored.map_err(Unmade::Contents).and_then(|restored| {
        fs::rename(&beside, &target)
            .map_err(|e| format!("cannot rename {} to {}: {e}", beside.display(), target.display()))?;
        Ok(restored)
    });
    match done {
        Ok(restored) => {
            let parent = target.parent().unwrap_or(Path::new("/"));
            File::open(parent)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| format!("{}: {e}", parent.display()))?;
            Ok(restored)
        }
        Err(problem) => {
            // Of no use to anyone; the next attempt would delete it as well.
            let _ = fs::remove_dir_all(&beside);
            Err(problem)
        }
    }
}

/// Deletes everything but the lock.
fn clear(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == "LOCK" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn report(arguments: &Arguments, config: &Config, restored: &Restored) -> Result<(), Problem> {
    let mut answer: Map<String, Value> = Map::new();
    answer.insert("dataDir".into(), config.data_dir.display().to_string().into());
    answer.insert("memberID".into(), hex(restored.metadata.member_id).into());
    answer.insert("clusterID".into(), hex(restored.metadata.cluster_id).into());
    answer.insert("revision".into(), restored.revision.into());
    let simple = format!(
        "restored {} at revision {}: member {} of cluster {}\n\
         restore the other members from the same file, then start each with the flags given here\n",
        config.data_dir.display(),
        restored.revision,
        hex(restored.metadata.member_id),
        hex(restored.metadata.cluster_id),
    );
    output::answer(arguments, &answer, &simple, &[])
}
