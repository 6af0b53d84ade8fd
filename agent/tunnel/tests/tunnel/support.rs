//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skiff_tunnel::{Acceptor, End, Incoming, Options, Refusal, RefusalCode, Target, Tunnel, TunnelStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// No test waits longer for what must come.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("in time")
}

/// Hands on every stream it accepts; refuses the address `no`.
pub(crate) struct HandOn(pub(crate) mpsc::Sender<TunnelStream>);

#[async_trait]
impl Acceptor for HandOn {
    async fn accept(&self, incoming: Incoming) {
        if incoming.target().address() == "no" {
            return incoming.refuse(Refusal::new(RefusalCode::Forbidden, "never"));
        }
        if incoming.target().address() == "drop" {
            return;
        }
        if let Ok(stream) = incoming.accept() {
            let _ = self.0.send(stream).await;
        }
    }
}

/// Sends back what comes, and ends when it ends.
pub(crate) struct Echo;

#[async_trait]
impl Acceptor for Echo {
    async fn accept(&self, incoming: Incoming) {
        let Ok(stream) = incoming.accept() else { return };
        let (mut reader, mut writer) = split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    }
}

pub(crate) fn target() -> Target {
    Target::tcp("anything:1").unwrap()
}

/// Both ends of a tunnel over a connection in memory.
pub(crate) async fn tunnels(
    options: Options,
    client: impl Acceptor,
    server: impl Acceptor,
) -> (Tunnel, Tunnel) {
    let (a, b) = duplex(64 << 10);
    tunnels_over(a, b, options, client, server).await
}

pub(crate) async fn tunnels_over(
    a: DuplexStream,
    b: DuplexStream,
    options: Options,
    client: impl Acceptor,
    server: impl Acceptor,
) -> (Tunnel, Tunnel) {
    let (client, server) = tokio::join!(
        Tunnel::start(a, End::Client, options, Arc::new(client)),
        Tunnel::start(b, End::Server, options, Arc::new(server)),
    );
    (client.unwrap(), server.unwrap())
}

pub(crate) async fn read_all(stream: &mut TunnelStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}
