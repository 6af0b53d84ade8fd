//! `defrag`: gives the space of removed data back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skiff_raft::state::StateDir;
use skiff_store::Error;
use skiff_store::engine::Engine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::mvcc::{Mvcc, MvccConfig};

use super::Problem;
use super::arguments::Arguments;
use super::source::{bytes_in, lock};
use super::status::human;
use super::{output, source};
use crate::process::lock_dir;

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let source::Place::DataDir(dir) = arguments.place()? else {
        return Err(Problem::Usage("name the data directory of a member (--data-dir)".to_owned()));
    };
    let state = state_of(&dir)?;
    // Tells what to do where it is locked; the lock to write follows.
    drop(lock(&dir)?);
    let _lock = lock_dir("data directory", &dir)?;
    let before = bytes_in(&state)?;
    defragment(&state).map_err(|error| error.to_string())?;
    let after = bytes_in(&state)?;
    output::print(&format!(
        "Finished defragmenting {}: {} before, {} now\n",
        dir.display(),
        human(before),
        human(after)
    ))
}

fn state_of(dir: &Path) -> Result<PathBuf, String> {
    StateDir::current(&dir.join("member").join("state"))
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("{} is not the data directory of a member", dir.display()))
}

fn defragment(state: &Path) -> Result<(), Error> {
    let engine = Arc::new(RocksEngine::open(state, &RocksOptions::default())?);
    let mvcc = Mvcc::open(engine.clone(), MvccConfig::default())?;
    // What a compaction has not removed yet, for want of time.
    let mut steps = 0_u64;
    while mvcc.compact_step()? {
        steps += 1;
        if steps.is_multiple_of(1000) {
            eprintln!("removing compacted revisions: step {steps}");
        }
    }
    drop(mvcc);
    engine.reclaim_all(&mut |done, of| eprintln!("rewriting tables: {done} of {of}"))?;
    engine.flush()
}
