//! A stretch of network between a server of ours and a database: it can fall
//! silent, and lead elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections to a port.
pub struct Proxy {
    pub port: u16,
    target: Arc<AtomicU16>,
    silent: watch::Sender<bool>,
    cut: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Forwards to `target`.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a port");
        let port = listener.local_addr().expect("its address").port();
        let target = Arc::new(AtomicU16::new(target));
        let (silent, cut) = (watch::Sender::new(false), watch::Sender::new(0));
        let accepting = tokio::spawn(accept(listener, target.clone(), silent.clone(), cut.clone()));
        Self { port, target, silent, cut, accepting }
    }

    /// Swallows everything, in both directions, and closes nothing: a host that
    /// is frozen, a cable that is cut.
    pub fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Leads elsewhere: what is connected is cut.
    pub fn retarget(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<AtomicU16>,
    silent: watch::Sender<bool>,
    cut: watch::Sender<u64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (silent, mut cut) = (silent.subscribe(), cut.subscribe());
        let server = target.load(Ordering::SeqCst);
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = forward(from_client, to_server, silent.clone()) => {}
                () = forward(from_server, to_client, silent) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await;
        if *silent.borrow() {
            // Not even that an end is closed gets through; what was read is lost for good.
            let _ = silent.wait_for(|silent| !*silent).await;
            return;
        }
        match read {
            Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}
