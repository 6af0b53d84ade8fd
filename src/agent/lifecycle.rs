//! From the first lock to the last byte of an agent.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use skiff_agent::balancer::{Balancer, BalancerOptions};
use skiff_agent::follow_servers;
use skiff_agent::join::{Identity, JoinOptions, Node, node_id};
use skiff_agent::tunnels::{NodePolicy, Tunnels, TunnelsOptions};
use skiff_tunnel::Forwarder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::config::Config;
use crate::process;
use crate::server::address;

/// The list of servers of the last run, below the agent's folder.
const SERVERS_FILE: &str = "etc/skiff-agent-load-balancer.json";
/// How often servers are asked for the list of servers.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(30);
/// How long a port of the node may take to answer a server's connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The kubelet's port, and the one its container runtime streams at: what servers may
/// connect to.
const NODE_PORTS: [u16; 2] = [10250, 10010];

/// Runs an agent until a signal, or until it cannot go on.
pub(super) async fn run(config: Config) -> Result<(), String> {
    let mut signals = process::Signals::new().map_err(|e| format!("cannot handle signals: {e}"))?;
    let _lock = process::lock_dir("agent's folder", &config.dir)?;
    let node = node(&config)?;
    tracing::info!(
        node = node.name,
        server = %config.server,
        folder = %config.dir.display(),
        skiff_version = env!("CARGO_PKG_VERSION"),
        "starting an agent"
    );
    let balancer = balancer(&config).await?;
    let joined = tokio::select! {
        joined = join(&config, node.clone(), &balancer) => joined?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the node had joined");
            return Ok(());
        }
    };
    let mut background = JoinSet::new();
    background.spawn(joined.clone().keep_renewed());
    background.spawn(follow_servers(joined.clone(), balancer.handle(), FOLLOW_INTERVAL));
    let policy = NodePolicy::of_node(&node.addresses, NODE_PORTS);
    let tunnels = Tunnels::start(
        TunnelsOptions::default(),
        balancer.servers(),
        joined.tls(),
        Arc::new(Forwarder::new(policy, DIAL_TIMEOUT)),
        Some(balancer.handle()),
    );
    process::notify("READY=1");
    tracing::info!(node = node.name, balancer = %balancer.local_addr(), "the node has joined");
    let name = signals.next().await;
    tracing::info!(signal = name, "received signal; shutting down");
    process::notify("STOPPING=1");
    let ending = async {
        background.shutdown().await;
        tunnels.stop().await;
    };
    tokio::select! {
        () = ending => {}
        name = signals.next() => tracing::warn!(signal = name, "stopping at once: signalled again"),
    }
    Ok(())
}

/// Who this node is.
fn node(config: &Config) -> Result<Node, String> {
    let name = match config.with_node_id {
        true => {
            let id = node_id(&config.node_dir.join("id")).map_err(|e| e.to_string())?;
            address::node_name(&format!("{}-{id}", config.node))?
        }
        false => config.node.clone(),
    };
    let addresses = match config.node_ips.is_empty() {
        true => vec![address::own_address(Some(&config.url))?],
        false => config.node_ips.clone(),
    };
    Ok(Node { name, addresses, password_file: config.node_dir.join("password") })
}

async fn balancer(config: &Config) -> Result<Balancer, String> {
    let at = (Ipv4Addr::LOCALHOST, config.balancer_port);
    let failed = |e: std::io::Error| format!("--lb-server-port: cannot listen on 127.0.0.1:{}: {e}", at.1);
    let listener = TcpListener::bind(at).await.map_err(failed)?;
    let options = BalancerOptions {
        file: Some(config.dir.join(SERVERS_FILE)),
        ..BalancerOptions::new(config.server.clone())
    };
    Balancer::start(listener, options).map_err(failed)
}

/// Joins by the balancer, so that any server that is known will do.
async fn join(config: &Config, node: Node, balancer: &Balancer) -> Result<Arc<Identity>, String> {
    let server =
        balancer.local_addr().to_string().parse().map_err(|e| format!("the balancer's address: {e}"))?;
    let options = JoinOptions::new(server, config.token.clone(), node, config.dir.clone());
    Identity::join(options).await.map_err(|error| error.to_string())
}
