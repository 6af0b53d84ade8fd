//! `--force-new-cluster`: one member goes on alone.

use skiff_raft::disk::Fault;
use skiff_raft::node::End;
use skiff_store::{Cluster as _, Store};

use crate::harness::{Cluster, get, put, until};

const KEYS: usize = 60;

/// A cluster whose members are all down; member 2 holds all keys.
async fn lost() -> (Cluster, u64, u64) {
    let mut cluster = Cluster::start_tuned(3, |config| {
        config.flush_bytes = 1000;
        config.catchup_entries = 5;
        // The clocks of a busy machine must not matter.
        config.strict_reconfig = false;
    })
    .await;
    cluster.published().await;
    for i in 0..KEYS {
        // What a member acknowledged, it has.
        put(cluster.node(2), &format!("k{i}"), "some value that takes some space").await.unwrap();
    }
    let (id, cluster_id) = (cluster.node(2).id(), cluster.node(2).cluster());
    for index in 0..3 {
        cluster.crash(index).await;
    }
    (cluster, id, cluster_id)
}

async fn serves_everything(cluster: &Cluster, index: usize) {
    let node = cluster.node(index);
    put(node, "after", "v").await.unwrap();
    for i in 0..KEYS {
        assert!(get(node, &format!("k{i}"), false).await.unwrap().is_some(), "k{i} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_and_grows_again() {
    let (mut cluster, id, cluster_id) = lost().await;
    cluster.members[2].config.force_new_cluster = true;
    cluster.boot(2).await;
    serves_everything(&cluster, 2).await;
    assert_eq!((cluster.node(2).id(), cluster.node(2).cluster()), (id, cluster_id), "ids stay, as in etcd");
    assert_eq!(cluster.node(2).members(true).await.unwrap().len(), 1);
    // The flag still there after a crash: nothing more happens.
    cluster.crash(2).await;
    cluster.boot(2).await;
    serves_everything(&cluster, 2).await;

    let mut fresh = Vec::new();
    for _ in 0..2 {
        let url = cluster.next_url();
        cluster.node(2).add(vec![url], false).await.unwrap();
        fresh.push(cluster.join().await);
    }
    let revision = cluster.node(2).status().revision;
    for index in &fresh {
        until("the new member to catch up", || cluster.node(*index).status().revision >= revision).await;
        until("its vote", || !cluster.node(*index).status().is_learner).await;
        assert!(get(cluster.node(*index), "k0", false).await.unwrap().is_some());
    }
    // Nor does the forgotten flag throw out who joined since.
    cluster.crash(2).await;
    cluster.boot(2).await;
    let members = || futures::executor::block_on(cluster.node(2).members(false)).unwrap().len();
    until("all three members", || members() == 3).await;
    put(cluster.node(2), "three again", "v").await.unwrap();

    // A lost member that comes back is told that it is out, also by those who joined later.
    cluster.boot(0).await;
    let ended = cluster.node(0).ended();
    until("the old member to end", || matches!(*ended.borrow(), Some(End::Removed))).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_flag_arms_it_again() {
    let (mut cluster, ..) = lost().await;
    cluster.members[2].config.force_new_cluster = true;
    cluster.boot(2).await;
    let url = cluster.next_url();
    cluster.published().await;
    cluster.node(2).add(vec![url], false).await.unwrap();
    let second = cluster.join().await;
    until("its vote", || !cluster.node(second).status().is_learner).await;
    cluster.stop(2).await;
    cluster.members[2].config.force_new_cluster = false;
    cluster.boot(2).await;
    put(cluster.node(2), "two", "v").await.unwrap();
    cluster.crash(second).await;
    cluster.crash(2).await;
    cluster.members[2].config.force_new_cluster = true;
    cluster.boot(2).await;
    serves_everything(&cluster, 2).await;
    assert_eq!(cluster.node(2).members(true).await.unwrap().len(), 1);
    cluster.end().await;
}

/// Power fails at every change of the disk on the way; the next try gets there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_half_way_does_no_harm() {
    for changes in 0..12 {
        let (mut cluster, id, _) = lost().await;
        cluster.members[2].config.force_new_cluster = true;
        cluster.disk(2).inject(Fault::LosePowerAfter(changes));
        cluster.fail_boot(2).await;
        cluster.boot(2).await;
        serves_everything(&cluster, 2).await;
        assert_eq!(cluster.node(2).id(), id);
        assert_eq!(cluster.node(2).members(true).await.unwrap().len(), 1);
        cluster.end().await;
    }
}
