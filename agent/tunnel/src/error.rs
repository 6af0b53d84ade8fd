//! What goes wrong with a tunnel, and with opening a stream.

use std::io;

use crate::refusal::Refusal;

/// Why a tunnel is over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TunnelError {
    /// This end closed it.
    #[error("the tunnel was closed")]
    Closed,
    /// The other end closed it.
    #[error("the other end closed the tunnel: {0:?}")]
    ClosedByPeer(String),
    /// The connection broke.
    #[error("the tunnel's connection broke: {0}")]
    Lost(String),
    /// The other end was not heard of, or took nothing, for too long.
    #[error("the other end of the tunnel {0}")]
    Silent(&'static str),
    /// The other end does not keep to the protocol.
    #[error("the other end of the tunnel does not keep to its protocol: {0}")]
    Violation(String),
    /// There is no version that both ends speak.
    #[error(
        "the other end of the tunnel speaks versions {0} to {1}, this one {2} to {3}; update the older one"
    )]
    Version(u16, u16, u16, u16),
}

impl TunnelError {
    pub(crate) fn to_io(&self) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, self.clone())
    }
}

/// Why a stream was not opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The other end refuses.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// As many streams are open as the other end allows.
    #[error("{0} streams are open, which is all that the other end of the tunnel allows")]
    TooMany(u32),
    /// No answer in time.
    #[error("the other end of the tunnel did not answer in time")]
    TimedOut,
    /// The other end gave the stream up.
    #[error("the other end of the tunnel gave the stream up")]
    Reset,
    /// The tunnel is over.
    #[error("{0}")]
    Ended(#[from] TunnelError),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Refused(_) => io::ErrorKind::ConnectionRefused,
            OpenError::TooMany(_) => io::ErrorKind::QuotaExceeded,
            OpenError::TimedOut => io::ErrorKind::TimedOut,
            OpenError::Reset => io::ErrorKind::ConnectionReset,
            OpenError::Ended(_) => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, error)
    }
}
