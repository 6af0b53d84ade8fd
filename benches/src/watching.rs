//! How long an event takes from one server to a watcher of another.

use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_store::pb::etcdserverpb as pb;
use tonic::Status;

use crate::Plan;
use crate::client::Client;

/// Writes one key after the other, and takes the time from the write's
/// acknowledgement to the event; zero where the event was there first.
pub(crate) async fn latencies(
    plan: &Plan,
    writer: &mut Client,
    watcher: &mut Client,
) -> Result<Vec<Duration>, Status> {
    let key = plan.key(0);
    let request = pb::WatchCreateRequest { key: key.clone(), ..Default::default() };
    let mut events = watcher.watch(request).await?;
    let ended = || Status::unavailable("the watch ended");
    // Its creation.
    events.message().await?.ok_or_else(ended)?;
    let value = Bytes::from(vec![b'x'; plan.number("value", 256) as usize]);
    let gap = Duration::from_millis(plan.number("gap", 0));
    let mut latencies = Vec::new();
    for _ in 0..plan.number("total", 1000) {
        tokio::time::sleep(gap).await;
        let request = pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
        let answer = writer.put(request).await?;
        let acknowledged = Instant::now();
        let revision = answer.header.map_or(0, |header| header.revision);
        while !events
            .message()
            .await?
            .ok_or_else(ended)?
            .events
            .iter()
            .any(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision >= revision))
        {}
        latencies.push(acknowledged.elapsed());
    }
    Ok(latencies)
}
