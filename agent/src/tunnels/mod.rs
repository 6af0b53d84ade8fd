//! A tunnel to every server, so that servers reach the node: logs, exec, metrics.
//!
//! Follows a list of servers. Each has a link of its own, that connects, keeps the tunnel,
//! and connects again after a pause that grows. What a link finds it tells the balancer.

mod link;
mod options;
mod policy;
mod status;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skiff_tunnel::Acceptor;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::address::ServerAddress;
use crate::balancer::BalancerHandle;
use crate::join::TlsSource;
use link::{Link, stopped};
pub use options::TunnelsOptions;
pub use policy::{NodePolicy, Ports, Rule};
pub use status::{LinkState, LinkStatus};

/// Keeps a tunnel to every server, until it is stopped or dropped.
#[derive(Debug)]
pub struct Tunnels {
    links: Links,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// How every link fares.
type Links = Arc<Mutex<Vec<Arc<Mutex<LinkStatus>>>>>;

/// What every link needs.
#[derive(Clone)]
struct Means {
    options: TunnelsOptions,
    tls: TlsSource,
    acceptor: Arc<dyn Acceptor>,
    balancer: Option<BalancerHandle>,
    links: Links,
}

impl Tunnels {
    /// Starts to keep tunnels to the servers of the list. Servers open streams by the
    /// acceptor's leave; the TLS settings are asked for before every connection.
    #[must_use]
    pub fn start(
        options: TunnelsOptions,
        servers: watch::Receiver<Arc<[ServerAddress]>>,
        tls: TlsSource,
        acceptor: Arc<dyn Acceptor>,
        balancer: Option<BalancerHandle>,
    ) -> Self {
        let links = Links::default();
        let means = Means { options, tls, acceptor, balancer, links: links.clone() };
        let (stop, receiver) = watch::channel(false);
        let task = tokio::spawn(run(servers, means, receiver));
        Tunnels { links, stop, task: Some(task) }
    }

    /// How every link fares, in the order of addresses.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        let mut links: Vec<_> = self.links.lock().iter().map(|link| link.lock().clone()).collect();
        links.sort_by(|a, b| a.server.cmp(&b.server));
        links
    }

    /// Closes every tunnel and waits until they are closed, which has a bound.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the tunnels to the servers ended");
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Keeps a link for each server of the list.
async fn run(
    mut servers: watch::Receiver<Arc<[ServerAddress]>>,
    means: Means,
    mut stop: watch::Receiver<bool>,
) {
    let mut running: HashMap<ServerAddress, watch::Sender<bool>> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = servers.borrow_and_update().clone();
        // A sender that is dropped stops its link.
        running.retain(|server, _| wanted.contains(server));
        for server in
            wanted.iter().filter(|server| !running.contains_key(server)).cloned().collect::<Vec<_>>()
        {
            let (sender, stop) = watch::channel(false);
            tasks.spawn(Link::new(server.clone(), means.clone()).run(stop));
            running.insert(server, sender);
        }
        tokio::select! {
            changed = servers.changed() => if changed.is_err() {
                // The list stays as it is.
                stopped(&mut stop).await;
                break;
            },
            () = stopped(&mut stop) => break,
            Some(_) = tasks.join_next() => {}
        }
    }
    running.clear();
    while tasks.join_next().await.is_some() {}
}
