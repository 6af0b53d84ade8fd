//! Leaders that die, are cut off, or hand over.

use std::sync::Arc;
use std::time::Instant;

use skiff_raft::transport::Faults;
use skiff_store::{Cluster, Store, StoreExt};

use super::member::cluster;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_takes_any_request() {
    let members = cluster(3, &Arc::default(), |_| ()).await;
    for (i, member) in members.iter().enumerate() {
        put(member, &format!("key{i}"), "value").await;
        for reader in &members {
            let found = eventually("a linearizable read", async || {
                get(reader, &format!("key{i}"), false).await.map_err(|error| error.to_string())
            });
            assert_eq!(found.await.as_deref(), Some("value"), "{} from {}", member.name, reader.name);
        }
    }
    agree(&members.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_go_on_when_the_leader_dies_and_it_comes_back() {
    let mut members = cluster(3, &Arc::default(), |_| ()).await;
    put(&members[0], "before", "1").await;
    let id = leader(&members.iter().collect::<Vec<_>>()).await.node().id();
    let at = members.iter().position(|member| member.node().id() == id).unwrap();
    let mut dead = members.remove(at);
    dead.kill().await;

    let since = Instant::now();
    put(&members[0], "after", "2").await;
    println!("a write passed {:?} after the leader's death", since.elapsed());
    for member in &members {
        assert_eq!(get(member, "before", false).await.unwrap().as_deref(), Some("1"));
        assert_eq!(get(member, "after", false).await.unwrap().as_deref(), Some("2"));
    }
    dead.start().await;
    let all = [&dead, &members[0], &members[1]];
    agree(&all).await;
    assert_eq!(get(&dead, "after", true).await.unwrap().as_deref(), Some("2"));
    put(&dead, "again", "3").await;
    agree(&all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing() {
    let faults = Arc::new(Faults::default());
    let members = cluster(3, &faults, |_| ()).await;
    put(&members[0], "key", "old").await;
    let all: Vec<_> = members.iter().collect();
    let old = leader(&all).await;
    let rest: Vec<_> = all.iter().copied().filter(|member| member.node().id() != old.node().id()).collect();
    let ids: Vec<u64> = rest.iter().map(|member| member.node().id()).collect();
    faults.partition(&[&[old.node().id()], &ids]);

    let lost = old.node().put(put_request("key", "lost"));
    let stale = get(old, "key", false);
    put(rest[0], "key", "new").await;
    let (lost, stale) = tokio::join!(lost, stale);
    assert!(lost.is_err(), "a cut-off leader acknowledged {lost:?}");
    assert!(stale.is_err(), "a cut-off leader answered {stale:?}");
    assert_eq!(get(rest[1], "key", false).await.unwrap().as_deref(), Some("new"));

    faults.heal();
    agree(&all).await;
    let healed = eventually("a read of the healed member", async || {
        get(old, "key", false).await.map_err(|error| error.to_string())
    });
    assert_eq!(healed.await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_and_on_a_stop() {
    let mut members = cluster(3, &Arc::default(), |_| ()).await;
    put(&members[0], "key", "1").await;
    let old = leader(&members.iter().collect::<Vec<_>>()).await;
    let target = members.iter().find(|member| member.node().id() != old.node().id()).unwrap();
    let target_id = target.node().id();
    old.node().move_leader(target_id).await.unwrap();
    let now = leader(&members.iter().collect::<Vec<_>>()).await.node().id();
    assert_eq!(now, target_id);

    let at = members.iter().position(|member| member.node().id() == target_id).unwrap();
    let mut stopping = members.remove(at);
    stopping.stop().await;
    let since = Instant::now();
    put(&members[0], "key", "2").await;
    println!("a write passed {:?} after the leader's stop", since.elapsed());
    stopping.start().await;
    agree(&[&stopping, &members[0], &members[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_stopped_comes_back_with_everything() {
    let mut members = cluster(3, &Arc::default(), |_| ()).await;
    for i in 0..50 {
        put(&members[i % 3], &format!("key{i}"), &format!("value{i}")).await;
    }
    let revision = members[0].node().status().revision;
    for member in &mut members {
        member.kill().await;
    }
    for member in &mut members {
        member.start().await;
    }
    for i in 0..50 {
        let found = eventually("a read", async || {
            get(&members[i % 3], &format!("key{i}"), false).await.map_err(|error| error.to_string())
        });
        assert_eq!(found.await, Some(format!("value{i}")));
    }
    assert!(members[0].node().status().revision >= revision);
    agree(&members.iter().collect::<Vec<_>>()).await;
}
