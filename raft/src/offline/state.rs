use std::sync::Arc;

use bytes::Bytes;
use skiff_store::engine::Engine;
use skiff_store::error::Result;
use skiff_store::mvcc::{self, Mvcc, MvccConfig};

use super::MemberFiles;
use crate::codec;
use crate::node::start::check_gap;
use crate::types::{LogId, Payload, StoredMembership};

/// Entries, and bytes of commands, applied at a time.
const BATCH: (usize, usize) = (1024, 4 << 20);

/// The state of a member that does not run, or of a snapshot.
pub struct MemberState {
    /// The state machine.
    pub mvcc: Arc<Mvcc>,
    /// Last entry the database on disk holds.
    pub on_disk: Option<LogId>,
    /// Last entry applied here.
    pub applied: Option<LogId>,
    /// Last membership applied here.
    pub membership: StoredMembership,
}

impl MemberState {
    /// The state in `engine` alone, as of a snapshot.
    ///
    /// # Errors
    /// Where it is damaged or of a newer version.
    pub fn of_snapshot(engine: Arc<dyn Engine>) -> Result<Self> {
        let mvcc = Mvcc::open(engine, MvccConfig::default())?;
        let (applied, membership) = codec::decode_position(mvcc.position())?;
        Ok(Self { mvcc, on_disk: applied, applied, membership })
    }

    /// The state in `engine`, a stand-in for the database of `files`, with the
    /// committed entries of the log applied to it that the database does not
    /// hold yet.
    ///
    /// # Errors
    /// Where something is damaged, or the state and the log do not meet.
    pub fn of_member(files: &MemberFiles, engine: Arc<dyn Engine>) -> Result<Self> {
        let mut state = Self::of_snapshot(engine)?;
        let dir = files.index.parent().unwrap_or(&files.index);
        check_gap(files.log.purged().map(|id| id.index), state.applied.map(|id| id.index), dir)?;
        let first = state.applied.map_or(files.log.range().start, |id| id.index + 1);
        if let Some(committed) = files.committed(first, &state.membership)? {
            state.replay(files, first, committed)?;
        }
        Ok(state)
    }

    fn replay(&mut self, files: &MemberFiles, first: u64, committed: u64) -> Result<()> {
        let mut batch: Vec<mvcc::Entry> = Vec::new();
        let mut bytes = 0;
        for index in first..=committed {
            let Some(entry) = files.entry(index)? else { break };
            let commands = match entry.payload {
                Payload::Blank => Vec::new(),
                Payload::Normal(proposal) => {
                    bytes += proposal.encoded().len();
                    proposal.commands()?.commands.clone()
                }
                Payload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            self.applied = Some(entry.log_id);
            // The entry by which a cluster begins: the store counts from 1.
            if index == 0 {
                continue;
            }
            let term = entry.log_id.committed_leader_id().term;
            batch.push(mvcc::Entry { term, index, position: Bytes::new(), commands });
            if batch.len() >= BATCH.0 || bytes >= BATCH.1 {
                self.apply(&mut batch)?;
                bytes = 0;
            }
        }
        self.apply(&mut batch)
    }

    fn apply(&self, batch: &mut Vec<mvcc::Entry>) -> Result<()> {
        if let Some(last) = batch.last_mut() {
            last.position = codec::encode_position(self.applied.as_ref(), &self.membership);
        }
        self.mvcc.apply(batch)?;
        batch.clear();
        Ok(())
    }
}
