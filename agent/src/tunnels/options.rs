//! What tunnels are to do.

use std::time::Duration;

/// What tunnels are to do.
#[derive(Clone, Copy, Debug)]
pub struct TunnelsOptions {
    /// The bounds of each tunnel.
    pub tunnel: skiff_tunnel::Options,
    /// How long connecting, TLS and the handshake may take together.
    pub connect_timeout: Duration,
    /// The pause after the first failure.
    pub retry_first: Duration,
    /// What pauses grow to.
    pub retry_most: Duration,
    /// How long a tunnel must have lived for the next pause to be the first again.
    pub steady_after: Duration,
}

impl Default for TunnelsOptions {
    fn default() -> Self {
        TunnelsOptions {
            tunnel: skiff_tunnel::Options::default(),
            connect_timeout: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(15),
            steady_after: Duration::from_secs(30),
        }
    }
}
