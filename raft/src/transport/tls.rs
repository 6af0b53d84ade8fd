//! Where TLS settings for outgoing connections come from.

use std::sync::Arc;

use rustls::ClientConfig;

/// The TLS settings for connections to peers.
///
/// Asked at every connection, so that renewed certificates take effect without
/// a restart: return the newest settings, cheaply.
pub trait PeerTls: Send + Sync + 'static {
    /// The settings for the next connection. ALPN is set by the caller.
    fn client_config(&self) -> Arc<ClientConfig>;
}

impl<F> PeerTls for F
where
    F: Fn() -> Arc<ClientConfig> + Send + Sync + 'static,
{
    fn client_config(&self) -> Arc<ClientConfig> {
        self()
    }
}
