//! Tunnels to servers that are killed and come back.

use std::sync::Arc;
use std::time::Duration;

use skiff_agent::balancer::{Balancer, BalancerOptions, Health};
use skiff_agent::follow_servers;
use skiff_agent::join::Identity;
use skiff_agent::tunnels::{LinkState, NodePolicy, Tunnels, TunnelsOptions};
use skiff_tunnel::{Forwarder, OpenError, RefusalCode, Target, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cluster::{Cluster, Server};
use crate::join::options;
use crate::support::{LONG, soon, until};

fn quick() -> TunnelsOptions {
    let (retry_first, retry_most) = (Duration::from_millis(5), Duration::from_millis(50));
    TunnelsOptions { retry_first, retry_most, ..TunnelsOptions::default() }
}

/// A node with tunnels to the servers of a list that the balancer keeps.
struct Agent {
    balancer: Balancer,
    tunnels: Tunnels,
    kubelet: TcpListener,
    _dir: tempfile::TempDir,
}

async fn agent(cluster: &Cluster, servers: &[Server]) -> Agent {
    let dir = tempfile::tempdir().unwrap();
    let identity =
        Identity::join_once(options(&servers[0], cluster.token(), dir.path(), "n1")).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = Balancer::start(listener, BalancerOptions::new(servers[0].address.clone())).unwrap();
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let policy = NodePolicy::of_node(&[], [kubelet.local_addr().unwrap().port()]);
    let acceptor = Arc::new(Forwarder::new(policy, LONG));
    let tunnels =
        Tunnels::start(quick(), balancer.servers(), identity.tls(), acceptor, Some(balancer.handle()));
    Agent { balancer, tunnels, kubelet, _dir: dir }
}

impl Agent {
    fn connected(&self) -> usize {
        self.tunnels.status().iter().filter(|link| link.state == LinkState::Connected).count()
    }

    async fn all_connected(&self, count: usize) {
        until("all are connected", || self.connected() == count).await;
    }
}

fn alive(cluster: &Cluster) -> Vec<Tunnel> {
    cluster.state().tunnels.iter().filter(|tunnel| tunnel.end().is_none()).cloned().collect()
}

#[tokio::test]
async fn a_server_reaches_the_nodes_kubelet_and_nothing_else() {
    let cluster = Cluster::new();
    let servers = [Server::start(&cluster).await];
    let agent = agent(&cluster, &servers).await;
    agent.all_connected(1).await;
    until("the server knows", || alive(&cluster).len() == 1).await;
    let tunnel = alive(&cluster).remove(0);
    let address = agent.kubelet.local_addr().unwrap().to_string();
    let mut stream = soon(tunnel.open(Target::tcp(&address).unwrap())).await.unwrap();
    let (mut kubelet, _) = soon(agent.kubelet.accept()).await.unwrap();
    stream.write_all(b"logs").await.unwrap();
    let mut got = [0; 4];
    soon(kubelet.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"logs");
    match soon(tunnel.open(Target::tcp("127.0.0.1:22").unwrap())).await {
        Err(OpenError::Refused(refusal)) => assert_eq!(refusal.code(), RefusalCode::Forbidden),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_server_has_a_tunnel_and_one_that_comes_back_has_it_again() {
    let cluster = Cluster::new();
    let mut servers =
        [Server::start(&cluster).await, Server::start(&cluster).await, Server::start(&cluster).await];
    let agent = agent(&cluster, &servers).await;
    agent.all_connected(3).await;
    for server in &mut servers {
        until("the servers know", || alive(&cluster).len() == 3).await;
        server.kill().await;
        // Connections that were upgraded live on in the test's server.
        for tunnel in cluster.state().tunnels.drain(..) {
            tunnel.close("killed");
        }
        let health = |address| {
            let servers = agent.balancer.status().servers;
            servers.into_iter().find(|server| server.address == address).unwrap().health
        };
        until("the balancer hears of it", || health(server.address.clone()) == Health::Failed).await;
        let failing = |link: &skiff_agent::tunnels::LinkStatus| {
            link.server == server.address && link.state == LinkState::Waiting && link.last_error.is_some()
        };
        until("it is tried again", || agent.tunnels.status().iter().any(failing)).await;
        server.restart().await;
        agent.all_connected(3).await;
        assert_eq!(health(server.address.clone()), Health::Healthy);
    }
}

#[tokio::test]
async fn tunnels_follow_the_list_and_stop() {
    let cluster = Cluster::new();
    let servers = [Server::start(&cluster).await, Server::start(&cluster).await];
    let agent = agent(&cluster, &servers).await;
    agent.all_connected(2).await;
    until("both servers know", || alive(&cluster).len() == 2).await;
    agent.balancer.set_servers(vec![servers[1].address.clone()]);
    until("one is closed", || alive(&cluster).len() == 1 && agent.tunnels.status().len() == 1).await;
    assert_eq!(agent.tunnels.status()[0].server, servers[1].address);
    agent.balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    agent.all_connected(2).await;
    soon(agent.tunnels.stop()).await;
    until("both are closed", || alive(&cluster).is_empty()).await;
}

#[tokio::test]
async fn the_list_of_servers_is_learned_from_the_servers() {
    let cluster = Cluster::new();
    let servers = [Server::start(&cluster).await, Server::start(&cluster).await];
    let dir = tempfile::tempdir().unwrap();
    let identity =
        Identity::join_once(options(&servers[0], cluster.token(), dir.path(), "n1")).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = Balancer::start(listener, BalancerOptions::new(servers[0].address.clone())).unwrap();
    let following = tokio::spawn(follow_servers(identity, balancer.handle(), Duration::from_millis(10)));
    for count in [1, 2, 1] {
        cluster.state().servers = servers[..count].iter().map(|server| server.address.clone()).collect();
        until("it is learned", || balancer.servers().borrow().len() == count).await;
    }
    following.abort();
}
