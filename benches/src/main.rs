//! `load`: closed-loop load on any etcd endpoint, for figures side by side.
//!
//! ```text
//! load put   ENDPOINT clients=100 total=20000 value=256 [prefix=bench/] [connections=N]
//! load get   ENDPOINT clients=100 total=20000 keys=10000 [serializable=1]
//! load range ENDPOINT clients=1   total=100   limit=10000
//! load create ENDPOINT clients=50 total=20000 value=1024
//! load update ENDPOINT clients=50 total=20000 value=1024
//! load watch ENDPOINT from=OTHER  total=1000  value=256
//! ```
//!
//! `create` and `update` are transactions as the API server makes them: of a key
//! that does not exist, and of one whose revision the client knows (each client
//! has keys of its own, `keys` of them). `watch` writes to one server and takes
//! the time until another one (`from`) has delivered the event; with `gap` (in
//! milliseconds) there is a pause between the writes. `compact` compacts at the
//! newest revision.
//!
//! It prints one line: requests per second, and latency at some quantiles, in
//! microseconds. Not here: open-loop load, mixes, comparison of two
//! servers in alternation.

mod client;
mod transactions;
mod watching;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::Client;
use skiff_store::pb::etcdserverpb as pb;

const USAGE: &str = "usage: load put|get|range|create|update|watch|compact ENDPOINT [clients=N] [total=N] [value=BYTES] [keys=N] \
                     [limit=N] [connections=N] [prefix=P] [serializable=1] \
                     [from=ENDPOINT] [gap=MS]";

/// What to do, from the command line.
#[derive(Clone)]
struct Plan {
    kind: String,
    endpoint: String,
    options: HashMap<String, String>,
}

impl Plan {
    fn parse(args: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = args;
        let (kind, endpoint) = (args.next()?, args.next()?);
        let options = args
            .map(|arg| arg.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            .collect::<Option<HashMap<_, _>>>()?;
        const KINDS: [&str; 7] = ["put", "get", "range", "create", "update", "watch", "compact"];
        KINDS.contains(&kind.as_str()).then_some(Self { kind, endpoint, options })
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.options.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn key(&self, i: u64) -> Bytes {
        let prefix = self.options.get("prefix").map_or("bench/", String::as_str);
        Bytes::from(format!("{prefix}{i:016}"))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(plan) = Plan::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(Arc::new(plan)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Arc<Plan>) -> Result<(), Box<dyn std::error::Error>> {
    let clients = plan.number("clients", 1).max(1);
    let connections = plan.number("connections", clients.min(100)).max(1);
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(Client::connect(&plan.endpoint).await?);
    }
    if plan.kind == "compact" {
        return Ok(transactions::compact(&mut channels[0]).await?);
    }
    if plan.kind == "watch" {
        let from = plan.options.get("from").unwrap_or(&plan.endpoint);
        let started = Instant::now();
        let latencies =
            watching::latencies(&plan, &mut channels[0], &mut Client::connect(from).await?).await?;
        report(&plan, 1, started.elapsed(), latencies);
        return Ok(());
    }
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|i| {
            let client = channels[(i % connections) as usize].clone();
            tokio::spawn(worker(plan.clone(), i, client, next.clone()))
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await??);
    }
    report(&plan, clients, started.elapsed(), latencies);
    Ok(())
}

/// Sends requests until the total is reached; the time each took.
async fn worker(
    plan: Arc<Plan>,
    number: u64,
    mut client: Client,
    next: Arc<AtomicU64>,
) -> Result<Vec<Duration>, tonic::Status> {
    let total = plan.number("total", 1000);
    let value = Bytes::from(vec![b'x'; plan.number("value", 256) as usize]);
    let mut latencies = Vec::new();
    let mut own = transactions::Own::new(&plan, number);
    loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= total {
            return Ok(latencies);
        }
        let started = Instant::now();
        match plan.kind.as_str() {
            "create" => transactions::create(&plan, &mut client, i, &value).await?,
            "update" => own.update(&mut client, &value).await?,
            _ => request(&plan, &mut client, i, &value).await?,
        }
        latencies.push(started.elapsed());
    }
}

async fn request(plan: &Plan, client: &mut Client, i: u64, value: &Bytes) -> Result<(), tonic::Status> {
    match plan.kind.as_str() {
        "put" => {
            let request = pb::PutRequest { key: plan.key(i), value: value.clone(), ..Default::default() };
            client.put(request).await.map(drop)
        }
        "get" => {
            let keys = plan.number("keys", 10_000).max(1);
            let request = pb::RangeRequest {
                // A multiplicative step visits the keys in a scattered order.
                key: plan.key(i.wrapping_mul(0x9e37_79b9) % keys),
                serializable: plan.number("serializable", 0) == 1,
                ..Default::default()
            };
            client.range(request).await.map(drop)
        }
        _ => {
            let request = pb::RangeRequest {
                key: Bytes::from_static(b"bench/"),
                range_end: Bytes::from_static(b"bench0"),
                limit: plan.number("limit", 0) as i64,
                serializable: plan.number("serializable", 0) == 1,
                ..Default::default()
            };
            client.range(request).await.map(drop)
        }
    }
}

fn report(plan: &Plan, clients: u64, elapsed: Duration, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |quantile: f64| {
        let last = latencies.len().saturating_sub(1);
        latencies.get((last as f64 * quantile) as usize).map_or(0, |latency| latency.as_micros())
    };
    println!(
        "{} clients={clients} requests={} per_second={:.0} p50_us={} p90_us={} p99_us={} max_us={}",
        plan.kind,
        latencies.len(),
        latencies.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    );
}
