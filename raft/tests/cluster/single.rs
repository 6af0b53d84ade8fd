//! A cluster of one.

use skiff_store::Store;

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
