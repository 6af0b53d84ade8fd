//! TLS by rustls (with ring): certificates from files, read again when they
//! change, so that a renewed certificate needs no restart.
//!
//! What is not here: certificate checks by OCSP, and session tickets shared
//! between processes; etcd has neither.

mod accept;
mod address;
mod client;
mod load;
mod names;
mod options;
mod reload;
mod self_signed;
mod server;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub(crate) use accept::accept;
pub(crate) use client::PeerClientTls;
pub(crate) use options::{KeyFiles, TlsOptions};
pub(crate) use server::ServerTls;

/// The cryptography used, cut down to the named cipher suites if any are.
fn provider(suites: &[rustls::CipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !suites.is_empty() {
        // As with Go, the names pick among the suites of TLS 1.2 alone.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(&suite.suite()));
    }
    Arc::new(provider)
}

#[cfg(test)]
mod tests;
