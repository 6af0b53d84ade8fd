//! The Maintenance service.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::alarm_request::AlarmAction;
use skiff_store::{Access, Caller, Error, NodeError, Read, ReadReply, Status as Member, StoreExt};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::services::maintenance_server::Maintenance;
use crate::{ETCD_VERSION, metrics, to_status};

/// Largest piece of a snapshot, in bytes.
const SNAPSHOT_PIECE: usize = 64 << 10;

/// Answers etcd's Maintenance calls from a store.
pub(crate) struct MaintenanceService(pub(crate) Api);

/// Counts a defragmentation as long as it lasts, also one whose caller is gone.
struct Inflight;

impl Inflight {
    fn start() -> Self {
        metrics::DEFRAG_INFLIGHT.inc();
        Inflight
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        metrics::DEFRAG_INFLIGHT.dec();
    }
}

type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

/// An alarm in etcd's words, as it stands among a member's errors.
fn describe(alarm: &pb::AlarmMember) -> String {
    let kind = alarm.alarm().as_str_name();
    if alarm.member_id == 0 {
        format!("alarm:{kind} ")
    } else {
        format!("memberID:{} alarm:{kind} ", alarm.member_id)
    }
}

/// What stands among the errors of a member's status: no leader, alarms, and
/// what the store adds.
fn faults(member: &Member) -> Vec<String> {
    let mut faults = Vec::new();
    if member.leader == 0 {
        faults.push(NodeError::NoLeader.text().to_owned());
    }
    faults.extend(member.alarms.iter().map(describe));
    for error in &member.errors {
        if !faults.contains(error) {
            faults.push(error.clone());
        }
    }
    faults
}

/// Cuts a chunk into pieces that any gRPC client takes.
fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = chunk.len().min(SNAPSHOT_PIECE);
        (length > 0).then(|| chunk.split_to(length))
    })
}

impl MaintenanceService {
    /// Lists alarms; kind NONE stands for all.
    async fn list_alarms(&self, caller: &Caller, kind: i32) -> Result<pb::AlarmResponse, Status> {
        match self.0.store.read(Some(caller), Read::Alarms).await.map_err(to_status)? {
            ReadReply::Alarms(mut response) => {
                response.alarms.retain(|alarm| kind == pb::AlarmType::None as i32 || alarm.alarm == kind);
                Ok(response)
            }
            other => Err(Status::internal(format!("store answered alarms with {other:?}"))),
        }
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let mut response = match request.action() {
            AlarmAction::Get => self.list_alarms(&caller, request.alarm).await?,
            AlarmAction::Activate | AlarmAction::Deactivate => {
                self.0.store.by(&caller).alarm(request).await.map_err(to_status)?
            }
        };
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let (from, _) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let member = self.0.store.status();
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header(0)),
            version: ETCD_VERSION.to_owned(),
            errors: faults(&member),
            db_size: member.db_size,
            leader: member.leader,
            raft_index: member.raft_index,
            raft_term: member.raft_term,
            raft_applied_index: member.raft_applied_index,
            db_size_in_use: member.db_size_in_use,
            is_learner: member.is_learner,
            storage_version: member.storage_version,
            db_size_quota: member.db_size_quota,
            downgrade_info: Some(member.downgrade.unwrap_or_default()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let (from, _) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let _inflight = Inflight::start();
        let _timer = metrics::DEFRAG_SECONDS.start_timer();
        self.0.store.defragment().await.map_err(to_status)?;
        Ok(Response::new(pb::DefragmentResponse { header: Some(self.0.header(0)) }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let _timer = metrics::HASH_SECONDS.start_timer();
        let mut response = self.0.store.by(&caller).hash(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let _timer = metrics::HASH_REV_SECONDS.start_timer();
        let mut response = self.0.store.by(&caller).hash_kv(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    type SnapshotStream = SnapshotStream;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<SnapshotStream>, Status> {
        let (from, _) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let snapshot = self.0.store.snapshot().await.map_err(to_status)?;
        let version = self.0.store.status().storage_version;
        let header = self.0.header(snapshot.revision);
        let mut remaining = snapshot.size;
        let stream = snapshot
            .chunks
            .map_ok(|chunk| futures::stream::iter(pieces(chunk).map(Ok::<_, Error>)))
            .try_flatten()
            .map(move |piece| {
                let blob = piece.map_err(to_status)?;
                remaining = remaining.saturating_sub(blob.len() as u64);
                Ok(pb::SnapshotResponse {
                    header: Some(header),
                    remaining_bytes: remaining,
                    blob,
                    version: version.clone(),
                })
            });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let vitals = self.0.store.vitals();
        if vitals.member_id != vitals.leader {
            return Err(to_status(NodeError::NotLeader));
        }
        self.0.cluster.move_leader(request.target_id).await.map_err(to_status)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: Some(self.0.header(0)) }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let version = self.0.cluster.downgrade(request).await.map_err(to_status)?;
        Ok(Response::new(pb::DowngradeResponse { header: Some(self.0.header(0)), version }))
    }
}
