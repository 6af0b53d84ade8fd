//! What the tests share.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use skiff_agent::ServerAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// No test waits longer for what must come.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("in time")
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// An address of this host that no other server of the tests has: nobody takes the port of
/// one that is down for a moment.
pub(crate) fn own_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("127.1.{high}.{low}")
}

/// A server that says its name to whoever connects, and keeps the connection until they end it.
pub(crate) struct Named {
    name: u8,
    pub(crate) address: ServerAddress,
    running: Option<JoinSet<()>>,
}

impl Named {
    pub(crate) async fn start(name: u8) -> Self {
        let mut named = Named { name, address: "127.0.0.1:1".parse().unwrap(), running: None };
        named.run(&format!("{}:0", own_address())).await;
        named
    }

    async fn run(&mut self, at: &str) {
        let listener = TcpListener::bind(at).await.unwrap();
        self.address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let name = self.name;
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    // Whoever only looks whether the port is open may be gone.
                    let _ = tcp.write_all(&[name]).await;
                    let _ = tcp.read_to_end(&mut Vec::new()).await;
                });
            }
        });
        self.running = Some(running);
    }

    /// The port is closed, and with it every connection.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.run(&self.address.to_string()).await;
    }
}
