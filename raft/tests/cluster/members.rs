//! Members that come and go.

use skiff_raft::node::End;
use skiff_store::pb::etcdserverpb::DowngradeRequest;
use skiff_store::{ApiError, Cluster as _, Error, NodeError, Store};

use crate::harness::{Cluster, get, put, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_know_each_other() {
    let cluster = Cluster::start(3).await;
    let node = cluster.node(0);
    cluster.published().await;
    let members = node.members(true).await.unwrap();
    assert_eq!(members.len(), 3);
    assert!(members.is_sorted_by_key(|member| member.id));
    assert!(members.iter().all(|m| !m.is_learner && m.client_ur_ls.len() == 1 && m.peer_ur_ls.len() == 1));
    until("a cluster version", || node.status().cluster_version == "3.6.0").await;
    cluster.end().await;
}

/// Members are replaced by newer ones one by one: the cluster is as old as its oldest member, and what
/// was written before is read on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clusters_version_rises_with_the_last_member() {
    let mut cluster = Cluster::start_tuned(3, |config| config.version = "3.6.6".into()).await;
    let are =
        |cluster: &Cluster, version| cluster.running().all(|node| node.status().cluster_version == version);
    until("a cluster version", || are(&cluster, "3.6.0")).await;
    put(cluster.node(0), "k", "v").await.unwrap();
    for index in 0..3 {
        assert!(are(&cluster, "3.6.0"));
        cluster.stop(index).await;
        cluster.members[index].config.version = "3.7.0".into();
        cluster.boot(index).await;
        cluster.leader().await;
        assert_eq!(get(cluster.node(index), "k", false).await.unwrap().as_deref(), Some("v"));
    }
    until("the newer version", || are(&cluster, "3.7.0")).await;
    assert!(cluster.running().all(|node| node.status().storage_version == "3.7.0"));
    let ask = async |version: &str| {
        let validate = DowngradeRequest { version: version.to_owned(), ..Default::default() };
        cluster.node(0).downgrade(validate).await
    };
    assert_eq!(ask("3.6.0").await.unwrap(), "3.7.0");
    for wrong in ["3.5.0", "3.7.0", "3.8.0"] {
        let refused = ask(wrong).await;
        assert!(matches!(refused, Err(Error::Api(ApiError::InvalidDowngradeTargetVersion))), "{refused:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_joins_catches_up_and_is_promoted() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for i in 0..50 {
        put(cluster.node(leader), &format!("k{i}"), "v").await.unwrap();
    }
    let url = cluster.next_url();
    let (added, members) = cluster.node(leader).add(vec![url.clone()], true).await.unwrap();
    assert!(added.is_learner);
    assert_eq!(members.len(), 4);
    let again = cluster.node(leader).add(vec![url], true).await;
    assert!(matches!(again, Err(Error::Api(ApiError::PeerUrlExists))), "{again:?}");
    let second = cluster.node(leader).add(vec!["http://10.9.9.9:1".into()], true).await;
    assert!(matches!(second, Err(Error::Api(ApiError::TooManyLearners))), "{second:?}");
    let early = cluster.node(leader).promote(added.id).await;
    assert!(matches!(early, Err(Error::Api(ApiError::LearnerNotReady))), "{early:?}");

    let learner = cluster.join().await;
    assert_eq!(cluster.node(learner).id(), added.id);
    until("the learner to catch up", || cluster.node(learner).status().revision >= 51).await;
    until("the learner to know what it is", || cluster.node(learner).status().is_learner).await;
    assert_eq!(get(cluster.node(learner), "k0", true).await.unwrap().as_deref(), Some("v"));
    let refused = get(cluster.node(learner), "k0", false).await;
    assert!(matches!(refused, Err(Error::Node(NodeError::NotSupportedForLearner))), "{refused:?}");

    let members = cluster.node((leader + 1) % 3).promote(added.id).await.unwrap();
    assert!(members.iter().all(|member| !member.is_learner));
    until("the member to notice", || !cluster.node(learner).status().is_learner).await;
    put(cluster.node(learner), "from-the-new", "v").await.unwrap();
    let voter = cluster.node(leader).promote(added.id).await;
    assert!(matches!(voter, Err(Error::Api(ApiError::MemberNotLearner))), "{voter:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_grows_to_three_and_shrinks_again() {
    let mut cluster = Cluster::start(1).await;
    put(cluster.node(0), "k", "v").await.unwrap();
    cluster.published().await;
    for size in 2..=3 {
        let url = cluster.next_url();
        let (added, _) = cluster.node(0).add(vec![url], false).await.unwrap();
        assert!(!added.is_learner);
        // It has not started: the others go on without it.
        put(cluster.node(0), "while-waiting", "v").await.unwrap();
        let index = cluster.join().await;
        until("the member to publish", || {
            let members = futures::executor::block_on(cluster.node(0).members(false)).unwrap();
            members.iter().filter(|member| !member.name.is_empty()).count() == size
        })
        .await;
        assert_eq!(get(cluster.node(index), "k", false).await.unwrap().as_deref(), Some("v"));
    }
    let leader = cluster.leader().await;
    let leaves = (leader + 1) % 3;
    let id = cluster.node(leaves).id();
    let left = cluster.node(leader).remove(id).await.unwrap();
    assert_eq!(left.len(), 2);
    put(cluster.node(leader), "after", "v").await.unwrap();
    let gone = cluster.node(leader).remove(id).await;
    assert!(matches!(gone, Err(Error::Api(ApiError::MemberNotFound))), "{gone:?}");
    let ended = cluster.node(leaves).ended();
    until("the removed member to end", || matches!(*ended.borrow(), Some(End::Removed))).await;
    let error = put(cluster.node(leaves), "k", "v").await;
    assert!(error.is_err());
    // Its data directory does not start again.
    cluster.stop(leaves).await;
    let error = cluster.try_boot(leaves).await.err().expect("refused");
    assert!(error.to_string().contains("removed"), "{error}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_leader_steps_down_and_the_rest_goes_on() {
    let cluster = Cluster::start(3).await;
    cluster.published().await;
    let leader = cluster.leader().await;
    let id = cluster.node(leader).id();
    put(cluster.node(leader), "k", "v").await.unwrap();
    cluster.node((leader + 1) % 3).remove(id).await.unwrap();
    let next = cluster.leader_other_than(Some(leader)).await;
    put(cluster.node(next), "k", "w").await.unwrap();
    assert_eq!(cluster.node(next).members(true).await.unwrap().len(), 2);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_data_does_not_begin_anew() {
    let mut cluster = Cluster::start(3).await;
    cluster.published().await;
    let leader = cluster.leader().await;
    let lost = (leader + 1) % 3;
    cluster.stop(lost).await;
    cluster.wipe(lost);
    let error = cluster.try_boot(lost).await.err().expect("refused");
    assert!(error.to_string().contains("already been bootstrapped"), "{error}");
    cluster.end().await;
}
