//! The replica's engines, and bringing it up to what the database says.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_store::engine::Engine;
use skiff_store::engine::mem::MemEngine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::mvcc::{Entry, EntryOutcome};
use skiff_store::{Error, Result};

use super::head::Head;
use super::hold::Hold;
use super::{Core, blocking, failure::Failure, load, log};
use crate::db::{DbError, DbErrorKind, Session};
use crate::metrics::METRICS;

/// Entries read at once.
const PAGE: usize = 32;

/// Where the replica lies in its folder.
const SUBFOLDER: &str = "replica";

/// Makes empty engines for a replica.
pub(crate) struct Engines {
    dir: Option<PathBuf>,
    count: u64,
    /// The one that is read from.
    live: u64,
}

impl Engines {
    /// In a subfolder of `dir` that is emptied; in memory without. One server
    /// at a time: whoever gives the folder has locked it.
    ///
    /// # Errors
    /// The folder cannot be made or emptied.
    pub(crate) fn new(dir: Option<PathBuf>) -> Result<Self> {
        let dir = dir.map(|dir| dir.join(SUBFOLDER));
        if let Some(dir) = &dir {
            let failed = |error| Error::Storage(format!("{}: {error}", dir.display()));
            if dir.exists() {
                std::fs::remove_dir_all(dir).map_err(failed)?;
            }
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        Ok(Self { dir, count: 0, live: 0 })
    }

    /// An empty engine. The live one stays where it is.
    ///
    /// # Errors
    /// Faults of the disk.
    pub(crate) fn make(&mut self) -> Result<Arc<dyn Engine>> {
        let Some(dir) = &self.dir else { return Ok(Arc::new(MemEngine::new())) };
        self.remove_all_but(self.live);
        self.count += 1;
        let engine = RocksEngine::open(&dir.join(self.count.to_string()), &RocksOptions::default())?;
        Ok(Arc::new(engine))
    }
}

impl Engines {
    /// Notes that the engine made last is read from now on.
    pub(crate) fn installed(&mut self) {
        self.live = self.count;
        self.remove_all_but(self.live);
    }

    fn remove_all_but(&self, kept: u64) {
        let Some(dir) = &self.dir else { return };
        for old in (1..=self.count).filter(|number| *number != kept) {
            // Most are long gone.
            let _ = std::fs::remove_dir_all(dir.join(old.to_string()));
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// The right to change the replica.
pub(crate) struct Replica {
    pub(crate) engines: Engines,
    /// Applying failed half-way: only filling it anew helps.
    pub(crate) broken: bool,
    /// Keeps the log until it is caught up with.
    pub(crate) hold: Option<Hold>,
}

impl Replica {
    /// Applies the entries that the log holds beyond the replica's position,
    /// up to `head`.
    ///
    /// # Errors
    /// The database or the replica's engine failed: to be tried again.
    /// [`Failure::Behind`]: only [`Replica::reload`] helps. That the database has
    /// gone back, which the store does not survive.
    pub(crate) async fn catch_up(
        &mut self,
        core: &Core,
        session: &mut dyn Session,
        head: &Head,
    ) -> Result<(), Failure> {
        if self.broken {
            return Err(Failure::Behind);
        }
        if head.index < core.mvcc.applied_index() || core.tail.contradicts(head) {
            return Err(gone_back(core, head));
        }
        if head.index == core.mvcc.applied_index() && head.writer.is_none() {
            // The lock was waited for: the entry may be one that the statement could not see.
            let writer = log::writer_of(session, head.index).await?;
            if core.tail.contradicts(&Head { writer, ..head.clone() }) {
                return Err(gone_back(core, head));
            }
        }
        while core.mvcc.applied_index() < head.index {
            let applied = core.mvcc.applied_index();
            let mut entries = log::read(session, applied, PAGE).await?;
            if entries.first().is_some_and(|(entry, _)| entry.index == applied) {
                let (_, writer) = entries.remove(0);
                if core.tail.of(applied).is_some_and(|ours| ours != writer) {
                    return Err(gone_back(core, head));
                }
            }
            match entries.first() {
                Some((entry, _)) if entry.index == applied + 1 => self.apply(core, entries).await?,
                // They have been pruned.
                _ => return Err(Failure::Behind),
            }
        }
        self.hold = None;
        Ok(())
    }

    async fn apply(&mut self, core: &Core, entries: Vec<(Entry, String)>) -> Result<()> {
        let mvcc = core.mvcc.clone();
        let (entries, mut writers): (Vec<Entry>, Vec<String>) = entries.into_iter().unzip();
        match blocking(move || mvcc.apply(&entries)).await {
            Ok(outcomes) => {
                if let Some(writer) = writers.pop() {
                    core.tail.note(core.mvcc.applied_index(), writer);
                }
                self.applied(core, &outcomes);
                Ok(())
            }
            Err(error) => {
                self.broken = true;
                Err(error)
            }
        }
    }

    /// Notes what was applied.
    pub(crate) fn applied(&mut self, core: &Core, outcomes: &[EntryOutcome]) {
        let now = core.clock.now();
        for outcome in outcomes.iter().filter(|outcome| !outcome.tokens.is_empty()) {
            core.tokens.apply(&outcome.tokens, now);
        }
        core.applied.send_replace(core.mvcc.applied_index());
    }

    /// Fills the replica anew from the tables. May take minutes: not while
    /// others wait for a lock in the database.
    ///
    /// # Errors
    /// The database or the engine failed: to be tried again.
    pub(crate) async fn reload(&mut self, core: &Core) -> Result<()> {
        tracing::info!(index = core.mvcc.applied_index(), "filling the replica anew");
        METRICS.reloads.inc();
        let engine = self.engines.make()?;
        let (loaded, hold) = load(&core.db, engine.clone()).await?;
        if loaded.index < core.mvcc.applied_index() || loaded.revision < core.mvcc.revision() {
            return Err(gone_back_to(core, loaded.index));
        }
        let mvcc = core.mvcc.clone();
        blocking(move || mvcc.install(engine)).await?;
        self.hold = hold;
        loaded.note(&core.tail);
        self.engines.installed();
        core.tokens.clear();
        self.broken = false;
        core.applied.send_replace(core.mvcc.applied_index());
        Ok(())
    }
}

/// Stops the store, unless a replica that is behind may have answered.
fn gone_back(core: &Core, head: &Head) -> Failure {
    if head.may_lag {
        let text = "the database server that answers takes no writes and is behind what this server has seen";
        return DbError::new(DbErrorKind::ReadOnly, text).into();
    }
    gone_back_to(core, head.index).into()
}

fn gone_back_to(core: &Core, index: u64) -> Error {
    let error = Error::Unavailable(format!(
        "the datastore has gone back: this server has seen entry {}, and the entry there, or the last one, \
         which is {}, is another; as after a restore of an older backup or a failover to a replica that was \
         behind: restart this server to accept its state",
        core.mvcc.applied_index(),
        index
    ));
    core.contact.fail(error.clone());
    error
}
