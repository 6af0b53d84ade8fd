use std::path::{Path, PathBuf};

use skiff_store::error::{Error, Result};

use crate::codec;
use crate::disk::ReadOnlyDisk;
use crate::metadata::Metadata;
use crate::node::start::wal_error;
use crate::pb::skiff::raft::v1::Vote as StoredVote;
use crate::state::StateDir;
use crate::types::{Entry, Membership, Payload, StoredMembership, Vote, log_id};
use crate::wal::LogImage;

/// The files of a member, each checked as it is read.
pub struct MemberFiles {
    /// Whose they are.
    pub metadata: Metadata,
    /// The log.
    pub log: LogImage,
    /// The database in use.
    pub state: PathBuf,
    /// The index file, where there may be one.
    pub index: PathBuf,
}

impl MemberFiles {
    /// Looks at the member in `data_dir`. Reads the whole log.
    ///
    /// # Errors
    /// [`Error::Corruption`] naming the file where something is damaged or
    /// missing; [`Error::Storage`] where a newer version wrote it, or the disk
    /// fails.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let dir = data_dir.join("member");
        if !dir.is_dir() {
            return Err(Error::Other(format!(
                "{} is not the data directory of a member: there is no `member` in it",
                data_dir.display()
            )));
        }
        let missing = |what: &str| Error::Corruption(format!("{} is missing", dir.join(what).display()));
        let metadata = Metadata::load(&dir)?.ok_or_else(|| missing("metadata"))?;
        let wal = metadata.log_dir.clone().unwrap_or_else(|| dir.join("wal"));
        if !wal.is_dir() {
            return Err(Error::Corruption(format!("{} is missing", wal.display())));
        }
        let log = LogImage::open(&ReadOnlyDisk, &wal).map_err(wal_error)?;
        // The log is begun before the state is.
        if log.segments() == 0 {
            return Err(Error::Corruption(format!("{}: the segments of the log are missing", wal.display())));
        }
        let state = StateDir::current(&dir.join("state"))?.ok_or_else(|| missing("state/CURRENT"))?;
        Ok(Self { metadata, log, state, index: dir.join("index") })
    }

    /// Reads an entry of the log; `None` where there is none of that index.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it is damaged.
    pub fn entry(&self, index: u64) -> Result<Option<Entry>> {
        let Some(entry) = self.log.entry(index).map_err(wal_error)? else { return Ok(None) };
        let at = log_id(entry.id.term, entry.id.index);
        let named = |e| match e {
            Error::Corruption(text) => Error::Corruption(format!("log entry {index}: {text}")),
            other => other,
        };
        codec::decode_entry(at, entry.kind, entry.payload).map(Some).map_err(named)
    }

    /// The member's vote.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it is no vote.
    pub fn vote(&self) -> Result<Option<Vote>> {
        let decode = |bytes| {
            <StoredVote as prost::Message>::decode(bytes)
                .map(codec::decode_vote)
                .map_err(|e| Error::Corruption(format!("the vote in the log: {e}")))
        };
        self.log.vote().map(decode).transpose()
    }

    /// The last entry that is known to be committed: what was noted, or, where
    /// this member alone has a vote, everything it has.
    pub(super) fn committed(&self, first: u64, membership: &StoredMembership) -> Result<Option<u64>> {
        let noted = self.log.committed().map(|id| id.index);
        let own = |membership: &Membership| membership.voter_ids().eq([self.metadata.member_id]);
        let mut alone = (membership.log_id().is_some()).then(|| own(membership.membership()));
        for index in first..self.log.range().end {
            if let Some(Entry { payload: Payload::Membership(membership), .. }) = self.entry(index)? {
                alone = Some(alone.unwrap_or(true) && own(&membership));
            }
        }
        Ok(if alone == Some(true) { self.log.last().map(|id| id.index).max(noted) } else { noted })
    }
}
