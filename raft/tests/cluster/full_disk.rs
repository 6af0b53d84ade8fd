//! Disks without room: a member waits for it and goes on.

use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Store, StoreExt};

use crate::harness::{Cluster, get, put, until};

/// Such an error once ended the member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_without_room_waits_and_the_member_stays() {
    let mut cluster = Cluster::start_tuned(3, |config| {
        config.flush_bytes = 2000;
        config.catchup_entries = 5;
        config.log_limit_bytes = 0;
    })
    .await;
    let leader = cluster.leader().await;
    let late = (leader + 1) % 3;
    put(cluster.node(leader), "before", "v").await.unwrap();
    until("the member to have it", || cluster.node(late).status().revision >= 2).await;
    cluster.stop(late).await;
    for i in 0..1000 {
        put(cluster.node(leader), &format!("k{i}"), "some value that takes some space").await.unwrap();
    }
    cluster.set_full(late, true);
    cluster.boot(late).await;
    let node = cluster.node(late).clone();
    until("the member to say what it lacks", || {
        node.status().errors.iter().any(|error| error.contains("cannot be written"))
    })
    .await;
    assert!(node.ended().borrow().is_none(), "it stays up");
    assert_eq!(get(&node, "before", true).await.unwrap().as_deref(), Some("v"), "its state is readable");
    // It raises the alarm, although it cannot apply it itself.
    let others = cluster.node(leader).clone();
    let raised = || others.status().alarms.iter().any(|alarm| alarm.member_id == node.id());
    until("the alarm", raised).await;
    assert!(put(&others, "refused", "v").await.is_err());

    cluster.set_full(late, false);
    until("the alarm to end", || !raised()).await;
    put(&others, "after", "v").await.unwrap();
    let revision = others.status().revision;
    until("the member to catch up", || node.status().revision >= revision).await;
    assert!(node.status().errors.is_empty(), "{:?}", node.status().errors);
    let request = pb::HashKvRequest { revision };
    let hashes = (node.hash_kv(request).await.unwrap().hash, others.hash_kv(request).await.unwrap().hash);
    assert_eq!(hashes.0, hashes.1);
    // The received state is the one it starts from next time.
    cluster.crash(late).await;
    cluster.boot(late).await;
    assert!(get(cluster.node(late), "k999", false).await.unwrap().is_some());
    cluster.end().await;
}
