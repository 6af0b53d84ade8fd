//! What a stream is opened to.

use std::fmt;

/// What a stream is to be opened to: a protocol and an address, both short.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    protocol: String,
    address: String,
}

/// Why there is no such target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// The protocol is empty or too long.
    #[error("a protocol's name has 1 to {} bytes", Target::MAX_PROTOCOL)]
    Protocol,
    /// The address is empty or too long.
    #[error("an address has 1 to {} bytes", Target::MAX_ADDRESS)]
    Address,
}

impl Target {
    /// The longest protocol.
    pub const MAX_PROTOCOL: usize = 16;
    /// The longest address: a host name with a port.
    pub const MAX_ADDRESS: usize = 300;
    /// The one protocol that [`crate::Forwarder`] knows.
    pub const TCP: &'static str = "tcp";

    /// A target.
    ///
    /// # Errors
    /// A part is empty or too long.
    pub fn new(protocol: &str, address: &str) -> Result<Self, TargetError> {
        if protocol.is_empty() || protocol.len() > Self::MAX_PROTOCOL {
            return Err(TargetError::Protocol);
        }
        if address.is_empty() || address.len() > Self::MAX_ADDRESS {
            return Err(TargetError::Address);
        }
        Ok(Target { protocol: protocol.to_owned(), address: address.to_owned() })
    }

    /// A TCP connection to `host:port`.
    ///
    /// # Errors
    /// The address is empty or too long.
    pub fn tcp(address: &str) -> Result<Self, TargetError> {
        Self::new(Self::TCP, address)
    }

    /// The protocol's name.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Escaped, since the other end chose the text and it ends up in logs.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.escape_default(), self.address.escape_default())
    }
}
