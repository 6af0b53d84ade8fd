//! Single calls: round trips, and who is refused.

use std::sync::Arc;

use openraft::RaftNetworkFactory;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use skiff_raft::pb::skiff::raft::v1::reply::Answer;
use skiff_raft::pb::skiff::raft::v1::request::Ask;
use skiff_raft::pb::skiff::raft::v1::{ClusterInfo, ReadIndex};
use skiff_raft::peer::{CallError, PeerClient, Request};
use skiff_raft::transport::{PeerNetwork, Transport, TransportConfig};
use skiff_raft::types::{TypeConfig, Vote, log_id};

use super::*;

pub(crate) fn read_index() -> Request {
    Request { ask: Some(Ask::ReadIndex(ReadIndex {})) }
}

fn cluster_info() -> Request {
    Request { ask: Some(Ask::ClusterInfo(ClusterInfo::default())) }
}

fn option() -> RPCOption {
    RPCOption::new(DEADLINE)
}

async fn network(handler: Handler) -> (PeerNetwork, Server) {
    let server = start(Arc::new(handler)).await;
    let network = transport().new_client(ANSWERER, &node(&[url(&server)])).await;
    (network, server)
}

fn append(prev: u64) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: leader(),
        prev_log_id: Some(log_id(3, prev)),
        entries: vec![entry(prev + 1, 10)],
        leader_commit: None,
    }
}

#[tokio::test]
async fn votes_and_pre_votes_come_back_whole() {
    let (mut network, _server) = network(Handler::default()).await;
    let mut request = VoteRequest::<TypeConfig>::new(Vote::new(9, ASKER), Some(log_id(8, 700)));
    request.leadership_transfer = true;
    let granted = network.vote(request.clone(), option()).await.unwrap();
    assert_eq!((granted.vote, granted.vote_granted), (request.vote, true));
    assert_eq!(granted.last_log_id, request.last_log_id);
    request.leadership_transfer = false;
    assert!(!network.vote(request.clone(), option()).await.unwrap().vote_granted);
    let pre = network.pre_vote(request, option()).await.unwrap();
    assert_eq!((pre.last_log_id, pre.vote_granted), (Some(log_id(1, 1)), true));
}

#[tokio::test]
async fn single_appends_report_success_conflict_and_higher_votes() {
    let (mut network, _server) = network(Handler { log_ends_at: 5, ..Handler::default() }).await;
    let reply = network.append_entries(append(5), option()).await.unwrap();
    assert_eq!(reply, AppendEntriesResponse::Success);
    let reply = network.append_entries(append(6), option()).await.unwrap();
    assert_eq!(reply, AppendEntriesResponse::Conflict);

    let higher = Vote::new(10, ANSWERER);
    let (mut network, _server) =
        self::network(Handler { higher_vote: Some(higher), ..Handler::default() }).await;
    let reply = network.append_entries(append(5), option()).await.unwrap();
    assert_eq!(reply, AppendEntriesResponse::HigherVote(higher));
}

#[tokio::test]
async fn leadership_transfers_report_why_they_are_refused() {
    let request = TransferLeaderRequest::<TypeConfig>::new(leader(), ANSWERER, Some(log_id(3, 9)));
    let (mut network, _server) = network(Handler::default()).await;
    assert_eq!(network.transfer_leader(request.clone(), option()).await.unwrap(), Ok(()));

    let (mut network, _server) = self::network(Handler { log_ends_at: 8, ..Handler::default() }).await;
    let refused = network.transfer_leader(request.clone(), option()).await.unwrap();
    let expected = Some(log_id(3, 9));
    assert_eq!(refused, Err(TransferLeaderError::LogNotFlushed { expected, actual: None }));

    let actual = Vote::new(10, ANSWERER);
    let (mut network, _server) =
        self::network(Handler { higher_vote: Some(actual), ..Handler::default() }).await;
    let refused = network.transfer_leader(request, option()).await.unwrap();
    assert_eq!(refused, Err(TransferLeaderError::VoteChanged { expected: leader(), actual }));
}

#[tokio::test]
async fn calls_reach_members_and_strangers_may_ask_who_answers() {
    let server = start(Arc::new(Handler::default())).await;
    let reply = transport().call(ANSWERER, &node(&[url(&server)]), read_index(), DEADLINE).await.unwrap();
    assert!(matches!(reply.answer, Some(Answer::ReadIndex(reply)) if reply.index == 77));

    let stranger = Transport::new(TransportConfig::default());
    let reply = stranger.call_url(&url(&server), cluster_info(), DEADLINE).await.unwrap();
    let Some(Answer::ClusterInfo(info)) = reply.answer else { panic!("{reply:?}") };
    assert_eq!((info.cluster_id, info.member_id), (CLUSTER, ANSWERER));
    let refused = stranger.call_url(&url(&server), read_index(), DEADLINE).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn other_clusters_other_members_and_removed_members_are_refused() {
    let server = start(Arc::new(Handler { removed: 0xdead, ..Handler::default() })).await;
    let urls = node(&[url(&server)]);
    let ask = async |cluster_id, member_id, target| {
        let transport = Transport::new(TransportConfig { cluster_id, member_id, ..config() });
        match transport.call(target, &urls, read_index(), DEADLINE).await {
            Err(error @ (CallError::Refused(_) | CallError::Removed)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        ask(0xc2, ASKER, ANSWERER).await,
        "peer refused: request cluster ID mismatch (got c2 want c1)"
    );
    assert_eq!(
        ask(CLUSTER, ASKER, 0xb3).await,
        "peer refused: request target member ID mismatch (got b3 want b2)"
    );
    assert!(ask(CLUSTER, 0xdead, ANSWERER).await.contains("was removed from the cluster"));
}

#[tokio::test]
async fn refusals_end_raft_calls_as_unreachable() {
    let server = start(Arc::new(Handler::default())).await;
    let mut stranger = Transport::new(TransportConfig { cluster_id: 0xc2, ..config() });
    let mut network = stranger.new_client(ANSWERER, &node(&[url(&server)])).await;
    let request = VoteRequest::<TypeConfig>::new(Vote::new(9, ASKER), None);
    let refused = network.vote(request, option()).await.unwrap_err();
    assert!(matches!(&refused, RPCError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("cluster ID mismatch"), "{refused}");
}

#[tokio::test]
async fn traffic_shows_in_etcds_metrics() {
    let member_id = 0x3e7;
    let server = start(Arc::new(Handler::default())).await;
    let transport = Transport::new(TransportConfig { member_id, ..config() });
    transport.call(ANSWERER, &node(&[url(&server)]), read_index(), DEADLINE).await.unwrap();
    let text: String = prometheus::TextEncoder::new().encode_to_string(&prometheus::gather()).unwrap();
    for line in [
        "etcd_network_active_peers{Local=\"3e7\",Remote=\"b2\"} 1",
        "etcd_network_known_peers{Local=\"3e7\",Remote=\"b2\"} 1",
        "etcd_network_peer_sent_bytes_total{To=\"b2\"}",
        "etcd_network_peer_received_bytes_total{From=\"b2\"}",
        "etcd_network_peer_round_trip_time_seconds_count{To=\"b2\"}",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
