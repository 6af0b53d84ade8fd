//! Streams that lead to TCP addresses.

use std::net::SocketAddr;
use std::time::Duration;

use skiff_tunnel::{Forwarder, OpenError, Options, Policy, Refusal, RefusalCode, RefuseAll, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{LONG, read_all, soon, tunnels};

/// Allows loopback addresses.
struct Loopback;

impl Policy for Loopback {
    fn resolve(&self, target: &Target) -> Result<SocketAddr, Refusal> {
        match target.address().parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(address),
            Ok(_) => Err(Refusal::new(RefusalCode::Forbidden, "not here")),
            Err(_) => Err(Refusal::new(RefusalCode::Unsupported, "no address")),
        }
    }
}

fn refused(result: Result<skiff_tunnel::TunnelStream, OpenError>) -> RefusalCode {
    match result {
        Err(OpenError::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_reaches_what_the_policy_allows_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_agent, server) = tunnels(Options::default(), Forwarder::new(Loopback, LONG), RefuseAll).await;

    let mut stream = soon(server.open(Target::tcp(&address).unwrap())).await.unwrap();
    let (mut tcp, _) = soon(listener.accept()).await.unwrap();
    stream.write_all(b"GET").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = String::new();
    soon(tcp.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "GET", "its end arrives while the way back is open");
    tcp.write_all(b"200").await.unwrap();
    drop(tcp);
    assert_eq!(read_all(&mut stream).await.unwrap(), b"200");

    drop(listener);
    let open = |address: &str| server.open(Target::tcp(address).unwrap());
    assert_eq!(refused(soon(open(&address)).await), RefusalCode::Unreachable);
    assert_eq!(refused(soon(open("192.0.2.1:80")).await), RefusalCode::Forbidden);
    assert_eq!(refused(soon(open("example.org:80")).await), RefusalCode::Unsupported);
}

#[tokio::test]
async fn a_tcp_connection_that_breaks_resets_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_agent, server) = tunnels(Options::default(), Forwarder::new(Loopback, LONG), RefuseAll).await;
    let mut stream = soon(server.open(Target::tcp(&address).unwrap())).await.unwrap();
    let (tcp, _) = soon(listener.accept()).await.unwrap();
    tcp.set_zero_linger().unwrap();
    drop(tcp); // sends RST
    assert!(read_all(&mut stream).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn giving_an_open_up_frees_its_place() {
    struct Slow;
    #[async_trait::async_trait]
    impl skiff_tunnel::Acceptor for Slow {
        async fn accept(&self, _incoming: skiff_tunnel::Incoming) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    }
    let (_agent, server) = tunnels(Options::default(), Slow, RefuseAll).await;
    let opened = server.open(Target::tcp("127.0.0.1:1").unwrap()).await;
    assert_eq!(opened.unwrap_err(), OpenError::TimedOut);
    while server.status().streams > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
