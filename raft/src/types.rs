//! The type parameters of openraft.
//!
//! `LeaderId` is the standard one: at most one leader a term. A log id is then
//! a term and an index, as in etcd, and a term names its leader, which is what
//! the fence of lease expiries rests on (a revoke applies only in the term of
//! the leader that saw the lease expire). The price, split votes, is paid
//! rarely: election timeouts are random and pre-vote is on.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::impls::leader_id_std;
use prost::Message;
use skiff_store::api::WriteReply;
use skiff_store::error::{Error, Result};
use skiff_store::pb::skiff::v1::CommandBatch;

use crate::responder::Callback;

/// Names every type openraft is generic over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Outcome;
    type NodeId = u64;
    type Node = MemberNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A leader as a log id names it: its term.
pub type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
/// A term and an index: the place of an entry.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote.
pub type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, MemberNode>;
/// A membership and the entry it comes from.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, MemberNode>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Proposal, u64, MemberNode>;
/// A log entry.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// What a snapshot holds: position and membership.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, MemberNode>;
/// A snapshot.
pub type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, MemberNode, crate::snapshot::SnapshotDir>;

/// The place of the entry `index` of `term`.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// Client commands proposed as one log entry. Cheap to clone: the log's cache,
/// the replication streams and the applier share one copy.
#[derive(Clone)]
pub struct Proposal(Arc<Inner>);

struct Inner {
    encoded: Bytes,
    decoded: OnceLock<CommandBatch>,
}

impl Proposal {
    /// Encodes a batch, once; the log and the peers write these bytes as they are.
    pub fn new(batch: CommandBatch) -> Self {
        let encoded = Bytes::from(batch.encode_to_vec());
        let decoded = OnceLock::new();
        let _ = decoded.set(batch);
        Self(Arc::new(Inner { encoded, decoded }))
    }

    /// Takes bytes read from the log or a peer; decoded only when applied.
    pub fn from_encoded(encoded: Bytes) -> Self {
        Self(Arc::new(Inner { encoded, decoded: OnceLock::new() }))
    }

    /// The encoded [`CommandBatch`].
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    /// The commands.
    ///
    /// # Errors
    /// [`Error::Corruption`] where the bytes are no batch.
    pub fn commands(&self) -> Result<&CommandBatch> {
        if let Some(batch) = self.0.decoded.get() {
            return Ok(batch);
        }
        let batch = CommandBatch::decode(self.0.encoded.clone())
            .map_err(|e| Error::Corruption(format!("log entry is no batch of commands: {e}")))?;
        Ok(self.0.decoded.get_or_init(|| batch))
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.0.encoded == other.0.encoded
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.encoded.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The answers to a [`Proposal`], one a command; empty for other entries.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Answers in the order of the commands.
    pub replies: Vec<Result<WriteReply>>,
}

/// What every member knows of a member, replicated as part of the membership.
/// Name and client URLs are published by commands and live in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberNode {
    /// URLs its peers reach it by.
    pub peer_urls: Vec<String>,
    /// Added as a voter: gets its vote as soon as it has caught up. Until then
    /// it does not count for the quorum, so that a new member that is slow, or
    /// never starts, stops nobody.
    pub wanted_voter: bool,
}

impl fmt::Display for MemberNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer_urls.join(","))
    }
}
