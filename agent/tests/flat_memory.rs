//! How much memory the balancer needs while every server is down. In a process of its own,
//! whose memory is measured.

use std::time::Duration;

use skiff_agent::balancer::{Balancer, BalancerOptions};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Clients that come while nothing answers, each of which is given up.
async fn clients(balancer: &Balancer, count: usize) {
    for _ in 0..count / 50 {
        let mut wave = Vec::new();
        for _ in 0..50 {
            wave.push(TcpStream::connect(balancer.local_addr()).await.unwrap());
        }
        for mut client in wave {
            let _ = client.read(&mut [0; 1]).await;
        }
    }
}

#[tokio::test]
async fn memory_stays_flat_while_every_server_is_down() {
    let count = std::env::var("SKIFF_BALANCER_CLIENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let gone = TcpListener::bind("127.1.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let options = BalancerOptions {
        give_up_after: Duration::from_millis(1),
        probe_interval: Duration::from_millis(1),
        ..BalancerOptions::new(gone.parse().unwrap())
    };
    let balancer = Balancer::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).unwrap();
    clients(&balancer, 500).await;
    let before = resident();
    clients(&balancer, count).await;
    let grown = resident().saturating_sub(before);
    println!(
        "{count} clients, {} probes and dials, {} KiB more",
        balancer.status().servers[0].failures,
        grown >> 10
    );
    assert!(grown < 4 << 20, "{grown} bytes more");
    assert_eq!(balancer.status().accepted, 500 + count as u64);
}
