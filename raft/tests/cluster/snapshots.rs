//! What a snapshot from another member does beside the keys.

use skiff_raft::{Node, NodeConfig};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::auth_change::Change;
use skiff_store::pb::skiff::v1::{AuthChange, Authenticate, UserAdd};
use skiff_store::{ApiError, Cluster as _, Error, Store, StoreExt, Write};

use crate::harness::{Cluster, put, until};

/// Keeps so little of the log that a member that was away needs a snapshot.
fn forgetful(config: &mut NodeConfig) {
    config.flush_bytes = 2000;
    config.catchup_entries = 5;
    config.log_limit_bytes = 0;
}

async fn change(node: &Node, change: Change) {
    node.write(None, Write::Auth(AuthChange { change: Some(change) })).await.expect("a change of users");
}

fn add(name: &str) -> Change {
    Change::UserAdd(UserAdd { name: name.into(), password_hash: "hash".into(), no_password: false })
}

async fn token(node: &Node, user: &str, prefix: &str) -> String {
    let auth_revision = node.credentials(user.into()).await.expect("the user").auth_revision;
    let ask = Authenticate { user: user.into(), token_prefix: prefix.into(), auth_revision };
    node.authenticate(ask).await.expect("a token").token
}

async fn write_much(node: &Node, round: usize) {
    for i in 0..1000 {
        put(node, &format!("k{}", i % 50), &format!("{round} and some value that takes space"))
            .await
            .unwrap();
    }
}

/// A member that was away keeps its tokens in memory, and hears of what dropped them by no entry of the
/// log when it gets a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_dropped_while_a_member_was_away_does_not_count_after_a_snapshot() {
    let cluster = Cluster::start_tuned(3, forgetful).await;
    let leader = cluster.leader().await;
    let root = Change::UserGrant(pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() });
    for step in [add("root"), root, Change::Enable(pb::AuthEnableRequest {})] {
        change(cluster.node(leader), step).await;
    }
    let snapshots = cluster.wires.snapshots();
    // When the log is cut is the flusher's affair: once more where it was busy.
    for round in 0.. {
        assert!(round < 10, "the log was not cut");
        let leader = cluster.leader().await;
        let node = cluster.node(leader);
        let away = cluster.node((leader + 1) % 3);
        change(node, add("u")).await;
        let dropped = token(node, "u", "dropped").await;
        assert_eq!(away.resolve_token(&dropped).await.unwrap().user, "u", "every member knows it");
        cluster.wires.isolate(away.id());
        change(node, Change::UserDelete(pb::AuthUserDeleteRequest { name: "u".into() })).await;
        // Who bears the name now is somebody else.
        change(node, add("u")).await;
        let kept = token(node, "u", "kept").await;
        write_much(node, round).await;
        let revision = node.status().revision;
        assert_eq!(away.resolve_token(&dropped).await.unwrap().user, "u", "it has not heard of it");
        cluster.wires.heal();
        until("the member to catch up", || away.status().revision >= revision).await;
        let refused = away.resolve_token(&dropped).await;
        assert!(matches!(refused, Err(Error::Api(ApiError::InvalidAuthToken))), "{refused:?}");
        let there = node.resolve_token(&kept).await.expect("the others keep what counts");
        assert_eq!(there.user, "u");
        let by_snapshot = cluster.wires.snapshots() > snapshots;
        let here = away.resolve_token(&kept).await;
        // Through the log it has the newer one; a snapshot has none.
        assert_eq!(here.is_ok(), !by_snapshot, "{here:?}");
        change(node, Change::UserDelete(pb::AuthUserDeleteRequest { name: "u".into() })).await;
        if by_snapshot {
            break;
        }
    }
    cluster.end().await;
}

/// A learner takes part in no vote, and holds the same all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_has_the_leaders_hashes() {
    let mut cluster = Cluster::start_tuned(1, forgetful).await;
    write_much(cluster.node(0), 0).await;
    let revision = cluster.node(0).status().revision;
    cluster
        .node(0)
        .compact(pb::CompactionRequest { revision: revision - 100, physical: true })
        .await
        .unwrap();
    cluster.published().await;
    let url = cluster.next_url();
    cluster.node(0).add(vec![url], true).await.unwrap();
    let learner = cluster.join().await;
    for round in 1..3 {
        write_much(cluster.node(0), round).await;
        let revision = cluster.node(0).status().revision;
        until("the learner to catch up", || cluster.node(learner).status().revision >= revision).await;
        assert!(cluster.node(learner).status().is_learner);
        for at in [0, revision, revision - 50] {
            let ask = || pb::HashKvRequest { revision: at };
            let here = cluster.node(learner).hash_kv(ask()).await.unwrap();
            let there = cluster.node(0).hash_kv(ask()).await.unwrap();
            let told = |hash: &pb::HashKvResponse| (hash.hash, hash.compact_revision, hash.hash_revision);
            assert_eq!(told(&here), told(&there), "at {at}");
            assert!(here.compact_revision > 0);
        }
    }
    cluster.end().await;
}
