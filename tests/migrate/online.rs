//! Moving a store that is written to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skiff_test_support::Client;
use skiff_test_support::pb::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};

use crate::migrate;
use crate::observe::{look, put, range, write_history};
use crate::places::{Kind, Place};

/// Starts a migration and waits for a line that it tells.
fn until_told(mut child: Child, part: &'static str) -> tokio::task::JoinHandle<(Child, String)> {
    tokio::task::spawn_blocking(move || {
        let mut told = String::new();
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        while !told.contains(part) {
            let read = lines.read_line(&mut told).expect("text");
            assert!(read > 0, "it ended: {told}");
        }
        // Whoever ends must not be stopped by a pipe that nobody reads.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        (child, told)
    })
}

/// One client: puts to its own keys, leases that come and go; what was
/// acknowledged, by key.
async fn write(
    client: Client,
    number: usize,
    reads: usize,
    stop: Arc<AtomicBool>,
) -> BTreeMap<String, (String, i64)> {
    let mut acknowledged = BTreeMap::new();
    let mut round: i64 = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for _ in 0..reads {
            client.range(range(b"a", b"")).await.expect("a read");
        }
        let id = 1000 * (number as i64 + 1) + round % 7;
        let key = format!("writer/{number}/{}", round % 50);
        if round % 10 == 0 {
            // It may be there from seven rounds ago.
            let _ = client.lease_revoke(LeaseRevokeRequest { id }).await;
            client.lease_grant(LeaseGrantRequest { ttl: 600, id }).await.expect("a lease");
            client.put(put(format!("leased/{number}"), "x", id)).await.expect("a put");
        }
        let value = format!("{round}");
        let answer = client.put(put(key.clone(), value.clone(), 0)).await.expect("a put");
        acknowledged.insert(key, (value, answer.header.expect("a header").revision));
    }
    acknowledged
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Each place that can be written to once as a source, each place once or more
/// as a target; with `SKIFF_MIGRATE_ALL=1` each to each.
fn pairs() -> Vec<(Kind, Kind)> {
    let all = Kind::all();
    let live: Vec<Kind> =
        all.iter().copied().filter(|kind| !matches!(kind, Kind::DataDir | Kind::Snapshot)).collect();
    if number("SKIFF_MIGRATE_ALL", 0) == 1 {
        return live.iter().flat_map(|from| all.iter().map(|to| (*from, *to))).collect();
    }
    // From the newest database to the oldest place, and so on.
    let targets = all.iter().rev().copied();
    let sources = live.iter().copied().cycle();
    sources.zip(targets).collect()
}

/// Keys that are there before anything is moved.
async fn fill(client: &Client, keys: usize) {
    use futures::StreamExt;
    let puts = futures::stream::iter(0..keys).map(|n| async move {
        let value = format!("{n:0128}");
        client.put(put(format!("/registry/filled/{n:07}"), value, 0)).await.expect("a put");
    });
    puts.buffer_unordered(64).collect::<Vec<()>>().await;
}

/// Writers while it is copied and followed; they stop when told; then the
/// target has every acknowledged write at its revision, and all events.
#[tokio::test(flavor = "multi_thread")]
async fn writers_lose_nothing() {
    for (from, to) in pairs() {
        let mut source = Place::empty(from).await;
        let client = source.client().await;
        let compacted = write_history(&client, 100).await;
        fill(&client, number("SKIFF_MIGRATE_KEYS", 500)).await;
        let stop = Arc::new(AtomicBool::new(false));
        // A running etcd is written to one revision at a time: it keeps up with one
        // writer that also reads.
        let (writers, reads) = if matches!(to, Kind::Etcd | Kind::SkiffEtcd) { (1, 6) } else { (4, 0) };
        let writers: Vec<_> =
            (0..writers).map(|n| tokio::spawn(write(client.clone(), n, reads, stop.clone()))).collect();
        let target = Place::empty(to).await;
        let begun = std::time::Instant::now();
        let child = migrate(&source.name, &target.name, &["--online", "--switch-after", "500ms"])
            .args(target.flags())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (child, _) = until_told(child, "in step").await.expect("it was told");
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for writer in writers {
            acknowledged.extend(writer.await.expect("a writer"));
        }
        let done = tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ended"));
        let done = done.await.expect("it ended");
        let took = begun.elapsed().as_secs_f64();
        assert!(done.status.success(), "{from:?} to {to:?}: {done:?}");
        let told: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let expected = look(&client, compacted).await;
        source.rest().await;
        let mut target = target;
        let seen = look(&target.client().await, compacted).await;
        assert!(
            seen == expected,
            "{from:?} to {to:?}: revisions {} and {}",
            seen.revision,
            expected.revision
        );
        let pairs: BTreeMap<_, _> = seen.pairs.iter().map(|kv| (kv.key.clone(), kv)).collect();
        for (key, (value, revision)) in &acknowledged {
            let kv = pairs.get(key.as_bytes()).unwrap_or_else(|| panic!("{from:?} to {to:?}: {key} is lost"));
            assert!(kv.value == value.as_bytes() && kv.mod_revision == *revision, "{key}: {kv:?}");
        }
        println!(
            "{from:?} to {to:?}: {} keys, revision {}, {:.1} s, pause {} ms",
            seen.pairs.len(),
            seen.revision,
            took,
            told["pauseMillis"]
        );
        target.rest().await;
    }
}

/// Without --online a source that was written to meanwhile is told of, and the
/// same command then completes what was begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changed_is_told_of() {
    let mut source = Place::empty(Kind::SkiffEtcd).await;
    let client = source.client().await;
    let compacted = write_history(&client, 100).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(client.clone(), 0, 0, stop.clone()));
    let mut target = Place::empty(Kind::Sqlite).await;
    let (name, to) = (source.name.clone(), target.name.clone());
    let first =
        tokio::task::spawn_blocking(move || crate::migrated(&name, &to, &[])).await.expect("it ended");
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the writer");
    assert!(first.code == 1 && first.stderr.contains("--online"), "{}", first.stderr);
    crate::migrated(&source.name, &target.name, &[]).ok();
    assert!(look(&target.client().await, compacted).await == look(&client, compacted).await);
}
