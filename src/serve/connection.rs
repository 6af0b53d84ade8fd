//! One connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use skiff_control_plane::supervisor::ClientCertificate;
use skiff_kine_api::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite};

use super::authority::Readable;
use super::bind::Socket;
use super::calm::Calm;
use super::{Port, Stop};
use crate::tls;

/// An HTTP/1 client that has not sent its request's head by then is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of replies buffered for one stream.
const SEND_BUFFER: usize = 1 << 20;
/// Windows of a client's stream and connection: room for the largest request
/// without waiting for an update.
const CLIENT_STREAM_WINDOW: u32 = 2 << 20;
const CLIENT_CONNECTION_WINDOW: u32 = 4 << 20;

/// Settings of connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionOptions {
    /// Most concurrent streams.
    pub(crate) max_concurrent_streams: u32,
    /// Time between pings to a silent client; zero for none.
    pub(crate) keepalive_interval: Duration,
    /// Time a client has to answer one.
    pub(crate) keepalive_timeout: Duration,
    /// Shortest time a client must leave between two pings; `None` for any.
    pub(crate) min_ping_interval: Option<Duration>,
    /// Flow-control window of a stream, in bytes.
    pub(crate) stream_window: u32,
    /// Flow-control window of a connection, in bytes.
    pub(crate) connection_window: u32,
}

impl ConnectionOptions {
    /// Settings of a client port.
    pub(crate) fn for_clients(listen: &crate::config::Listen) -> ConnectionOptions {
        ConnectionOptions {
            max_concurrent_streams: listen.max_concurrent_streams,
            keepalive_interval: listen.keepalive_interval,
            keepalive_timeout: listen.keepalive_timeout,
            min_ping_interval: Some(listen.min_ping_interval),
            stream_window: CLIENT_STREAM_WINDOW,
            connection_window: CLIENT_CONNECTION_WINDOW,
        }
    }

    /// Settings of the ports of `skiff kine`, which has no flags for them:
    /// etcd's defaults.
    pub(crate) fn for_kine() -> ConnectionOptions {
        ConnectionOptions {
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            min_ping_interval: Some(Duration::from_secs(5)),
            stream_window: CLIENT_STREAM_WINDOW,
            connection_window: CLIENT_CONNECTION_WINDOW,
        }
    }

    /// Settings of a supervisor's port.
    pub(crate) fn for_supervisor() -> ConnectionOptions {
        ConnectionOptions {
            max_concurrent_streams: 256,
            min_ping_interval: None,
            ..ConnectionOptions::for_kine()
        }
    }

    /// Settings of a peer port.
    pub(crate) fn for_peers() -> ConnectionOptions {
        ConnectionOptions {
            max_concurrent_streams: 1024,
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
            min_ping_interval: None, // our own transport pings as it should
            stream_window: skiff_raft::transport::SERVER_STREAM_WINDOW,
            connection_window: skiff_raft::transport::SERVER_CONNECTION_WINDOW,
        }
    }
}

/// Serves a connection until it ends, or until requests under way have ended
/// after the word to stop.
pub(super) async fn run(socket: Socket, port: Port, stop: Stop) {
    match (socket, port.tls.clone()) {
        (Socket::Tcp(stream), None) => {
            let remote = stream.peer_addr().ok();
            serve(stream, remote, Shown::default(), port, stop).await;
        }
        (Socket::Unix(stream), None) => serve(stream, None, Shown::default(), port, stop).await,
        (Socket::Tcp(stream), Some(tls)) => {
            let remote = stream.peer_addr().ok();
            handshake(stream, remote, &tls, port, stop).await;
        }
        (Socket::Unix(stream), Some(tls)) => handshake(stream, None, &tls, port, stop).await,
    }
}

/// What the client has shown of itself.
#[derive(Default)]
struct Shown {
    identity: PeerIdentity,
    certificate: Option<ClientCertificate>,
}

async fn handshake<S>(stream: S, remote: Option<SocketAddr>, tls: &tls::ServerTls, port: Port, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accepted = tokio::select! {
        () = stop.wait() => return,
        accepted = tls::accept(tls, stream, remote.map(|address| address.ip())) => accepted,
    };
    match accepted {
        Ok(accepted) => {
            let shown = Shown {
                identity: PeerIdentity { common_name: accepted.common_name },
                certificate: accepted.certificate.filter(|_| port.certificates).map(ClientCertificate),
            };
            serve(accepted.stream, remote, shown, port, stop).await;
        }
        Err(error) => {
            let remote = remote.map_or_else(|| "local".to_owned(), |address| address.to_string());
            tracing::warn!(remote_addr = remote, %error, "rejected connection on {} endpoint", port.name);
        }
    }
}

async fn serve<S>(stream: S, remote: Option<SocketAddr>, shown: Shown, port: Port, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = match shown.identity.common_name {
        Some(_) => port.router.layer(axum::Extension(shown.identity)),
        None => port.router, // nothing to tell, and layering is not free
    };
    let service =
        WithRemote { inner: TowerToHyperService::new(router), remote, certificate: shown.certificate };
    let builder = builder(&port.options);
    let stream = Readable::new(Calm::new(stream, port.options.min_ping_interval));
    // With upgrades: the gateway speaks WebSocket too.
    let connection =
        builder.serve_connection_with_upgrades::<_, _, axum::body::Body>(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients come and go; that is worth a word only to who asks.
        tracing::debug!(%error, port = port.name, "a connection ended early");
    }
}

/// Tells every request where it comes from.
#[derive(Clone)]
struct WithRemote<S> {
    inner: S,
    remote: Option<SocketAddr>,
    certificate: Option<ClientCertificate>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithRemote<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if let Some(remote) = self.remote {
            request.extensions_mut().insert(ConnectInfo(remote));
        }
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.inner.call(request)
    }
}

fn builder(options: &ConnectionOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let keepalive = Some(options.keepalive_interval).filter(|interval| !interval.is_zero());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(keepalive)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}
