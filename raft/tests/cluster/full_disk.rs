//! Disks without room: a member waits for it and goes on.

use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{ApiError, Error, Store, StoreExt};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_alarm_outlives_restarts_until_it_is_ended() {
    let mut cluster = Cluster::start_tuned(3, |config| config.quota_bytes = 40_000).await;
    let value = "x".repeat(1000);
    let mut filled = 0;
    let refused = loop {
        match put(cluster.node(0), &format!("k{filled}"), &value).await {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
        assert!(filled < 100, "the quota is not kept");
    };
    assert!(matches!(refused, Error::Api(ApiError::NoSpace)), "{refused}");
    for index in 0..3 {
        cluster.crash(index).await;
    }
    for index in 0..3 {
        cluster.boot(index).await;
    }
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    assert_eq!(get(node, "k0", false).await.unwrap(), Some(value.clone()));
    let alarms = node.status().alarms;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let refused = put(node, "small", "v").await;
    assert!(matches!(refused, Err(Error::Api(ApiError::NoSpace))), "{refused:?}");

    // As an operator does it: remove, compact, end the alarm.
    let all = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let revision = node.delete_range(all).await.unwrap().header.unwrap().revision;
    node.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    // The member that was asked last has raised its own beside the first.
    for alarm in node.status().alarms {
        let end = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        node.alarm(end).await.unwrap();
    }
    put(node, "small", "v").await.unwrap();
    for index in 0..3 {
        cluster.crash(index).await;
        cluster.boot(index).await;
    }
    let leader = cluster.leader().await;
    // Read through the cluster: by then this member has applied everything.
    assert_eq!(get(cluster.node(leader), "small", false).await.unwrap().as_deref(), Some("v"));
    assert!(cluster.node(leader).status().alarms.is_empty(), "an ended alarm does not come back");
    cluster.end().await;
}
