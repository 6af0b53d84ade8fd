//! Members in one process: a simulated disk for each log, engines in memory
//! that forget what was not flushed when they crash, and wires to cut.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skiff_raft::clock::SystemClock;
use skiff_raft::disk::SimDisk;
use skiff_raft::node::InitialState;
use skiff_raft::peer::PeerClient;
use skiff_raft::state::EngineFactory;
use skiff_raft::{Node, NodeConfig, Parts};
use skiff_store::engine::Engine;
use skiff_store::engine::mem::MemEngine;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Cluster as _, Error, Result, Store, StoreExt};

use crate::net::{Endpoint, Wires};

/// How long any condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type Engines = Arc<Mutex<HashMap<PathBuf, Arc<MemEngine>>>>;

/// A member, running or not.
pub(crate) struct Member {
    pub(crate) node: Option<Arc<Node>>,
    _dir: tempfile::TempDir,
    disk: Option<SimDisk>,
    engines: Engines,
    /// Its disk has no room for another database.
    full: Arc<AtomicBool>,
    pub(crate) config: NodeConfig,
}

impl Member {
    /// Takes the disks from what runs on them; a later start finds what was durable.
    fn lose_power(&mut self) {
        self.disk = Some(self.disk.as_ref().expect("a disk").crash());
        let crashed: HashMap<_, _> =
            self.engines.lock().iter().map(|(dir, e)| (dir.clone(), Arc::new(e.crashed()))).collect();
        self.engines = Arc::new(Mutex::new(crashed));
    }
}

/// Members and the wires between them.
pub(crate) struct Cluster {
    pub(crate) wires: Arc<Wires>,
    pub(crate) members: Vec<Member>,
    tune: fn(&mut NodeConfig),
}

fn url(index: usize) -> String {
    format!("http://10.0.0.{index}:2380")
}

