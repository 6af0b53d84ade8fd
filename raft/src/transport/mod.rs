//! Members talk to each other: gRPC over HTTP/2 on the peer URLs.
//!
//! * [`Transport`] is the asking side: openraft's network and the node's
//!   [`PeerClient`](crate::peer::PeerClient). Connections open when they are
//!   needed and again when they are lost; several URLs of a member are tried in
//!   turn; a member's URLs may change at any time ([`Transport::set_members`]).
//!   Each peer has one connection for each kind of traffic, so that heartbeats
//!   and votes never wait behind log entries, nor those behind a snapshot.
//! * [`router`] is the answering side, in front of a
//!   [`PeerHandler`](crate::peer::PeerHandler). The listener, TLS included,
//!   belongs to the caller; it must speak HTTP/2 (ALPN `h2`).
//! * Every call says who calls whom in which cluster, and is refused where that
//!   does not fit ([`identity`]).
//! * TLS settings are asked for at every connection ([`PeerTls`]), so that
//!   renewed certificates take effect without a restart.
//! * [`Faults`] cuts, delays and refuses between members, for tests.
//!
//! Not here: discovery, `unix://` peer URLs (no two hosts can use them), and
//! compression (entries are small or already compressed by the disk format).

mod append;
mod client;
mod connector;
mod convert;
mod faults;
pub mod identity;
mod link;
mod metrics;
mod network;
mod options;
mod server;
mod snapshot;
mod tls;
mod url;

pub use client::{Transport, TransportConfig};
pub use faults::{Fault, Faults, Refused};
pub use network::PeerNetwork;
pub use options::TransportOptions;
pub use server::{SERVER_CONNECTION_WINDOW, SERVER_STREAM_WINDOW, router};
pub use tls::PeerTls;
pub use url::{InvalidPeerUrl, PeerUrl};

/// The generated messages and services of the peer protocol.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod pb {
    tonic::include_proto!("skiff.peer.v1");
}
