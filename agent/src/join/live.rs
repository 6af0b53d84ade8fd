//! A certificate that is replaced while it is in use.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificates::Certificate;

/// A certificate that is replaced while it is in use: every handshake shows the newest.
#[derive(Debug)]
pub(super) struct Live(RwLock<Certificate>);

impl Live {
    pub(super) fn new(certificate: Certificate) -> Arc<Self> {
        Arc::new(Live(RwLock::new(certificate)))
    }

    pub(super) fn get(&self) -> Certificate {
        self.0.read().clone()
    }

    pub(super) fn set(&self, certificate: Certificate) {
        *self.0.write() = certificate;
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().key.clone())
    }
}
