//! How a node becomes one of a cluster, and stays it.
//!
//! 1. `/cacerts` is fetched from whoever answers, and nothing else is said to him. Where
//!    the token holds a hash, the authorities must have it; then they alone are trusted, and
//!    `/cacerts` is fetched once more over a connection they vouch for.
//! 2. For each certificate a key is made here and a request sent, with the token and the
//!    node's name and password. Keys never leave the node.
//! 3. Long before a certificate's end a new one is asked for, with the certificate in place
//!    of the token, which may have expired; connections from then on show the new one.
//!
//! What is on disk from the last run is used without asking anybody, as long as it is good
//! for the same authorities: a node starts though no server is there.
//!
//! Not here: authorities that the operating system trusts are not looked at, the cluster's
//! own are always fetched.

mod certificates;
mod error;
mod http;
mod identity;
mod joined;
mod kind;
mod live;
mod node;
mod options;
mod renewal;
mod trust;

use std::sync::Arc;

use rustls::ClientConfig;

pub use error::JoinError;
pub use identity::{CertificateStatus, Identity};
pub use kind::Kind;
pub use node::{Node, node_id, node_password};
pub use options::JoinOptions;

/// Asked for the TLS settings before every connection, so that they may change.
pub type TlsSource = Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>;
