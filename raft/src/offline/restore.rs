use std::path::Path;
use std::sync::Arc;

use prost::Message;
use skiff_store::engine::Engine;
use skiff_store::error::{Error, Result};
use skiff_store::mvcc::{Rebase, rebase};

use crate::codec;
use crate::disk::RealDisk;
use crate::metadata::Metadata;
use crate::node::NodeConfig;
use crate::node::bootstrap::{self, create_private};
use crate::node::start::wal_error;
use crate::state::StateDir;
use crate::types::{Membership, StoredMembership, Vote, log_id};
use crate::wal::{self, Wal, WalOptions};

/// The log entry that a restored state stands for. All members of the new
/// cluster begin behind it. It is not an entry that a cluster without a
/// snapshot can have: a member that was not restored does not match it, and
/// gets the whole state from the others.
const BEGIN: (u64, u64) = (1, 1);

/// What was made.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Who the new member is.
    pub metadata: Metadata,
    /// The revision it begins at.
    pub revision: i64,
}

/// Makes the files of a member out of a snapshot, in `config.data_dir`, which
/// nothing else may use yet: `member/` there must not exist. Every member of
/// the new cluster is made from the same snapshot with the same
/// `initial_cluster`. All of it is durable when this returns; where it fails
/// or the machine stops, what was made so far is of no use.
///
/// `unpack` makes the database that the snapshot holds in a directory, which
/// does not exist; `engine` opens it there and checks all of it. With `bump`,
/// revisions go on that much higher, and all before are compacted.
///
/// # Errors
/// [`Error::Corruption`] where the snapshot is damaged; [`Error::Other`] where
/// the settings contradict each other; [`Error::Storage`] where the disk fails
/// or a newer version wrote the snapshot.
pub fn restore(
    config: &NodeConfig,
    bump: Option<i64>,
    unpack: impl FnOnce(&Path) -> Result<()>,
    engine: impl FnOnce(&Path) -> Result<Arc<dyn Engine>>,
) -> Result<Restored> {
    let first = bootstrap::new(config)?;
    let members = first.initial.unwrap_or_default();
    let at = log_id(BEGIN.0, BEGIN.1);
    let voters = vec![members.keys().copied().collect()];
    let membership = Membership::new(voters, members).map_err(|e| Error::Other(e.to_string()))?;
    let membership = StoredMembership::new(Some(at), membership);

    let dir = config.data_dir.join("member");
    let failed = |e: std::io::Error| Error::Storage(format!("{}: {e}", dir.display()));
    if dir.exists() {
        return Err(Error::Other(format!("{} exists already", dir.display())));
    }
    let root = dir.join("state");
    create_private(&root).map_err(failed)?;
    let state = StateDir::first(&root);
    unpack(&state)?;
    let position = codec::encode_position(Some(&at), &membership);
    let revision = {
        let engine = engine(&state)?;
        rebase(engine.as_ref(), &Rebase { term: BEGIN.0, index: BEGIN.1, position, bump })?
    };
    StateDir::begin(&root)?;
    begin_log(&dir.join("wal"), config.log_segment_bytes, first.metadata.member_id).map_err(wal_error)?;
    first.metadata.save(&dir)?;
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(Restored { metadata: first.metadata, revision })
}

/// A log that goes on behind the restored state. The vote keeps the first
/// election out of the term of the entry the state stands for.
fn begin_log(dir: &Path, segment_bytes: u64, member: u64) -> Result<(), wal::Error> {
    let options = WalOptions { segment_bytes, background_spares: false, ..WalOptions::new(dir) };
    let log = Wal::open(Arc::new(RealDisk), options)?;
    let (term, index) = BEGIN;
    log.purge(wal::LogId { term, leader: 0, index })?;
    let (done, wait) = std::sync::mpsc::channel();
    let vote = codec::encode_vote(&Vote::new(term, member)).encode_to_vec();
    log.save_vote(vote.into(), Box::new(move |result| drop(done.send(result))))?;
    let saved = wait.recv().map_err(|_| wal::Error::Closed)?;
    log.close();
    saved.map_err(|source| wal::Error::Io { action: "write", path: dir.to_owned(), source })
}
