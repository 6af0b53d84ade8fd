//! Accepts, connects, copies.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncWriteExt, BufReader, copy_buf};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use crate::address::ServerAddress;
use crate::backoff::Backoff;

const COPY_BYTES: usize = 16 << 10;
/// Between two rounds in which no server answered.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// After an accept that failed: file descriptors may be short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts as long as it is polled; its connections end with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(shared.options.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, shared.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for the servers");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    let _ = client.set_nodelay(true);
    let Some((mut server, mut closed)) = connect(&shared).await else {
        shared.given_up.fetch_add(1, Ordering::Relaxed);
        return;
    };
    tokio::select! {
        _ = copy(&mut client, &mut server, shared.options.half_closed_timeout) => {}
        // The server failed, or is none any more.
        _ = closed.changed() => {}
    }
}

/// Copies both ways until both have ended, or one has failed, or the one has ended long ago:
/// an end that nobody closes would keep its place for ever.
async fn copy(client: &mut TcpStream, server: &mut TcpStream, half_closed: Duration) -> io::Result<()> {
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.split();
    let mut up = pin!(one_way(client_reader, server_writer));
    let mut down = pin!(one_way(server_reader, client_writer));
    let rest: Pin<&mut (dyn Future<Output = io::Result<()>> + Send)> = tokio::select! {
        ended = &mut up => ended.map(|()| down as _)?,
        ended = &mut down => ended.map(|()| up as _)?,
    };
    timeout(half_closed, rest).await?
}

async fn one_way(reader: ReadHalf<'_>, mut writer: WriteHalf<'_>) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(COPY_BYTES, reader), &mut writer).await?;
    writer.shutdown().await
}

/// A connection to the first server that answers, and what closes it.
async fn connect(shared: &Shared) -> Option<(TcpStream, watch::Receiver<()>)> {
    let until = Instant::now() + shared.options.give_up_after;
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let candidates = shared.servers.lock().candidates();
        for address in candidates {
            let Some(mut closed) = shared.servers.lock().closer(&address) else { continue };
            let dialled = tokio::select! {
                dialled = dial(&address, shared.options.dial_timeout) => dialled,
                // Another connection found that it does not answer.
                _ = closed.changed() => continue,
            };
            match dialled {
                Ok(server) => {
                    shared.servers.lock().connected(&address);
                    return Some((server, closed));
                }
                Err(error) => shared.servers.lock().failed(&address, error.to_string()),
            }
        }
        let pause = backoff.pause();
        if Instant::now() + pause > until {
            return None;
        }
        sleep(pause).await;
    }
}

/// Connects within a time.
pub(super) async fn dial(address: &ServerAddress, within: Duration) -> io::Result<TcpStream> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}"));
    let tcp = timeout(within, TcpStream::connect(address.dial())).await.map_err(|_| late())??;
    not_itself(&tcp)?;
    // Where one of these is unknown, a dead peer is found later: no reason to fail.
    let _ = tcp.set_nodelay(true);
    let _ = notice_death(&tcp);
    Ok(tcp)
}

/// Connecting to a closed port of this host may give a connection to itself, where the kernel
/// happens to take that very port for our end. Nobody would ever close it.
fn not_itself(tcp: &TcpStream) -> io::Result<()> {
    if tcp.local_addr()? == tcp.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    Ok(())
}

/// A server that is gone without a word is noticed within a minute.
fn notice_death(tcp: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(tcp, 3)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_no_server() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let itself = socket.connect(own).await.unwrap();
        assert!(not_itself(&itself).is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(not_itself(&TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).is_ok());
    }
}
