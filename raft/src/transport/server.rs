//! The answering side: checks who asks, then hands over to the node.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{
    append_reply, append_request, malformed, single_append_result, transfer_reply, transfer_request,
    vote_reply, vote_request,
};
use super::identity::{Identity, Refusal, RefusalLog};
use super::metrics::{Received, hex};
use super::options::TransportOptions;
use super::pb;
use super::pb::peer_server::{Peer, PeerServer};
use super::snapshot::{ReceiveError, receive};
use crate::codec::{decode_snapshot_meta, decode_vote, encode_vote};
use crate::pb::skiff::raft::v1::request::Ask;
use crate::pb::skiff::raft::v1::{Reply, Request as NodeRequest};
use crate::peer::PeerHandler;
use crate::wal::{Health, health_of};

/// Flow-control window a listener should give each HTTP/2 stream, in bytes, so
/// that a leader need not wait for a round trip between two messages.
pub const SERVER_STREAM_WINDOW: u32 = 4 << 20;
/// The same for a whole connection.
pub const SERVER_CONNECTION_WINDOW: u32 = 16 << 20;

/// Peers whose metrics are kept at hand; beyond it the map starts afresh.
const MAX_SENDERS: usize = 1024;

/// The routes of the peer protocol, to be served over HTTP/2 by whoever owns
/// the listener of the peer URLs.
pub fn router(handler: Arc<dyn PeerHandler>, options: &TransportOptions) -> axum::Router {
    let limit = options.max_message_bytes;
    let service = Service {
        handler,
        options: options.clone(),
        refusals: RefusalLog::default(),
        senders: Mutex::default(),
    };
    let server = PeerServer::new(service).max_decoding_message_size(limit).max_encoding_message_size(limit);
    Routes::new(server).prepare().into_axum_router()
}

struct Service {
    handler: Arc<dyn PeerHandler>,
    options: TransportOptions,
    refusals: RefusalLog,
    senders: Mutex<HashMap<u64, Arc<Received>>>,
}

/// The node has stopped or failed; whatever it says, it does not serve now.
fn stopped(error: impl fmt::Display) -> Status {
    Status::unavailable(format!("member does not serve: {error}"))
}

impl Service {
    /// Who makes a call; refused unless it is a peer that means this member.
    fn sender<T>(&self, request: &Request<T>) -> Result<(u64, Arc<Received>), Status> {
        let (cluster, member) = (self.handler.cluster_id(), self.handler.member_id());
        let identity = Identity::read(request.metadata());
        let checked =
            identity.and_then(|identity| identity.check(cluster, member, |id| self.handler.is_removed(id)));
        match (identity, checked) {
            (Ok(identity), Ok(())) => Ok((identity.from, self.received(identity.from))),
            (identity, checked) => {
                let from = identity.map_or(0, |identity| identity.from);
                Err(self.refuse(from, checked.err().unwrap_or(Refusal::Anonymous)))
            }
        }
    }

    fn refuse(&self, from: u64, refusal: Refusal) -> Status {
        if self.refusals.admit(from, refusal.kind()) {
            tracing::warn!(peer = hex(from), error = %refusal, "refused a peer's request");
        }
        self.received(from).failures.inc();
        refusal.into()
    }

    fn received(&self, from: u64) -> Arc<Received> {
        let mut senders = self.senders.lock();
        if senders.len() >= MAX_SENDERS {
            senders.clear();
        }
        senders.entry(from).or_insert_with(|| Arc::new(Received::new(from))).clone()
    }

    /// Takes a single message from a peer.
    fn take<T: Message>(&self, request: Request<T>) -> Result<T, Status> {
        let (_, received) = self.sender(&request)?;
        let message = request.into_inner();
        received.bytes.inc_by(message.encoded_len() as u64);
        Ok(message)
    }

    /// As [`Service::take`], but strangers may ask about the cluster.
    fn take_call(&self, request: Request<NodeRequest>) -> Result<NodeRequest, Status> {
        let open = matches!(request.get_ref().ask, Some(Ask::ClusterInfo(_) | Ask::MemberStatus(_)));
        match Identity::read(request.metadata()) {
            Ok(identity) if identity.to == 0 && open => Ok(request.into_inner()),
            _ => self.take(request),
        }
    }
}

