//! A local port that leads to whichever server is well.
//!
//! Every connection to the port is carried on to one server, the *active* one, until that
//! fails; then the next one becomes active, and connections to the failed one are closed,
//! so that clients notice at once. Servers come from `--server` (the *seed*), from the list
//! of the last run, and from whoever learns of a new list ([`Balancer::set_servers`]).
//! Where every server has failed, health counts for nothing and all are tried in turn.
//!
//! ```text
//! servers.rs   which server is tried next, and what their health is: decides, no I/O
//! forward.rs   connects and copies
//! probe.rs     looks whether a failed server answers again
//! persist.rs   the list in a file
//! ```
//!
//! Not here: what is spoken on a connection. It is TLS between client and server.

mod forward;
mod options;
mod persist;
mod probe;
mod servers;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::address::ServerAddress;
pub use options::BalancerOptions;
use servers::Servers;
pub use servers::{Health, Report};
pub use status::{BalancerStatus, ServerStatus};

/// A running balancer. It stops, and closes its connections, when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    _tasks: JoinSet<()>,
}

/// What a balancer's tasks share.
#[derive(Debug)]
struct Shared {
    options: BalancerOptions,
    servers: Mutex<Servers>,
    list: watch::Sender<Arc<[ServerAddress]>>,
    accepted: AtomicU64,
    given_up: AtomicU64,
}

impl Balancer {
    /// The most servers a list may have; more are passed over.
    pub const MAX_SERVERS: usize = 64;

    /// Starts to serve the listener. Knows the seed and the servers of the last run with
    /// the same seed.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(listener: TcpListener, options: BalancerOptions) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let known =
            options.file.as_deref().map(|file| persist::load(file, &options.seed)).unwrap_or_default();
        let servers = Servers::new(options.seed.clone(), known, options.recover_after);
        let list = watch::Sender::new(servers.list());
        let shared = Arc::new(Shared {
            options,
            servers: Mutex::new(servers),
            list,
            accepted: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(forward::run(listener, shared.clone()));
        tasks.spawn(probe::run(shared.clone()));
        if let Some(file) = shared.options.file.clone() {
            tasks.spawn(persist::run(file, shared.options.seed.clone(), shared.list.subscribe()));
        }
        Ok(Balancer { shared, local_addr, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle for those that tell it of servers.
    #[must_use]
    pub fn handle(&self) -> BalancerHandle {
        BalancerHandle { shared: self.shared.clone() }
    }

    /// See [`BalancerHandle::set_servers`].
    pub fn set_servers(&self, servers: Vec<ServerAddress>) {
        self.handle().set_servers(servers);
    }

    /// The list of servers, now and whenever it changes: never empty.
    #[must_use]
    pub fn servers(&self) -> watch::Receiver<Arc<[ServerAddress]>> {
        self.shared.list.subscribe()
    }

    /// What it does at the moment.
    #[must_use]
    pub fn status(&self) -> BalancerStatus {
        self.shared.status()
    }
}

/// Tells a balancer what others learn of the servers.
#[derive(Clone, Debug)]
pub struct BalancerHandle {
    shared: Arc<Shared>,
}

impl BalancerHandle {
    /// Replaces the list. Connections to servers that are not in it are closed, but for the
    /// seed, which stays as a last resort. An empty list is passed over.
    pub fn set_servers(&self, mut servers: Vec<ServerAddress>) {
        if servers.len() > Balancer::MAX_SERVERS {
            tracing::warn!(
                count = servers.len(),
                "too many servers are told; the first {} are used",
                Balancer::MAX_SERVERS
            );
            servers.truncate(Balancer::MAX_SERVERS);
        }
        let mut known = self.shared.servers.lock();
        if known.set(servers) {
            self.shared.list.send_replace(known.list());
        }
    }

    /// What somebody who talks to a server found: a tunnel, say, that came up or broke.
    pub fn report(&self, server: &ServerAddress, report: Report) {
        self.shared.servers.lock().reported(server, report);
    }
}
