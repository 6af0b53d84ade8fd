//! What a program on the `etcd-client` crate does with a server: run by tests/clients.rs.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::*;

type Done = Result<(), Box<dyn Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the test to kill the member and start it again.
fn restart() -> Done {
    println!("restart");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line == "done\n" { Ok(()) } else { Err(format!("the test said {line:?}").into()) }
}

async fn keys(client: &mut Client) -> Done {
    for key in ["rs/a", "rs/b", "rs/c"] {
        client.put(key, key, None).await?;
    }
    let options =
        GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(2);
    let got = client.get("rs/", Some(options)).await?;
    assert_eq!((got.count(), got.more(), got.kvs()[0].key()), (3, true, &b"rs/c"[..]));
    let deleted = client.delete("rs/b", Some(DeleteOptions::new().with_prev_key())).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs()[0].value()), (1, &b"rs/b"[..]));
    let txn = Txn::new()
        .when([Compare::value("rs/a", CompareOp::Equal, "rs/a")])
        .and_then([TxnOp::put("rs/a", "2", None), TxnOp::get("rs/a", None)])
        .or_else([TxnOp::delete("rs/a", None)]);
    assert!(client.txn(txn.clone()).await?.succeeded());
    assert!(!client.txn(txn).await?.succeeded());
    assert_eq!(client.get("rs/a", None).await?.count(), 0);
    Ok(())
}

/// Takes the keys of so many events of a watch.
async fn take(stream: &mut WatchStream, count: usize) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let response = stream.message().await?.ok_or("the watch ended")?;
        for event in response.events() {
            keys.push(event.kv().ok_or("an event without a pair")?.key_str()?.to_owned());
        }
    }
    Ok(keys)
}

async fn watches(client: &mut Client, endpoint: &str) -> Done {
    let first = client.put("rs/w/0", "x", None).await?.header().ok_or("no header")?.revision();
    let options = WatchOptions::new().with_prefix().with_start_revision(first);
    let mut watch = client.watch("rs/w/", Some(options)).await?;
    client.put("rs/w/1", "x", None).await?;
    assert_eq!(take(&mut watch, 2).await?, ["rs/w/0", "rs/w/1"]);
    restart()?;
    // As a program resumes: another connection, from the revision after the last one seen.
    let mut again = Client::connect([endpoint], None).await?;
    again.put("rs/w/2", "x", None).await?;
    let options = WatchOptions::new().with_prefix().with_start_revision(first + 2);
    let mut watch = again.watch("rs/w/", Some(options)).await?;
    again.put("rs/w/3", "x", None).await?;
    assert_eq!(take(&mut watch, 2).await?, ["rs/w/2", "rs/w/3"]);
    Ok(())
}

async fn leases(client: &mut Client) -> Done {
    let lease = client.lease_grant(2, None).await?.id();
    client.put("rs/leased", "x", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut renewals) = client.lease_keep_alive(lease).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        assert_eq!(renewals.message().await?.ok_or("no renewal")?.ttl(), 2);
    }
    let left = client.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((left.granted_ttl(), left.keys()), (2, &[b"rs/leased".to_vec()][..]));
    let mut watch = client.watch("rs/leased", None).await?;
    assert_eq!(take(&mut watch, 1).await?, ["rs/leased"]);
    assert_eq!(client.get("rs/leased", None).await?.count(), 0);
    Ok(())
}

/// Many want one lock; the server's own service hands it on.
async fn locks(client: &Client) -> Done {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (mut client, inside, most) = (client.clone(), inside.clone(), most.clone());
        tasks.push(tokio::spawn(async move {
            let lease = client.lease_grant(30, None).await?.id();
            let held = client.lock("rs-lock", Some(LockOptions::new().with_lease(lease))).await?;
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            client.put("rs/work", "x", None).await?;
            inside.fetch_sub(1, Ordering::SeqCst);
            client.unlock(held.key()).await?;
            client.lease_revoke(lease).await?;
            Done::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    Ok(())
}

async fn elections(client: &mut Client) -> Done {
    let (first, second) =
        (client.lease_grant(30, None).await?.id(), client.lease_grant(30, None).await?.id());
    let won = client.campaign("rs-office", "one", first).await?;
    let leader = won.leader().ok_or("no leader")?.clone();
    let mut observed = client.observe("rs-office").await?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.campaign("rs-office", "two", second).await });
    client.proclaim("one again", Some(ProclaimOptions::new().with_leader(leader.clone()))).await?;
    assert_eq!(client.leader("rs-office").await?.kv().ok_or("no leader")?.value(), b"one again");
    client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    waiting.await??;
    let mut seen = BTreeSet::new();
    while !seen.contains("two") {
        let news = observed.message().await?.ok_or("the observation ended")?;
        seen.insert(news.kv().ok_or("no leader")?.value_str()?.to_owned());
    }
    client.lease_revoke(second).await?;
    client.leader("rs-office").await.expect_err("nobody leads");
    Ok(())
}

async fn maintenance(client: &mut Client) -> Done {
    let status = client.status().await?;
    assert!(!status.version().is_empty() && status.raft_term() > 0);
    let members = client.member_list().await?;
    assert_eq!(members.members().iter().map(Member::name).collect::<Vec<_>>(), ["m1"]);
    let revision = client.put("rs/c", "x", None).await?.header().ok_or("no header")?.revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    client
        .get("rs/c", Some(GetOptions::new().with_revision(revision - 1)))
        .await
        .expect_err("it is compacted");
    assert_ne!(client.hash_kv(0).await?.hash(), 0);
    client.defragment().await?;
    client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
    }
    assert!(bytes > 0);
    Ok(())
}

async fn run(endpoint: &str) -> Done {
    let mut client = Client::connect([endpoint], None).await?;
    keys(&mut client).await?;
    watches(&mut client, endpoint).await?;
    let mut client = Client::connect([endpoint], None).await?;
    leases(&mut client).await?;
    locks(&client).await?;
    elections(&mut client).await?;
    maintenance(&mut client).await
}

#[tokio::main]
async fn main() -> Done {
    let endpoint = std::env::args().nth(1).ok_or("which endpoint?")?;
    tokio::time::timeout(3 * PATIENCE, run(&endpoint)).await?
}
