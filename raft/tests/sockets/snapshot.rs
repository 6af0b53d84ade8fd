//! Members that are behind what the log still holds.

use std::sync::Arc;
use std::time::Duration;

use skiff_raft::NodeConfig;

use super::member::cluster;
use super::*;

/// Flushes and purges so soon that a member that misses a little misses too
/// much.
fn forgetful(config: &mut NodeConfig) {
    config.catchup_entries = 2;
    config.flush_bytes = 64 << 10;
    config.flush_interval = Duration::from_millis(200);
}

/// Writes more entries than the log keeps: openraft purges in steps of 256.
async fn write_much(member: &Member) {
    for i in 0..600 {
        put(member, &format!("key{}", i % 50), &"x".repeat(1 << 10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_behind_the_log_catches_up_by_a_snapshot() {
    let mut members = cluster(3, &Arc::default(), forgetful).await;
    put(&members[0], "early", "1").await;
    agree(&members.iter().collect::<Vec<_>>()).await;
    let id = leader(&members.iter().collect::<Vec<_>>()).await.node().id();
    let at = members.iter().position(|member| member.node().id() != id).unwrap();
    let mut behind = members.remove(at);
    let behind_id = behind.node().id();
    behind.kill().await;
    write_much(&members[0]).await;
    put(&members[0], "late", "2").await;
    let sent = snapshots_sent_to(behind_id);
    behind.start().await;
    let all = [&behind, &members[0], &members[1]];
    agree(&all).await;
    assert_eq!(get(&behind, "late", true).await.unwrap().as_deref(), Some("2"));
    eventually("a snapshot is sent", async || match snapshots_sent_to(behind_id) {
        count if count > sent => Ok(()),
        _ => Err("it caught up by the log alone".to_owned()),
    })
    .await;

    // It is a member as any other again, and its state survives a restart.
    put(&behind, "after", "4").await;
    behind.kill().await;
    behind.start().await;
    let all = [&behind, &members[0], &members[1]];
    agree(&all).await;
    assert_eq!(get(&behind, "after", true).await.unwrap().as_deref(), Some("4"));
}

/// Snapshots sent to a member by all members of this process.
fn snapshots_sent_to(id: u64) -> u64 {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == "etcd_network_snapshot_send_success");
    let to = format!("{id:x}");
    let metrics = family.into_iter().flat_map(|family| family.get_metric());
    let mine = metrics.filter(|metric| metric.get_label().iter().any(|label| label.value() == to));
    mine.map(|metric| metric.get_counter().get_value() as u64).sum()
}
