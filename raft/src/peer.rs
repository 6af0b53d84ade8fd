//! What members ask of each other.
//!
//! The transport (`transport/`) calls a [`PeerHandler`] on the side that
//! answers, and implements [`PeerClient`] and openraft's network traits on the
//! side that asks. It looks into no request: [`Request`] and [`Reply`] are one
//! message each.
//!
//! Contract for the transport:
//! * A peer is named by its member id and checked on both ends: a request for
//!   another member or cluster than the one that answers is refused.
//! * Append streams keep their order.
//! * A call never outlives its time-out.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use skiff_store::error::Result;

pub use crate::pb::skiff::raft::v1::{Reply, Request};
use crate::snapshot::SnapshotDir;
use crate::types::{MemberNode, SnapshotMeta, TypeConfig, Vote};

pub use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};

/// Answers peers. The node implements it; the transport's server calls it.
#[async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// Cluster id, to be compared with the caller's.
    fn cluster_id(&self) -> u64;

    /// This member's id, to be compared with the one the caller means.
    fn member_id(&self) -> u64;

    /// True if the member was removed from the cluster: it is told so, in
    /// those words, and gets nothing else.
    fn is_removed(&self, member: u64) -> bool;

    /// Answers anything but the Raft protocol. Never fails: a failure is a reply.
    async fn call(&self, request: Request) -> Reply;

    /// Passes on an AppendEntries request.
    async fn append_entries(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>>;

    /// Passes on a stream of AppendEntries requests; answers in their order.
    /// The stream ends after the first item that is not a success.
    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>;

    /// Passes on a request for a vote.
    async fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>>;

    /// Passes on the question whether a vote would be granted.
    async fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>>;

    /// Passes on the word that this member shall lead.
    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Fatal<TypeConfig>>;

    /// A new empty directory, on the disk of the state, to receive a snapshot
    /// of `bytes` in. Fails while another is being received, and where there
    /// is no room for it: half a snapshot would only fill the disk.
    fn new_snapshot_dir(&self, bytes: u64) -> std::io::Result<SnapshotDir>;

    /// Hears that the disk could not take a snapshot.
    fn snapshot_failed(&self, _why: &str) {}

    /// Installs a snapshot whose files are complete, checked and synced.
    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        dir: SnapshotDir,
    ) -> Result<SnapshotResponse<TypeConfig>, Fatal<TypeConfig>>;
}

/// Why a call brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request never left: nothing happened.
    #[error("peer unreachable: {0}")]
    Unreachable(String),
    /// The request may have been received, its reply was not: outcome unknown.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No reply in time: outcome unknown.
    #[error("no reply in time")]
    Timeout,
    /// The peer refused to talk: other cluster or other member. Nothing happened.
    #[error("peer refused: {0}")]
    Refused(String),
    /// The peer knows that this member was removed from the cluster for good.
    #[error("this member was removed from the cluster")]
    Removed,
}

/// Asks peers. The transport implements it; the node calls it.
#[async_trait]
pub trait PeerClient: Send + Sync + 'static {
    /// Asks a member.
    async fn call(
        &self,
        member: u64,
        node: &MemberNode,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, CallError>;

    /// Asks whoever answers at a peer URL: before any id is known. The other
    /// end's ids are not checked.
    async fn call_url(&self, url: &str, request: Request, timeout: Duration) -> Result<Reply, CallError>;

    /// The members as of now: connections to others may be closed.
    fn set_members(&self, _members: &[(u64, MemberNode)]) {}

    /// True if the member answered the last call made to it.
    fn is_active(&self, _member: u64) -> bool {
        true
    }
}
