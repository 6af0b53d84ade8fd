//! The peer transport over real sockets, with a handler that plays the node.

mod append;
mod calls;
mod handler;
mod links;
#[path = "../common/server.rs"]
mod server;
mod snapshot;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_raft::transport::{Transport, TransportConfig, TransportOptions};
use skiff_raft::types::{Entry, MemberNode, Payload, Proposal, Vote, log_id};

use handler::Handler;
use server::Server;

/// Cluster of all tests' members, where nothing else is said.
const CLUSTER: u64 = 0xc1;
/// The asking member.
const ASKER: u64 = 0xa1;
/// The answering member.
const ANSWERER: u64 = 0xb2;
/// Longest time anything may take before a test calls it lost.
const DEADLINE: Duration = Duration::from_secs(20);

fn options() -> TransportOptions {
    TransportOptions { reconnect_max: Duration::from_millis(20), ..TransportOptions::default() }
}

fn config() -> TransportConfig {
    TransportConfig { cluster_id: CLUSTER, member_id: ASKER, options: options(), ..Default::default() }
}

/// A server on any free port.
async fn start(handler: Arc<Handler>) -> Server {
    Server::listen(handler, "127.0.0.1:0".parse().unwrap(), None).await
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

fn transport() -> Arc<Transport> {
    Transport::new(config())
}

fn node(urls: &[String]) -> MemberNode {
    MemberNode { peer_urls: urls.to_vec(), ..Default::default() }
}

fn leader() -> Vote {
    Vote::new_committed(3, ASKER)
}

fn entry(index: u64, bytes: usize) -> Entry {
    let payload = Proposal::from_encoded(vec![index as u8; bytes].into());
    Entry { log_id: log_id(3, index), payload: Payload::Normal(payload) }
}

/// Repeats an attempt until it succeeds or the deadline has passed.
async fn eventually<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    E: std::fmt::Debug,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if start.elapsed() > DEADLINE => panic!("{what}: {error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
