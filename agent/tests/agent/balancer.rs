//! The balancer, with servers that are killed and come back.

use std::time::Duration;

use skiff_agent::ServerAddress;
use skiff_agent::balancer::{Balancer, BalancerOptions, Health, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Named, soon, until};

fn options(seed: &ServerAddress) -> BalancerOptions {
    BalancerOptions { probe_interval: Duration::from_millis(10), ..BalancerOptions::new(seed.clone()) }
}

async fn start(options: BalancerOptions) -> Balancer {
    Balancer::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).unwrap()
}

/// Who answers a new connection.
async fn ask(balancer: &Balancer) -> (u8, TcpStream) {
    let mut tcp = soon(TcpStream::connect(balancer.local_addr())).await.unwrap();
    (soon(tcp.read_u8()).await.unwrap(), tcp)
}

async fn closed(tcp: &mut TcpStream) {
    let read = soon(tcp.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

fn health(balancer: &Balancer, address: &ServerAddress) -> Health {
    balancer.status().servers.iter().find(|server| server.address == *address).unwrap().health
}

#[tokio::test]
async fn each_server_may_be_killed_in_turn() {
    let mut servers = [Named::start(0).await, Named::start(1).await, Named::start(2).await];
    let balancer = start(options(&servers[0].address)).await;
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    for _ in 0..6 {
        let (name, mut tcp) = ask(&balancer).await;
        let victim = &mut servers[usize::from(name)];
        assert_eq!(balancer.status().active.as_ref(), Some(&victim.address));
        victim.kill().await;
        closed(&mut tcp).await;
        let (other, _tcp) = ask(&balancer).await;
        assert_ne!(name, other);
        assert_eq!(health(&balancer, &victim.address), Health::Failed);
        victim.restart().await;
        until("it recovers", || health(&balancer, &victim.address) == Health::Healthy).await;
        assert_eq!(ask(&balancer).await.0, other, "the active one stays");
    }
}

#[tokio::test]
async fn a_failed_server_loses_every_connection_though_they_are_open() {
    let servers = [Named::start(0).await, Named::start(1).await];
    let balancer = start(options(&servers[0].address)).await;
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    let (_, mut first) = ask(&balancer).await;
    let (_, mut second) = ask(&balancer).await;
    // It hangs: its port is open, but a tunnel found it silent.
    balancer.handle().report(&servers[0].address, Report::Down("silent".to_owned()));
    closed(&mut first).await;
    closed(&mut second).await;
    let (name, mut third) = ask(&balancer).await;
    assert_eq!((name, health(&balancer, &servers[0].address)), (1, Health::Failed));
    balancer.handle().report(&servers[0].address, Report::Up);
    balancer.set_servers(vec![servers[0].address.clone()]);
    closed(&mut third).await;
    assert_eq!(ask(&balancer).await.0, 0, "one that is no more in the list is left");
}

#[tokio::test]
async fn a_start_while_the_first_server_is_down_works_from_the_kept_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = [Named::start(0).await, Named::start(1).await];
    let file = dir.path().join("etc/list.json");
    let options = BalancerOptions { file: Some(file.clone()), ..options(&servers[0].address) };
    let balancer = start(options.clone()).await;
    assert_eq!(balancer.servers().borrow().len(), 1);
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    let second = servers[1].address.to_string();
    until("it is kept", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&second))).await;
    drop(balancer);
    servers[0].kill().await;
    let balancer = start(options).await;
    assert_eq!(balancer.servers().borrow().len(), 2);
    assert_eq!(ask(&balancer).await.0, 1);
}

#[tokio::test]
async fn while_all_are_down_clients_wait_a_bounded_time_in_bounded_number() {
    let mut servers = [Named::start(0).await, Named::start(1).await];
    for server in &mut servers {
        server.kill().await;
    }
    let most = 8;
    let balancer = start(BalancerOptions {
        max_connections: most,
        give_up_after: Duration::from_millis(50),
        ..options(&servers[0].address)
    })
    .await;
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(soon(TcpStream::connect(balancer.local_addr())).await.unwrap());
    }
    for client in &mut clients {
        let status = balancer.status();
        assert!(
            status.servers.iter().map(|server| server.connections).sum::<usize>() <= most + 2,
            "{status:?}"
        );
        closed(client).await;
    }
    assert_eq!(balancer.status().accepted, 50);
    until("all are given up", || balancer.status().given_up == 50).await;
    assert_eq!(balancer.status().active, None);
    assert!(balancer.status().servers.iter().all(|server| server.connections == 0 && server.failures > 0));
    drop(balancer);
}

#[tokio::test]
async fn a_client_that_came_while_all_were_down_is_served_once_one_is_up() {
    let mut servers = [Named::start(0).await, Named::start(1).await];
    for server in &mut servers {
        server.kill().await;
    }
    // Nothing probes: health cannot be what lets the client through.
    let options =
        BalancerOptions { probe_interval: Duration::from_secs(3600), ..options(&servers[0].address) };
    let balancer = start(options).await;
    balancer.set_servers(servers.iter().map(|server| server.address.clone()).collect());
    let mut client = soon(TcpStream::connect(balancer.local_addr())).await.unwrap();
    until("both failed", || balancer.status().servers.iter().all(|server| server.failures > 1)).await;
    servers[1].restart().await;
    assert_eq!(soon(client.read_u8()).await.unwrap(), 1);
    assert_eq!(health(&balancer, &servers[1].address), Health::Recovering);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let server = Named::start(7).await;
    let balancer = start(BalancerOptions { max_connections: 1, ..options(&server.address) }).await;
    let (_, first) = ask(&balancer).await;
    let mut second = soon(TcpStream::connect(balancer.local_addr())).await.unwrap();
    assert_eq!(balancer.status().accepted, 1);
    drop(first);
    assert_eq!(soon(second.read_u8()).await.unwrap(), 7);
    assert_eq!(balancer.status().accepted, 2);
}

#[tokio::test]
async fn a_connection_that_only_one_end_closes_is_closed_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let half_closed_timeout = Duration::from_millis(20);
    // No probe shall be taken for the client.
    let probe_interval = Duration::from_secs(3600);
    let balancer = start(BalancerOptions { half_closed_timeout, probe_interval, ..options(&address) }).await;
    let mut client = soon(TcpStream::connect(balancer.local_addr())).await.unwrap();
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    let mut got = Vec::new();
    soon(server.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"bye");
    // The server keeps its way open.
    closed(&mut client).await;
    let connections = || balancer.status().servers[0].connections;
    until("its place is free", || connections() == 0).await;
}