/// Counts what a peer streams and ends at the first error, which is logged by
/// the connection's owner.
fn counted<T: Message + Default + 'static>(
    stream: Streaming<T>,
    received: Arc<Received>,
) -> impl Stream<Item = Result<T, Status>> + Send + Unpin {
    Box::pin(stream::unfold(Some(stream), move |stream| {
        let received = received.clone();
        async move {
            let mut stream = stream?;
            match stream.message().await {
                Ok(Some(message)) => {
                    received.bytes.inc_by(message.encoded_len() as u64);
                    Some((Ok(message), Some(stream)))
                }
                Ok(None) => None,
                Err(status) => {
                    received.failures.inc();
                    Some((Err(status), None))
                }
            }
        }
    }))
}

#[async_trait]
impl Peer for Service {
    type AppendStreamStream = BoxStream<'static, Result<pb::AppendReply, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (_, received) = self.sender(&request)?;
        // What ended the requests early, told to the peer after the replies
        // to those before it.
        let fault = Arc::new(Mutex::new(None));
        let requests = counted(request.into_inner(), received).map(|item| item.and_then(append_request));
        let requests = requests.scan(fault.clone(), |fault, item| {
            let request = item.map_err(|status| *fault.lock() = Some(status)).ok();
            async move { request }
        });
        let replies = self.handler.stream_append(requests.boxed());
        let replies = replies.map(|item| item.map(append_reply).map_err(stopped));
        let last = stream::once(async move { fault.lock().take() })
            .filter_map(|fault| async move { fault.map(Err) });
        Ok(Response::new(replies.chain(last).boxed()))
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendReply>, Status> {
        let request = append_request(self.take(request)?)?;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let response = self.handler.append_entries(request).await.map_err(stopped)?;
        Ok(Response::new(append_reply(single_append_result(response, prev, last)?)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let request = vote_request(self.take(request)?)?;
        let response = self.handler.vote(request).await.map_err(stopped)?;
        Ok(Response::new(vote_reply(response)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let request = vote_request(self.take(request)?)?;
        let response = self.handler.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(vote_reply(response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderReply>, Status> {
        let request = transfer_request(self.take(request)?)?;
        let response = self.handler.transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(transfer_reply(response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let (from, received) = self.sender(&request)?;
        let timer = Received::snapshot(from);
        let parts = counted(request.into_inner(), received);
        match self.snapshot(parts).await {
            Ok(reply) => {
                let elapsed = timer.succeeded();
                tracing::info!(peer = hex(from), ?elapsed, "received and installed a snapshot");
                Ok(Response::new(reply))
            }
            Err(status) => {
                tracing::warn!(peer = hex(from), error = status.message(), "did not receive a snapshot");
                Err(status)
            }
        }
    }

    async fn call(&self, request: Request<NodeRequest>) -> Result<Response<Reply>, Status> {
        let request = self.take_call(request)?;
        Ok(Response::new(self.handler.call(request).await))
    }
}

impl Service {
    async fn snapshot(
        &self,
        mut parts: impl Stream<Item = Result<pb::SnapshotPart, Status>> + Unpin + Send,
    ) -> Result<pb::SnapshotReply, Status> {
        let idle = self.options.snapshot_idle_timeout;
        let first = tokio::time::timeout(idle, parts.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no snapshot header"))?;
        let Some(pb::snapshot_part::Part::Header(header)) = first.transpose()?.and_then(|part| part.part)
        else {
            return Err(malformed("a snapshot without a header"));
        };
        let vote = header.vote.map(decode_vote).ok_or_else(|| malformed("a snapshot without a vote"))?;
        let position = header.position.ok_or_else(|| malformed("a snapshot without a position"))?;
        let meta = decode_snapshot_meta(position.encode_to_vec().into())
            .map_err(|error| malformed(&error.to_string()))?;
        let bytes = header.files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
        let dir =
            self.handler.new_snapshot_dir(bytes).map_err(|error| disk_status(&error, error.to_string()))?;
        let received = receive(dir, header.files, parts, idle).await;
        if let Err(error @ ReceiveError::Io(_)) = &received {
            self.handler.snapshot_failed(&error.to_string());
        }
        let dir = received.map_err(receive_status)?;
        let response = self.handler.install_snapshot(vote, meta, dir).await.map_err(stopped)?;
        Ok(pb::SnapshotReply { vote: Some(encode_vote(&response.vote)) })
    }
}

fn receive_status(error: ReceiveError) -> Status {
    let text = error.to_string();
    match error {
        ReceiveError::Damaged(_) => Status::data_loss(text),
        ReceiveError::Io(error) => disk_status(&error, text),
        ReceiveError::Interrupted(_) => Status::aborted(text),
    }
}

/// A full disk is told apart from a member that is not there.
fn disk_status(error: &std::io::Error, text: String) -> Status {
    match health_of(error) {
        Health::DiskFull => Status::resource_exhausted(text),
        _ => Status::unavailable(text),
    }
}
