//! The members' hashes, compared all the time, under everything that changes
//! states: no alarm may come of it.

use std::time::Duration;

use skiff_raft::metrics::METRICS;
use skiff_store::pb::etcdserverpb::CompactionRequest;
use skiff_store::{Error, Store, StoreExt};

use crate::harness::{Cluster, put, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_members_raise_no_alarm() {
    let mut cluster = Cluster::start_tuned(3, |config| {
        config.corrupt_check_time = Duration::from_millis(20);
        config.compact_hash_check = true;
        config.compact_hash_check_time = Duration::from_millis(30);
        config.initial_corrupt_check = true;
        config.flush_bytes = 2000;
        config.catchup_entries = 5;
        config.log_limit_bytes = 0;
        config.mvcc.compaction_batch = 7;
        config.compaction_pause = Duration::from_millis(1);
    })
    .await;
    let checks_before = METRICS.hash_checks.get();
    // When a log is cut is the flusher's affair: more rounds than these where it was busy.
    let (enough, too_many) = (6, 60);
    for round in 0.. {
        if round >= enough && cluster.wires.snapshots() > 0 {
            break;
        }
        assert!(round < too_many, "no snapshot was installed");
        let leader = cluster.leader().await;
        // Round by round: a follower misses the log and gets a snapshot, or the leader crashes.
        let away = if round % 3 == 2 { leader } else { (leader + 1 + round % 2) % 3 };
        cluster.crash(away).await;
        let leader = cluster.leader_other_than(Some(away)).await;
        load(&cluster, leader, round).await;
        cluster.boot(away).await;
        let leader = cluster.leader().await;
        load(&cluster, leader, round).await;
        let revision = cluster.node(leader).status().revision;
        until("the member to catch up", || cluster.node(away).status().revision >= revision).await;
    }
    let checks = METRICS.hash_checks.get();
    assert!(checks > checks_before, "nothing was compared");
    until("more comparisons when all is quiet", || METRICS.hash_checks.get() > checks + 5).await;
    for node in cluster.running() {
        assert!(node.status().alarms.is_empty(), "{:?}", node.status().alarms);
    }
    cluster.end().await;
}

/// Changes some keys again and again, and compacts on the way.
async fn load(cluster: &Cluster, at: usize, round: usize) {
    let node = cluster.node(at);
    for i in 0..150 {
        // A leader that moves meanwhile costs a write; the load is not about that.
        let Ok(revision) = put(node, &format!("k{}", i % 20), &format!("{round} {i} some value")).await
        else {
            continue;
        };
        if i % 40 == 39 {
            match node.compact(CompactionRequest { revision: revision - 3, physical: false }).await {
                Ok(_) | Err(Error::Api(_) | Error::Node(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
