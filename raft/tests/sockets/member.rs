//! One member: its data, its address and, while it runs, its node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use skiff_raft::clock::SystemClock;
use skiff_raft::disk::RealDisk;
use skiff_raft::peer::PeerClient;
use skiff_raft::transport::{Faults, Transport, TransportConfig};
use skiff_raft::{InitialState, Node, NodeConfig, Parts};
use skiff_store::Store;
use skiff_store::engine::Engine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::error::Result;
use tokio::runtime::Runtime;

use super::server::Server;

/// Addresses 127.1.x.y are this process's tests' own.
static NEXT: AtomicU16 = AtomicU16::new(1);

/// A member of a cluster under test.
pub(crate) struct Member {
    pub(crate) name: String,
    address: SocketAddr,
    data: tempfile::TempDir,
    faults: Arc<Faults>,
    cluster: Vec<(String, Vec<String>)>,
    state: InitialState,
    tune: fn(&mut NodeConfig),
    running: Option<Running>,
}

/// What runs of a member. A runtime of its own lets a test end it as abruptly
/// as a process ends.
struct Running {
    node: Arc<Node>,
    server: Server,
    runtime: Runtime,
}

/// Members of a new cluster, none of them started.
pub(crate) fn members(count: usize, faults: &Arc<Faults>, tune: fn(&mut NodeConfig)) -> Vec<Member> {
    let mut members: Vec<Member> =
        (0..count).map(|i| Member::new(format!("m{i}"), faults.clone(), tune)).collect();
    let cluster: Vec<_> = members.iter().map(|m| (m.name.clone(), vec![m.url()])).collect();
    for member in &mut members {
        member.cluster = cluster.clone();
    }
    members
}

/// A running new cluster.
pub(crate) async fn cluster(count: usize, faults: &Arc<Faults>, tune: fn(&mut NodeConfig)) -> Vec<Member> {
    let mut members = members(count, faults, tune);
    for member in &mut members {
        member.start().await;
    }
    members
}

impl Member {
    fn new(name: String, faults: Arc<Faults>, tune: fn(&mut NodeConfig)) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let ip = std::net::Ipv4Addr::new(127, 1, number[0], number[1]);
        Member {
            name,
            // The process id keeps concurrent test processes apart.
            address: (ip, 20_000 + (std::process::id() % 10_000) as u16).into(),
            data: tempfile::tempdir().unwrap(),
            faults,
            cluster: Vec::new(),
            state: InitialState::New,
            tune,
            running: None,
        }
    }

    /// A member that joins the cluster of others; it must be added first.
    pub(crate) fn joining(name: &str, others: &[&Member]) -> Self {
        let mut member = Member::new(name.to_owned(), others[0].faults.clone(), others[0].tune);
        member.state = InitialState::Existing;
        member.cluster = others.iter().map(|other| (other.name.clone(), vec![other.url()])).collect();
        member.cluster.push((member.name.clone(), vec![member.url()]));
        member
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.running.as_ref().expect("the member runs").node
    }

    /// The leader this member follows; 0 for none.
    pub(crate) fn leader(&self) -> u64 {
        self.node().status().leader
    }

    fn config(&self) -> NodeConfig {
        let mut config = NodeConfig {
            name: self.name.clone(),
            data_dir: self.data.path().join("data"),
            initial_cluster: self.cluster.clone(),
            initial_state: self.state,
            advertise_peer_urls: vec![self.url()],
            ..NodeConfig::default()
        };
        (self.tune)(&mut config);
        config
    }

    pub(crate) async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    async fn try_start(&mut self) -> Result<()> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (config, faults, address) = (self.config(), self.faults.clone(), self.address);
        let started = runtime.spawn(async move {
            let node = Node::start(config, parts(), move |cluster_id, member_id| {
                let faults = Some(faults.clone());
                let config = TransportConfig { cluster_id, member_id, faults, ..Default::default() };
                let transport = Transport::new(config);
                (transport.clone(), transport as Arc<dyn PeerClient>)
            });
            let node = node.await?;
            let server = Server::listen(node.clone(), address, None).await;
            Ok((node, server))
        });
        match started.await.unwrap() {
            Ok((node, server)) => {
                self.running = Some(Running { node, server, runtime });
                Ok(())
            }
            Err(error) => {
                end(runtime).await;
                Err(error)
            }
        }
    }

    /// Ends the member in order.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("the member runs");
        running.node.stop().await;
        running.server.kill().await;
        drop(running.node);
        end(running.runtime).await;
    }

    /// Ends the member in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.take().expect("the member runs");
        drop(running.node);
        end(running.runtime).await;
        drop(running.server);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.shutdown_background();
        }
    }
}

async fn end(runtime: Runtime) {
    let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(20)));
    ended.await.unwrap();
}

fn parts() -> Parts {
    let open = |dir: &std::path::Path| {
        RocksEngine::open(dir, &RocksOptions::default()).map(|engine| Arc::new(engine) as Arc<dyn Engine>)
    };
    Parts { engines: Arc::new(open), disk: Arc::new(RealDisk), clock: Arc::new(SystemClock) }
}
