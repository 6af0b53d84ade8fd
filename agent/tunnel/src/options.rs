//! The bounds of a tunnel.

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::frame::OVERHEAD;

/// The bounds of one tunnel. The defaults suit a node with a few hundred pods.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many streams the other end may have open at once.
    pub max_streams: u32,
    /// What a stream's sender may send before the first byte is read.
    pub window_bytes: u32,
    /// What that grows to where a reader is faster than the way is long.
    pub max_window_bytes: u32,
    /// What all windows together may grow by.
    pub growth_bytes: u32,
    /// What a stream's writer may write before it waits.
    pub send_buffer_bytes: u32,
    /// The most bytes of one frame, so that no stream keeps the others waiting for long.
    pub frame_bytes: u32,
    /// How long nothing may be heard before the other end is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long nothing may be heard, or nothing sent though there is something to send,
    /// before the tunnel is given up.
    pub keepalive_timeout: Duration,
    /// How long the other end has for its first frame.
    pub hello_timeout: Duration,
    /// How long an open may take to be answered.
    pub open_timeout: Duration,
    /// How long a stream that nobody holds any more may take to send its last bytes.
    pub linger_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_streams: 1024,
            window_bytes: 64 << 10,
            max_window_bytes: 1 << 20,
            growth_bytes: 16 << 20,
            send_buffer_bytes: 64 << 10,
            frame_bytes: 16 << 10,
            keepalive_interval: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(45),
            hello_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// The most bytes of streams that one tunnel holds at a time, whatever its ends do:
    /// those of `peer_streams` that we opened (the other end's bound) and of those it opened.
    #[must_use]
    pub fn memory_bound(&self, peer_streams: u32) -> u64 {
        let streams = u64::from(self.max_streams) + u64::from(peer_streams);
        streams * (u64::from(self.window_bytes) + u64::from(self.send_buffer_bytes))
            + u64::from(self.growth_bytes)
    }

    /// The same, with no value that would make a tunnel useless.
    pub(crate) fn sane(mut self) -> Self {
        let max = i32::MAX as u32;
        self.max_streams = self.max_streams.clamp(1, 1 << 16);
        self.frame_bytes = self.frame_bytes.clamp(1, 1 << 20);
        self.window_bytes = self.window_bytes.clamp(1, max);
        self.max_window_bytes = self.max_window_bytes.clamp(self.window_bytes, max);
        self.keepalive_interval = self.keepalive_interval.max(Duration::from_millis(10));
        self.send_buffer_bytes = self.send_buffer_bytes.clamp(1, max);
        self
    }

    pub(crate) fn websocket(&self) -> WebSocketConfig {
        let message = self.frame_bytes as usize + OVERHEAD;
        WebSocketConfig::default()
            .read_buffer_size(message)
            .write_buffer_size(message)
            .max_write_buffer_size(4 * message)
            .max_message_size(Some(message))
            .max_frame_size(Some(message))
    }
}
