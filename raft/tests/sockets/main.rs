//! Whole members over real sockets, logs and databases: elections, failover,
//! partitions, catching up, joining and leaving.

mod failover;
mod member;
mod membership;
#[path = "../common/server.rs"]
mod server;
mod snapshot;

use std::time::{Duration, Instant};

use skiff_store::StoreExt;
use skiff_store::error::Result;
use skiff_store::pb::etcdserverpb::{HashKvRequest, PutRequest, RangeRequest};

use member::Member;

/// Longest time anything may take before a test calls it lost.
const DEADLINE: Duration = Duration::from_secs(60);

/// Repeats an attempt until it gives something or the deadline has passed.
async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if start.elapsed() > DEADLINE => panic!("{what}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn put_request(key: &str, value: impl Into<bytes::Bytes>) -> PutRequest {
    PutRequest { key: key.as_bytes().to_vec().into(), value: value.into(), ..Default::default() }
}

/// Writes, trying again while no member can take it. Puts of one key and value
/// may happen twice.
async fn put(member: &Member, key: &str, value: &str) -> i64 {
    eventually("put", async || {
        let reply = member.node().put(put_request(key, value.as_bytes().to_vec())).await;
        reply.map(|reply| reply.header.unwrap().revision).map_err(|error| error.to_string())
    })
    .await
}

/// Reads a key, linearizably unless said otherwise.
async fn get(member: &Member, key: &str, serializable: bool) -> Result<Option<String>> {
    let request = RangeRequest { key: key.as_bytes().to_vec().into(), serializable, ..Default::default() };
    let reply = member.node().range(request).await?;
    Ok(reply.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()))
}

/// The leader that a majority of these members follow.
async fn leader<'a>(members: &[&'a Member]) -> &'a Member {
    eventually("a leader", async || {
        let leaders: Vec<u64> = members.iter().map(|member| member.leader()).collect();
        let count = |id: u64| leaders.iter().filter(|leader| **leader == id).count();
        let found = members.iter().find(|member| count(member.node().id()) * 2 > members.len());
        found.copied().ok_or_else(|| format!("leaders are {leaders:x?}"))
    })
    .await
}

/// Waits until all members have the same key space.
async fn agree(members: &[&Member]) {
    eventually("members agree", async || {
        let mut hashes = Vec::new();
        for member in members {
            let reply = member.node().hash_kv(HashKvRequest::default()).await;
            let reply = reply.map_err(|error| error.to_string())?;
            hashes.push((reply.header.unwrap().revision, reply.hash));
        }
        hashes.dedup();
        if hashes.len() == 1 { Ok(()) } else { Err(format!("{hashes:?}")) }
    })
    .await;
}
