//! Servers on different nodes of a Galera cluster, where a row's lock is one of
//! its node only, and a commit may fail for what another node has committed.

use std::sync::Arc;

use skiff_sql::SqlStore;
use skiff_store::Store;
use skiff_store::conformance::support::*;

use crate::base::Base;
use crate::faults::{some_work, survive_on};
use crate::servers::{events_until, listed, replay, watch};
use crate::support::{GaleraCluster, Stop};

/// Two servers, started at once on two nodes that have no database yet.
async fn two(bases: &[Base; 2]) -> [Arc<SqlStore>; 2] {
    let (first, second) = tokio::join!(bases[0].server(), bases[1].server());
    [first, second]
}

/// Revisions are one order without holes, nothing acknowledged is lost, watchers of both see all, whatever
/// happens to one of the nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_two_nodes_share_one_order() {
    let Some(mut cluster) = tokio::task::block_in_place(|| GaleraCluster::start(3)) else { return };
    let bases = [0, 1].map(|node| Base::at(&cluster.endpoint(node, "kubernetes")));
    let servers = two(&bases).await;
    survive_on(servers, async {
        for _ in 0..3 {
            some_work(&bases[0]).await;
        }
        tokio::task::block_in_place(|| cluster.stop(1, Stop::Kill));
        some_work(&bases[0]).await;
        tokio::task::block_in_place(|| cluster.resume(1));
        some_work(&bases[1]).await;
        tokio::task::block_in_place(|| cluster.stop(1, Stop::Orderly));
        tokio::task::block_in_place(|| cluster.resume(1));
        some_work(&bases[1]).await;
    })
    .await;
    // Ids that the database itself gives are far apart; revisions are not.
    let servers = two(&bases).await;
    let mut watcher = watch(&servers[1]);
    let before = servers[0].status().revision;
    for n in 1..=10 {
        assert_eq!(put(&*servers[n as usize % 2], "step", &n.to_string()).await, before + n);
        // What one has acknowledged the other reads, at once.
        let read = get(&*servers[(n as usize + 1) % 2], "step").await.unwrap();
        assert_eq!(text(&read.value), n.to_string());
    }
    let events = events_until(&mut watcher, before + 10).await;
    assert_eq!(listed(&servers[0]).await, replay(&events));
    let revisions: Vec<i64> = events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(revisions, (2..=before + 10).collect::<Vec<_>>());
    for server in servers {
        server.stop().await;
    }
}
