//! Leases across leaders.

use bytes::Bytes;
use skiff_store::StoreExt;
use skiff_store::pb::etcdserverpb as pb;

use crate::harness::{Cluster, get, put, until};

async fn grant(node: &skiff_raft::Node, id: i64, ttl: i64) {
    node.lease_grant(pb::LeaseGrantRequest { id, ttl }).await.unwrap();
    let request = pb::PutRequest {
        key: Bytes::from(format!("lease-{id}")),
        value: Bytes::from_static(b"v"),
        lease: id,
        ..Default::default()
    };
    node.put(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_expire_and_are_renewed_through_any_member() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    grant(cluster.node(follower), 1, 1).await;
    grant(cluster.node(follower), 2, 1000).await;
    let ttl = cluster.node(follower).lease_keep_alive(pb::LeaseKeepAliveRequest { id: 2 }).await.unwrap().ttl;
    assert_eq!(ttl, 1000);
    let left = cluster.node(follower).lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 2, keys: true });
    let left = left.await.unwrap();
    assert!(left.ttl > 900 && left.granted_ttl == 1000, "{left:?}");
    assert_eq!(left.keys, [Bytes::from_static(b"lease-2")]);
    // The TTL was raised to the shortest one that outlives an election.
    let raised = cluster.node(leader).lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 1, keys: false });
    assert_eq!(raised.await.unwrap().granted_ttl, 3);
    let node = cluster.node(follower).clone();
    let gone = tokio::time::timeout(crate::harness::PATIENCE, async {
        while get(&node, "lease-1", false).await.unwrap().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    gone.await.expect("the lease expires");
    assert!(get(&node, "lease-2", false).await.unwrap().is_some());
    let renewed = node.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 1 }).await.unwrap();
    assert_eq!(renewed.ttl, 0);
    let left = node.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 1, keys: false }).await.unwrap();
    assert_eq!(left.ttl, -1);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_survives_a_change_of_leader_and_expires_after_it() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    grant(cluster.node(leader), 7, 4).await;
    put(cluster.node(leader), "other", "v").await.unwrap();
    cluster.crash(leader).await;
    let next = cluster.leader_other_than(Some(leader)).await;
    assert!(get(cluster.node(next), "lease-7", false).await.unwrap().is_some(), "it got its time again");
    let node = cluster.node(next).clone();
    let mut gone = false;
    for _ in 0..600 {
        gone = get(&node, "lease-7", false).await.unwrap().is_none();
        if gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(gone, "the lease never expired");
    assert!(get(&node, "other", false).await.unwrap().is_some());
    until("a running member", || cluster.running().count() == 2).await;
    cluster.end().await;
}