impl Cluster {
    /// Starts a new cluster of `count` members.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_tuned(count, |_| {}).await
    }

    /// Starts a new cluster whose settings `tune` changes.
    pub(crate) async fn start_tuned(count: usize, tune: fn(&mut NodeConfig)) -> Self {
        if std::env::var_os("SKIFF_TEST_LOG").is_some() {
            let _ =
                tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false).try_init();
        }
        let mut cluster = Self { wires: Arc::default(), members: Vec::new(), tune };
        let initial: Vec<_> = (0..count).map(|i| (format!("m{i}"), vec![url(i)])).collect();
        for _ in 0..count {
            cluster.prepare(initial.clone(), InitialState::New);
        }
        for index in 0..count {
            cluster.boot(index).await;
        }
        cluster.leader().await;
        cluster
    }

    /// Adds a member's directory, without starting it.
    pub(crate) fn prepare(&mut self, initial: Vec<(String, Vec<String>)>, state: InitialState) -> usize {
        let index = self.members.len();
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = NodeConfig {
            name: format!("m{index}"),
            data_dir: dir.path().to_path_buf(),
            initial_cluster: initial,
            initial_state: state,
            advertise_peer_urls: vec![url(index)],
            advertise_client_urls: vec![format!("http://10.0.0.{index}:2379")],
            // A busy machine must not look like a lost leader.
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(2000),
            // Many members share the memory of one process.
            log_segment_bytes: 4 << 20,
            log_cache_bytes: 1 << 20,
            ..Default::default()
        };
        (self.tune)(&mut config);
        let member = Member {
            node: None,
            _dir: dir,
            disk: Some(SimDisk::new(index as u64)),
            engines: Engines::default(),
            full: Arc::default(),
            config,
        };
        self.members.push(member);
        index
    }

    /// URL of the member a later [`Cluster::join`] starts.
    pub(crate) fn next_url(&self) -> String {
        url(self.members.len())
    }

    /// Starts a member that was added as [`Cluster::next_url`].
    pub(crate) async fn join(&mut self) -> usize {
        let initial: Vec<_> = (0..=self.members.len()).map(|i| (format!("m{i}"), vec![url(i)])).collect();
        let index = self.prepare(initial, InitialState::Existing);
        self.boot(index).await;
        index
    }

    /// Starts a stopped member on what its disks hold.
    pub(crate) async fn boot(&mut self, index: usize) {
        let node = self.try_boot(index).await.expect("the member starts");
        self.members[index].node = Some(node);
    }

    /// Starts a member whose disk is about to lose power, and lets it lose it.
    pub(crate) async fn fail_boot(&mut self, index: usize) {
        let disk = self.disk(index).clone();
        let mut starting = Box::pin(self.booting(index));
        let dark = until("the power to go, or a start", || !disk.has_power());
        match futures::future::select(&mut starting, Box::pin(dark)).await {
            futures::future::Either::Left((Ok(node), _)) => {
                drop(starting);
                self.members[index].node = Some(node);
                self.crash(index).await;
            }
            _ => {
                self.members[index].lose_power();
                drop(starting);
            }
        }
    }

    /// The disk of a member's log.
    pub(crate) fn disk(&self, index: usize) -> &SimDisk {
        self.members[index].disk.as_ref().expect("a disk")
    }

    pub(crate) async fn try_boot(&mut self, index: usize) -> Result<Arc<Node>> {
        let node = within("start", self.booting(index)).await?;
        self.wires.plug(&node);
        Ok(node)
    }

    fn booting(&self, index: usize) -> impl Future<Output = Result<Arc<Node>>> + use<> {
        let member = &self.members[index];
        let disk = member.disk.clone().expect("a disk");
        let parts = Parts {
            engines: factory(member.engines.clone(), member.full.clone()),
            disk: Arc::new(disk),
            clock: Arc::new(SystemClock),
        };
        let wires = self.wires.clone();
        let connect = move |_cluster, own| {
            let end = Endpoint { wires: wires.clone(), own };
            (end.clone(), Arc::new(end) as Arc<dyn PeerClient>)
        };
        Node::start(member.config.clone(), parts, connect)
    }

    /// Stops a member in order.
    pub(crate) async fn stop(&mut self, index: usize) {
        let node = self.members[index].node.take().expect("running");
        within("stop", node.stop()).await;
        self.wires.unplug(node.id());
    }

    /// Ends a member as a power cut would: what was not synced is lost.
    pub(crate) async fn crash(&mut self, index: usize) {
        let member = &mut self.members[index];
        let node = member.node.take().expect("running");
        self.wires.unplug(node.id());
        // Before anything is stopped in order.
        member.lose_power();
        within("stop after a crash", node.stop()).await;
    }

    /// Fills, or empties, the disk of a member's databases.
    pub(crate) fn set_full(&self, index: usize, full: bool) {
        self.members[index].full.store(full, Ordering::Relaxed);
    }

    /// Takes everything from the disks of a stopped member.
    pub(crate) fn wipe(&mut self, index: usize) {
        let member = &mut self.members[index];
        let dir = tempfile::tempdir().expect("a directory");
        member.config.data_dir = dir.path().to_path_buf();
        member._dir = dir;
        member.disk = Some(SimDisk::new(index as u64 + 100));
        member.engines = Engines::default();
    }

    pub(crate) fn node(&self, index: usize) -> &Arc<Node> {
        self.members[index].node.as_ref().expect("running")
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.members.iter().filter_map(|member| member.node.as_ref())
    }

    /// The index of the member that a majority follows.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_other_than(None).await
    }

    /// The leader that the running members other than `except` agree on.
    pub(crate) async fn leader_other_than(&self, except: Option<usize>) -> usize {
        let mut found = None;
        until("a leader", || {
            let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
            let members = self.members.iter().enumerate().filter(|(i, _)| Some(*i) != except);
            for node in members.filter_map(|(_, member)| member.node.as_ref()) {
                *votes.entry(node.status().leader).or_default() += 1;
            }
            found = self.members.iter().enumerate().position(|(index, member)| {
                Some(index) != except
                    && member.node.as_ref().is_some_and(|node| {
                        node.status().leader == node.id()
                            && votes.get(&node.id()).is_some_and(|count| *count > self.members.len() / 2)
                    })
            });
            found.is_some()
        })
        .await;
        found.expect("just found")
    }

    /// Waits until all running members have published their names.
    pub(crate) async fn published(&self) {
        let node = self.running().next().expect("a member runs");
        until("all to publish", || {
            let members = futures::executor::block_on(node.members(false)).expect("it runs");
            members.iter().all(|member| !member.name.is_empty())
        })
        .await;
    }

    /// Stops everything in order.
    pub(crate) async fn end(mut self) {
        for index in 0..self.members.len() {
            if self.members[index].node.is_some() {
                self.stop(index).await;
            }
        }
    }
}

fn factory(engines: Engines, full: Arc<AtomicBool>) -> EngineFactory {
    Arc::new(move |dir: &Path| {
        let mut engines = engines.lock();
        if let Some(engine) = engines.get(dir) {
            return Ok(engine.clone() as Arc<dyn Engine>);
        }
        if full.load(Ordering::Relaxed) {
            return Err(Error::Storage("No space left on device (simulated)".into()));
        }
        let has_files = std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
        let engine = if has_files { MemEngine::open_checkpoint(dir)? } else { MemEngine::new() };
        std::fs::create_dir_all(dir).expect("a directory");
        let engine = Arc::new(engine);
        engines.insert(dir.to_path_buf(), engine.clone());
        Ok(engine as Arc<dyn Engine>)
    })
}

/// Waits for what must come to an end.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what} took too long"),
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

pub(crate) async fn put(node: &Node, key: &str, value: &str) -> Result<i64> {
    let request = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    node.put(request).await.map(|reply| reply.header.map_or(0, |header| header.revision))
}

pub(crate) async fn get(node: &Node, key: &str, serializable: bool) -> Result<Option<String>> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let reply = node.range(pb::RangeRequest { key, serializable, ..Default::default() }).await?;
    Ok(reply.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
}
