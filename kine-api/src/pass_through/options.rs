//! Settings of the pass-through.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where TLS settings come from. Asked at every connection, so that renewed
/// certificates take effect: return the newest settings, cheaply. They carry
/// the client certificate, if there is one; ALPN is set by the caller.
pub type TlsSource = Arc<dyn Fn() -> Arc<rustls::ClientConfig> + Send + Sync>;

/// TLS and bounds of the pass-through.
#[derive(Clone)]
pub struct Options {
    /// TLS towards endpoints with `https://` or `unixs://`.
    pub tls: Option<TlsSource>,
    /// Let the common name of our client certificate be the user of requests
    /// without a token. Every client is then that user; off, etcd is told not
    /// to look at it.
    pub certificate_names_user: bool,
    /// Longest wait for a connection to be up, TLS and a first answer included.
    pub connect_timeout: Duration,
    /// First pause after an endpoint failed; it doubles from there.
    pub reconnect_min: Duration,
    /// Longest pause between attempts.
    pub reconnect_max: Duration,
    /// Endpoints a call is tried at, at most.
    pub tries: usize,
    /// Bytes of a request kept to send them to a second endpoint.
    pub replay_bytes: usize,
    /// Calls under way at once; more are refused.
    pub max_calls: usize,
    /// Connections for plain HTTP at once; more are refused.
    pub max_http_connections: usize,
    /// Time between pings on a connection with calls under way. etcd refuses
    /// clients that ping more often than every five seconds.
    pub ping_interval: Duration,
    /// Time an endpoint has to answer a ping.
    pub ping_timeout: Duration,
    /// Serve this process's metrics at `/metrics`.
    pub serve_metrics: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            tls: None,
            certificate_names_user: false,
            connect_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(5),
            tries: 3,
            replay_bytes: 64 << 10,
            max_calls: 65_536,
            max_http_connections: 256,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            serve_metrics: true,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}
