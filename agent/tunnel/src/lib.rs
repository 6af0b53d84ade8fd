//! Many streams over one websocket, so that a server reaches what listens on an agent's
//! node though nothing can connect to it.
//!
//! Either end opens a stream by naming a [`Target`]; the other one's [`Acceptor`] decides
//! and answers with a stream or a [`Refusal`]. A [`TunnelStream`] is what a TCP connection
//! is: bytes both ways, each way ended on its own, or the whole reset.
//!
//! ```text
//! driver.rs     owns the websocket: frames in, frames out, keepalive
//! session/      who may send what: decides, does no I/O, never waits
//! frame.rs      the bytes of a frame; one binary message holds one
//! stream.rs     what users read and write
//! forward.rs    an acceptor that dials TCP where a Policy allows it
//! upgrade.rs    the websocket's handshake, of both ends
//! ```
//!
//! Memory: a sender may have no more bytes under way than the receiver granted it, and a
//! receiver grants only what it has room for. [`Options::memory_bound`] says how much one
//! tunnel may ever hold. A peer that sends more than it may ends the tunnel.
//!
//! Not here: TLS (the caller's stream brings it), who may connect (the server's router
//! knows), connecting again (`skiff-agent`).

mod accept;
mod driver;
mod error;
mod forward;
mod frame;
mod hello;
mod options;
mod refusal;
mod session;
mod shared;
mod stream;
mod target;
mod tunnel;
pub mod upgrade;

pub use accept::{Acceptor, Incoming, RefuseAll};
pub use error::{OpenError, TunnelError};
pub use forward::{Forwarder, Policy};
pub use options::Options;
pub use refusal::{Refusal, RefusalCode};
pub use session::Status;
pub use stream::TunnelStream;
pub use target::{Target, TargetError};
pub use tunnel::{End, Tunnel};
