//! A cluster of one.

use skiff_raft::pb::skiff::raft::v1::{reply::Answer, request::Ask, write_reply};
use skiff_raft::peer::{PeerHandler, Request};
use skiff_store::Store;
use skiff_store::pb::skiff::v1::{Command, CommandBatch};

use crate::harness::{Cluster, get, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_read_back() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let first = put(node, "a", "1").await.unwrap();
    assert_eq!(first, 2);
    assert_eq!(get(node, "a", false).await.unwrap().as_deref(), Some("1"));
    let status = node.status();
    assert_eq!(status.leader, node.id());
    assert!(status.raft_applied_index > 0 && status.raft_term > 0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_crashes_and_restarts() {
    let mut cluster = Cluster::start(1).await;
    let id = cluster.node(0).id();
    for round in 0..4 {
        for i in 0..20 {
            put(cluster.node(0), &format!("k{i}"), &format!("{round}")).await.unwrap();
        }
        if round % 2 == 0 {
            cluster.crash(0).await;
        } else {
            cluster.stop(0).await;
        }
        cluster.boot(0).await;
        assert_eq!(cluster.node(0).id(), id);
        for i in 0..20 {
            let value = get(cluster.node(0), &format!("k{i}"), false).await.unwrap();
            assert_eq!(value, Some(round.to_string()), "k{i} in round {round}");
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_after_a_flush_replays_little_and_loses_nothing() {
    let mut cluster = Cluster::start_tuned(1, |config| {
        config.flush_bytes = 2000;
        config.catchup_entries = 5;
    })
    .await;
    for i in 0..300 {
        put(cluster.node(0), &format!("k{i}"), "some value that takes some space").await.unwrap();
    }
    cluster.crash(0).await;
    cluster.boot(0).await;
    for i in 0..300 {
        let value = get(cluster.node(0), &format!("k{i}"), false).await.unwrap();
        assert!(value.is_some(), "k{i} is lost");
    }
    cluster.end().await;
}

/// Such a command once got into the log, and every member ended when it came
/// to apply it, again after each start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_unknown_command_stays_out_of_the_log() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    put(node, "a", "1").await.unwrap();
    let batch = CommandBatch { commands: vec![Command::default()] };
    let reply = node.call(Request { ask: Some(Ask::Write(batch)) }).await;
    let Some(Answer::Write(replies)) = &reply.answer else { panic!("{reply:?}") };
    let refused = replies.replies[0].reply.as_ref();
    assert!(
        matches!(refused, Some(write_reply::Reply::Error(error)) if error.text.contains("does not know"))
    );
    put(node, "a", "2").await.unwrap();
    assert_eq!(get(node, "a", false).await.unwrap().as_deref(), Some("2"));
    cluster.end().await;
}
