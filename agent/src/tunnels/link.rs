//! The link to one server.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use skiff_token::wire;
use skiff_tunnel::Tunnel;
use skiff_tunnel::upgrade::{self, ConnectError};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::Means;
use super::status::{LinkState, LinkStatus};
use crate::address::ServerAddress;
use crate::backoff::Backoff;
use crate::balancer::Report;
use crate::reason::reason;

/// The link to one server.
pub(super) struct Link {
    server: ServerAddress,
    means: Means,
    status: Arc<Mutex<LinkStatus>>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Upgrade(ConnectError),
    #[error("the server refuses the tunnel with status {0}: {1}")]
    Refused(u16, String),
    #[error("connecting took too long")]
    Late,
}

impl LinkError {
    /// What it says about the server: one that refuses us is there.
    fn report(&self) -> Report {
        match self {
            LinkError::Refused(status, _) if *status < 500 => Report::Up,
            error => Report::Down(error.to_string()),
        }
    }
}

impl Link {
    pub(super) fn new(server: ServerAddress, means: Means) -> Self {
        let status = LinkStatus {
            server: server.clone(),
            state: LinkState::Connecting,
            connected: 0,
            last_error: None,
        };
        let status = Arc::new(Mutex::new(status));
        means.links.lock().push(status.clone());
        Link { server, means, status }
    }

    /// Keeps a tunnel until it is stopped, or nobody is left to stop it.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let options = &self.means.options;
        let mut backoff = Backoff::new(options.retry_first, options.retry_most);
        loop {
            self.update(|status| status.state = LinkState::Connecting);
            let connected = tokio::select! {
                connected = timeout(options.connect_timeout, self.connect()) => connected,
                () = stopped(&mut stop) => return,
            };
            let why = match connected.unwrap_or(Err(LinkError::Late)) {
                Ok(tunnel) => {
                    let since = Instant::now();
                    let Some(why) = self.stay(&tunnel, &mut stop).await else { return };
                    if since.elapsed() >= options.steady_after {
                        backoff.reset();
                    }
                    self.report(Report::Down(why.clone()));
                    why
                }
                Err(error) => {
                    self.report(error.report());
                    error.to_string()
                }
            };
            tracing::warn!(server = %self.server, error = %why, "there is no tunnel to a server; trying again");
            self.update(|status| {
                status.state = LinkState::Waiting;
                status.last_error = Some(why);
            });
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Waits for the end of the tunnel, and says why it ended; `None` where we ended it.
    async fn stay(&self, tunnel: &Tunnel, stop: &mut watch::Receiver<bool>) -> Option<String> {
        tracing::info!(server = %self.server, "the tunnel to a server is up");
        self.report(Report::Up);
        self.update(|status| {
            status.state = LinkState::Connected;
            status.connected += 1;
        });
        tokio::select! {
            why = tunnel.ended() => Some(why.to_string()),
            () = stopped(stop) => {
                tunnel.close("the agent stops, or the server is no more in its list");
                tunnel.ended().await;
                None
            }
        }
    }

    async fn connect(&self) -> Result<Tunnel, LinkError> {
        let tcp = TcpStream::connect(self.server.dial()).await?;
        tcp.set_nodelay(true)?;
        let mut tls = (*(self.means.tls)()).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TlsConnector::from(Arc::new(tls)).connect(self.server.name()?, tcp).await?;
        let url = format!("wss://{}{}{}", self.server, wire::PREFIX, wire::CONNECT);
        let Means { options, acceptor, .. } = &self.means;
        Ok(upgrade::connect(stream, &url, &[], options.tunnel, acceptor.clone()).await?)
    }

    fn report(&self, report: Report) {
        if let Some(balancer) = &self.means.balancer {
            balancer.report(&self.server, report);
        }
    }

    fn update(&self, change: impl FnOnce(&mut LinkStatus)) {
        change(&mut self.status.lock());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.means.links.lock().retain(|status| !Arc::ptr_eq(status, &self.status));
    }
}

impl From<ConnectError> for LinkError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Status(status, text) => LinkError::Refused(status.as_u16(), reason(&text)),
            error => LinkError::Upgrade(error),
        }
    }
}

/// Waits until the link is to stop, or nobody is left to say so.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
