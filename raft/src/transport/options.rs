//! The transport's settings, with every default in one place.

use std::net::IpAddr;
use std::time::Duration;

/// Limits and times of the transport.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// Address to connect to peers from; the system's choice if not given.
    pub local_address: Option<IpAddr>,
    /// Longest attempt to connect to one URL, TLS handshake included.
    pub connect_timeout: Duration,
    /// Pause after the first failed attempt; doubled at each further one.
    pub reconnect_min: Duration,
    /// Longest pause between attempts. Short, since it is added to the time a
    /// restarted member needs to be heard.
    pub reconnect_max: Duration,
    /// A connection is asked for a sign of life this often.
    pub keepalive_interval: Duration,
    /// A connection that gives no sign of life for this long is closed.
    pub keepalive_timeout: Duration,
    /// Least time to wait for the next reply of an append stream, whatever the
    /// caller asks for. A slow disk must not make a leader send all again;
    /// heartbeats and keepalives find dead peers much sooner.
    pub append_idle_timeout: Duration,
    /// Longest pause of a snapshot's receiver between two chunks.
    pub snapshot_idle_timeout: Duration,
    /// Longest time a receiver may take to install a complete snapshot.
    pub snapshot_install_timeout: Duration,
    /// Bytes of entries in one append message; a longer request is split. One
    /// entry may be longer than this on its own.
    pub max_append_bytes: usize,
    /// Append messages in flight to one peer.
    pub max_append_inflight: usize,
    /// Bytes of entries in flight to one peer.
    pub max_append_inflight_bytes: usize,
    /// Longest message sent or accepted, in bytes.
    pub max_message_bytes: usize,
    /// Bytes in one chunk of a snapshot.
    pub snapshot_chunk_bytes: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        TransportOptions {
            local_address: None,
            connect_timeout: Duration::from_secs(1),
            reconnect_min: Duration::from_millis(10),
            reconnect_max: Duration::from_millis(200),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            append_idle_timeout: Duration::from_secs(3),
            snapshot_idle_timeout: Duration::from_secs(10),
            snapshot_install_timeout: Duration::from_secs(120),
            max_append_bytes: 1 << 20,
            max_append_inflight: 64,
            max_append_inflight_bytes: 16 << 20,
            max_message_bytes: 64 << 20,
            snapshot_chunk_bytes: 1 << 20,
        }
    }
}
