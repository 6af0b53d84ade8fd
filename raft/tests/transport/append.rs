//! Append streams: pipelining, order, ends, and independence of heartbeats.

use std::sync::Arc;

use futures::{StreamExt, stream};
use openraft::RaftNetworkFactory;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use skiff_raft::transport::{Transport, TransportConfig, TransportOptions};
use skiff_raft::types::{TypeConfig, Vote, log_id};
use tokio::sync::Semaphore;

use super::*;

fn append(prev: u64, entries: u64, bytes: usize) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: leader(),
        prev_log_id: Some(log_id(3, prev)),
        entries: (prev + 1..=prev + entries).map(|index| entry(index, bytes)).collect(),
        leader_commit: Some(log_id(3, prev)),
    }
}

fn option() -> RPCOption {
    RPCOption::new(DEADLINE)
}

#[tokio::test]
async fn many_requests_are_in_flight_and_answered_in_order() {
    let handler = Arc::new(Handler { answers: Arc::new(Semaphore::new(0)), ..Handler::default() });
    let server = start(handler.clone()).await;
    let mut network = transport().new_client(ANSWERER, &node(&[url(&server)])).await;
    let requests: Vec<_> = (0..30).map(|prev| append(prev, 1, 100)).collect();
    let input = stream::iter(requests.clone());
    let replies = network.stream_append(input, option()).await.unwrap();
    let replies = replies.map(|reply| reply.unwrap().unwrap()).collect::<Vec<_>>();

    // Not one answer is given before all requests have arrived.
    let mut arrived = handler.streamed.subscribe();
    let checks = async {
        let all = tokio::time::timeout(DEADLINE, arrived.wait_for(|all| all.len() == requests.len())).await;
        for (sent, got) in requests.iter().zip(all.unwrap().unwrap().iter()) {
            assert_eq!((&sent.entries, sent.prev_log_id), (&got.entries, got.prev_log_id));
            assert_eq!((sent.vote, sent.leader_commit), (got.vote, got.leader_commit));
        }
        handler.answers.add_permits(requests.len());
    };
    let (replies, ()) = tokio::join!(replies, checks);
    let expected: Vec<_> = (1..=30).map(|index| Some(log_id(3, index))).collect();
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn long_requests_are_split_and_confirmed_piece_by_piece() {
    let handler = Arc::new(Handler::default());
    let server = start(handler.clone()).await;
    let options = TransportOptions { max_append_bytes: 2500, ..options() };
    let mut transport = Transport::new(TransportConfig { options, ..config() });
    let mut network = transport.new_client(ANSWERER, &node(&[url(&server)])).await;
    let input = stream::iter([append(0, 10, 1000)]);
    let replies = network.stream_append(input, option()).await.unwrap();
    let replies: Vec<_> = replies.map(|reply| reply.unwrap().unwrap().unwrap().index).collect().await;
    assert_eq!(replies, [3, 6, 9, 10]);
    let streamed = handler.streamed.borrow();
    assert_eq!(streamed.iter().flat_map(|request| &request.entries).count(), 10);
}

#[tokio::test]
async fn requests_larger_than_the_whole_window_pass() {
    let handler = Arc::new(Handler::default());
    let server = start(handler.clone()).await;
    let options =
        TransportOptions { max_append_inflight: 2, max_append_inflight_bytes: 1 << 20, ..options() };
    let mut transport = Transport::new(TransportConfig { options, ..config() });
    let mut network = transport.new_client(ANSWERER, &node(&[url(&server)])).await;
    let input = stream::iter((0..6).map(|prev| append(prev, 1, 3 << 20)));
    let replies = network.stream_append(input, option()).await.unwrap();
    let replies: Vec<_> = replies.map(|reply| reply.unwrap().unwrap().unwrap().index).collect().await;
    assert_eq!(replies, (1..=6).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_ends_with_the_first_refusal() {
    let server = start(Arc::new(Handler { log_ends_at: 2, ..Handler::default() })).await;
    let mut network = transport().new_client(ANSWERER, &node(&[url(&server)])).await;
    let input = stream::iter((1..9).map(|prev| append(prev, 1, 10)));
    let replies = network.stream_append(input, option()).await.unwrap();
    let replies: Vec<_> = replies.map(|reply| reply.unwrap()).collect().await;
    let conflict = Err(StreamAppendError::Conflict(log_id(3, 3)));
    assert_eq!(replies, [Ok(Some(log_id(3, 2))), Ok(Some(log_id(3, 3))), conflict]);

    let higher = Vote::new(10, ANSWERER);
    let server = start(Arc::new(Handler { higher_vote: Some(higher), ..Handler::default() })).await;
    let mut network = transport().new_client(ANSWERER, &node(&[url(&server)])).await;
    let input = stream::iter((1..9).map(|prev| append(prev, 1, 10)));
    let replies = network.stream_append(input, option()).await.unwrap();
    let replies: Vec<_> = replies.map(|reply| reply.unwrap()).collect().await;
    assert_eq!(replies, [Err(StreamAppendError::HigherVote(higher))]);
}

#[tokio::test]
async fn a_follower_that_stops_answering_is_given_up_and_heartbeats_pass_meanwhile() {
    let handler = Arc::new(Handler { answers: Arc::new(Semaphore::new(1)), ..Handler::default() });
    let server = start(handler.clone()).await;
    let options = TransportOptions { append_idle_timeout: Duration::from_secs(2), ..options() };
    let mut transport = Transport::new(TransportConfig { options, ..config() });
    let node = node(&[url(&server)]);
    let mut network = transport.new_client(ANSWERER, &node).await;
    let mut heartbeats = transport.new_heartbeat_client(ANSWERER, &node).await;
    let input = stream::iter((0..9).map(|prev| append(prev, 1, 10))).chain(stream::pending());
    let short = RPCOption::new(Duration::from_millis(50));
    let mut replies = network.stream_append(input, short).await.unwrap();
    assert!(replies.next().await.unwrap().is_ok());

    let beat = stream::iter([append(5, 0, 0)]);
    let beats: Vec<_> = heartbeats.stream_append(beat, option()).await.unwrap().collect().await;
    assert_eq!(beats.len(), 1);
    assert_eq!(*beats[0].as_ref().unwrap(), Ok(Some(log_id(3, 5))));

    let given_up = tokio::time::timeout(DEADLINE, replies.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(given_up, RPCError::Timeout(_)), "{given_up}");
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn a_request_is_taken_before_a_peer_is_tried() {
    // openraft holds requests back to pause after errors.
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = taken.clone();
    let input = stream::iter([append(0, 1, 10)]).inspect(move |_| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let mut network = transport().new_client(ANSWERER, &node(&[])).await;
    let mut replies = network.stream_append(input, option()).await.unwrap();
    let failed = replies.next().await.unwrap().unwrap_err();
    assert!(matches!(failed, RPCError::Unreachable(_)), "{failed}");
    assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(replies.next().await.is_none());
}
