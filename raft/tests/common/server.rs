//! A listener for tests: what the binary does with the transport's router.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use skiff_raft::peer::PeerHandler;
use skiff_raft::transport::{TransportOptions, router};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A running listener. Dropped, it closes its port and all its connections,
/// as a killed process does.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn listen(
        handler: Arc<dyn PeerHandler>,
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Server {
        let listener = bind(address);
        let address = listener.local_addr().unwrap();
        let router = router(handler, &TransportOptions::default());
        let task = tokio::spawn(accept(listener, router, tls.map(TlsAcceptor::from)));
        Server { address, task }
    }

    /// Closes the port and all connections, and waits until that is done.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }
}

/// Binds an address that may have been in use by a dead server.
fn bind(address: SocketAddr) -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

async fn accept(listener: TcpListener, router: axum::Router, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (router, tls) = (router.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, router).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, router).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: axum::Router) {
    let builder = Builder::new(TokioExecutor::new());
    let service = TowerToHyperService::new(router);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
