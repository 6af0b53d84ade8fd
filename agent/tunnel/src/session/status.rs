//! What a tunnel holds.

/// What one tunnel holds at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Streams that are open, or are being opened or ended.
    pub streams: usize,
    /// Streams that were ever opened, by either end.
    pub opened: u64,
    /// Bytes of streams that wait to be read or to be sent.
    pub buffered_bytes: u64,
    /// The most that ever waited.
    pub buffered_bytes_peak: u64,
    /// How many streams the other end lets us open.
    pub peer_streams: u32,
}
