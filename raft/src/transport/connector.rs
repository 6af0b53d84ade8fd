//! Opens connections to one peer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::options::TransportOptions;
use super::tls::PeerTls;
use super::url::PeerUrl;

/// A byte stream to a peer, encrypted or not.
pub(crate) trait PeerIo: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> PeerIo for T {}

/// Where a peer may be reached and how that went so far; shared by all of the
/// peer's connections.
pub(crate) struct Addresses {
    state: Mutex<State>,
}

struct State {
    urls: Arc<[PeerUrl]>,
    /// The URL that worked last, tried first.
    good: usize,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Addresses {
    pub(crate) fn new(urls: Vec<PeerUrl>) -> Self {
        Addresses { state: Mutex::new(State { urls: urls.into(), good: 0, failures: 0, retry_at: None }) }
    }

    /// Replaces the URLs; true if they differ.
    pub(crate) fn set(&self, urls: Vec<PeerUrl>) -> bool {
        let mut state = self.state.lock();
        if *state.urls == *urls {
            return false;
        }
        *state = State { urls: urls.into(), good: 0, failures: 0, retry_at: None };
        true
    }

    pub(crate) fn urls(&self) -> Arc<[PeerUrl]> {
        self.state.lock().urls.clone()
    }

    /// The URLs to try now, or how long to leave the peer alone.
    fn attempt(&self) -> Result<(Arc<[PeerUrl]>, usize), Duration> {
        let state = self.state.lock();
        match state.retry_at.and_then(|at| at.checked_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok((state.urls.clone(), state.good)),
        }
    }

    fn succeeded(&self, index: usize) {
        let mut state = self.state.lock();
        state.good = index;
        state.failures = 0;
        state.retry_at = None;
    }

    fn failed(&self, options: &TransportOptions) {
        let mut state = self.state.lock();
        let pause = options.reconnect_min.saturating_mul(1 << state.failures.min(16));
        state.failures = state.failures.saturating_add(1);
        state.retry_at = Some(Instant::now() + pause.min(options.reconnect_max));
    }
}

/// Connects to the first of a peer's URLs that answers.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) tls: Option<Arc<dyn PeerTls>>,
    pub(crate) options: Arc<TransportOptions>,
}

impl Connector {
    async fn connect(self) -> io::Result<Box<dyn PeerIo>> {
        let (urls, first) = self.addresses.attempt().map_err(|wait| {
            io::Error::new(io::ErrorKind::NotConnected, format!("peer unreachable; next attempt in {wait:?}"))
        })?;
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "peer has no URL");
        for step in 0..urls.len() {
            let index = (first + step) % urls.len();
            match self.connect_to(&urls[index]).await {
                Ok(io) => {
                    self.addresses.succeeded(index);
                    return Ok(io);
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{}: {error}", urls[index])),
            }
        }
        self.addresses.failed(&self.options);
        Err(last)
    }

    async fn connect_to(&self, url: &PeerUrl) -> io::Result<Box<dyn PeerIo>> {
        let timeout = self.options.connect_timeout;
        tokio::time::timeout(timeout, self.open(url))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")))
    }

    async fn dial(&self, url: &PeerUrl) -> io::Result<TcpStream> {
        let to = (url.host.as_str(), url.port);
        let Some(from) = self.options.local_address else { return TcpStream::connect(to).await };
        let unsuitable = format!("no address of this name can be reached from {from}");
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, unsuitable);
        for to in lookup_host(to).await?.filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(from, 0))?;
            match socket.connect(to).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open(&self, url: &PeerUrl) -> io::Result<Box<dyn PeerIo>> {
        let tcp = self.dial(url).await?;
        tcp.set_nodelay(true)?;
        if !url.tls {
            return Ok(Box::new(tcp));
        }
        let tls = self.tls.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "peer uses TLS, but no peer TLS is configured here")
        })?;
        let mut config = (*tls.client_config()).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(url.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Box::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn PeerIo>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connects_from_the_address_it_is_given() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: PeerUrl =
            format!("http://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let connector = |local_address: Option<&str>| Connector {
            addresses: Arc::new(Addresses::new(vec![url.clone()])),
            tls: None,
            options: Arc::new(TransportOptions {
                local_address: local_address.map(|address| address.parse().unwrap()),
                ..TransportOptions::default()
            }),
        };
        for (local, seen) in [(None, "127.0.0.1"), (Some("127.0.0.7"), "127.0.0.7")] {
            let _stream = connector(local).connect().await.unwrap();
            assert_eq!(listener.accept().await.unwrap().1.ip().to_string(), seen);
        }
        assert!(connector(Some("192.0.2.1")).connect().await.is_err(), "not an address of this machine");
    }

    #[test]
    fn leaves_an_unreachable_peer_alone_for_a_bounded_time() {
        let addresses = Addresses::new(vec!["http://a:1".parse().unwrap()]);
        let options = TransportOptions::default();
        assert!(addresses.attempt().is_ok());
        for _ in 0..100 {
            addresses.failed(&options);
        }
        assert!(addresses.attempt().unwrap_err() <= options.reconnect_max);
        addresses.succeeded(0);
        assert!(addresses.attempt().is_ok());
        addresses.failed(&options);
        assert!(addresses.set(vec!["http://b:1".parse().unwrap()]), "new URLs are tried at once");
        assert!(addresses.attempt().is_ok());
        assert!(!addresses.set(vec!["http://b:1".parse().unwrap()]));
    }
}
