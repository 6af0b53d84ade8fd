//! A handler that stores nothing and answers as told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use skiff_raft::pb::skiff::raft::v1::reply::Answer;
use skiff_raft::pb::skiff::raft::v1::request::Ask;
use skiff_raft::pb::skiff::raft::v1::{ClusterInfoReply, ReadIndexReply};
use skiff_raft::peer::{PeerHandler, Reply, Request};
use skiff_raft::snapshot::SnapshotDir;
use skiff_raft::types::{SnapshotMeta, TypeConfig, Vote, log_id};
use tokio::sync::{Semaphore, watch};

use super::{ANSWERER, CLUSTER};

type Append = AppendEntriesRequest<TypeConfig>;
/// Names and contents.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// Plays the node: see its fields for what it answers.
pub(crate) struct Handler {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    pub(crate) removed: u64,
    /// The higher vote every append is answered with, if any.
    pub(crate) higher_vote: Option<Vote>,
    /// The index behind which appends conflict.
    pub(crate) log_ends_at: u64,
    /// Appends of streams are answered as permits come.
    pub(crate) answers: Arc<Semaphore>,
    /// Requests that streams have brought.
    pub(crate) streamed: watch::Sender<Vec<Append>>,
    /// Snapshots are installed as permits come.
    pub(crate) installs: Arc<Semaphore>,
    /// Snapshots that were installed: position and files.
    pub(crate) installed: Mutex<Vec<(SnapshotMeta, Files)>>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) dirs: AtomicUsize,
}

impl Default for Handler {
    fn default() -> Self {
        Handler {
            cluster: CLUSTER,
            member: ANSWERER,
            removed: 0,
            higher_vote: None,
            log_ends_at: u64::MAX,
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            streamed: watch::Sender::new(Vec::new()),
            installs: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            installed: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
            dirs: AtomicUsize::new(0),
        }
    }
}

impl Handler {
    fn answer(&self, request: &Append) -> StreamAppendResult<TypeConfig> {
        if let Some(vote) = self.higher_vote {
            return Err(StreamAppendError::HigherVote(vote));
        }
        match request.prev_log_id {
            Some(prev) if prev.index > self.log_ends_at => Err(StreamAppendError::Conflict(prev)),
            prev => Ok(request.entries.last().map(|entry| entry.log_id).or(prev)),
        }
    }

    /// Directories of snapshots that are still there.
    pub(crate) fn snapshot_dirs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[async_trait]
impl PeerHandler for Handler {
    fn cluster_id(&self) -> u64 {
        self.cluster
    }

    fn member_id(&self) -> u64 {
        self.member
    }

    fn is_removed(&self, member: u64) -> bool {
        member == self.removed
    }

    async fn call(&self, request: Request) -> Reply {
        let answer = match request.ask {
            Some(Ask::ReadIndex(_)) => Answer::ReadIndex(ReadIndexReply { index: 77 }),
            Some(Ask::ClusterInfo(_)) => Answer::ClusterInfo(ClusterInfoReply {
                cluster_id: self.cluster,
                member_id: self.member,
                ..Default::default()
            }),
            other => Answer::Downgrade(format!("{other:?}")),
        };
        Reply { answer: Some(answer) }
    }

    async fn append_entries(
        &self,
        request: Append,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        Ok(self.answer(&request).into())
    }

    fn stream_append(
        &self,
        requests: BoxStream<'static, Append>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>> {
        // As the node does, requests are taken in without waiting for answers.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let streamed = self.streamed.clone();
        let (higher_vote, log_ends_at) = (self.higher_vote, self.log_ends_at);
        let rules = Handler { higher_vote, log_ends_at, ..Handler::default() };
        tokio::spawn(async move {
            let mut requests = requests;
            while let Some(request) = requests.next().await {
                let answer = rules.answer(&request);
                streamed.send_modify(|all| all.push(request));
                if sender.send(answer).is_err() {
                    return;
                }
            }
        });
        let state = Some((receiver, self.answers.clone()));
        stream::unfold(state, |state| async move {
            let (mut receiver, permits) = state?;
            let answer = receiver.recv().await?;
            permits.acquire().await.ok()?.forget();
            let go_on = answer.is_ok();
            Some((Ok(answer), go_on.then_some((receiver, permits))))
        })
        .boxed()
    }

    async fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        Ok(VoteResponse::new(request.vote, request.last_log_id, request.leadership_transfer))
    }

    async fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        Ok(VoteResponse::new(request.vote, Some(log_id(1, 1)), true))
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Fatal<TypeConfig>> {
        if let Some(actual) = self.higher_vote {
            return Ok(Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual }));
        }
        let expected = request.last_log_id().copied();
        match expected {
            Some(at) if at.index > self.log_ends_at => {
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None }))
            }
            _ => Ok(Ok(())),
        }
    }

    fn new_snapshot_dir(&self, _bytes: u64) -> std::io::Result<SnapshotDir> {
        let number = self.dirs.fetch_add(1, Ordering::Relaxed);
        Ok(SnapshotDir::new(self.dir.path().join(format!("receive-{number}"))))
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        dir: SnapshotDir,
    ) -> Result<SnapshotResponse<TypeConfig>, Fatal<TypeConfig>> {
        self.installs.acquire().await.map_err(|_| Fatal::Stopped)?.forget();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.push((name, std::fs::read(path).unwrap()));
        }
        files.sort();
        self.installed.lock().push((meta, files));
        Ok(SnapshotResponse::new(self.higher_vote.unwrap_or(vote)))
    }
}
