//! Certificates and keys: made, checked, kept in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{JoinError, Kind};
use crate::files::{self, Readers};

/// Of a certificate with its chain, and of a key.
const MAX_FILE: u64 = 256 << 10;
const MAX_CHAIN: usize = 16;

/// A certificate with its key, and from when to when it is good.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// A new key, and a request for a certificate of it.
pub(super) struct Request {
    pub(super) key_pem: String,
    pub(super) csr: Vec<u8>,
}

impl Request {
    /// The server decides what the certificate says; the name is for its log.
    pub(super) fn make(node: &str) -> Result<Self, JoinError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Request { key_pem: key.serialize_pem(), csr })
    }
}

impl Certificate {
    /// Reads a certificate and its key, and checks that they belong together.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem)
            .take(MAX_CHAIN)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the certificate is no PEM: {error}"))?;
        let first = chain.first().ok_or("there is no certificate in it")?.clone();
        let key =
            PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| format!("the key is no PEM: {error}"))?;
        let (_, parsed) = X509Certificate::from_der(&first)
            .map_err(|error| format!("the certificate is malformed: {error}"))?;
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        let not_before = at(parsed.validity().not_before.timestamp());
        let not_after = at(parsed.validity().not_after.timestamp());
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| format!("certificate and key do not go together: {error}"))?;
        Ok(Certificate { key: Arc::new(key), not_before, not_after })
    }

    /// When it is to be replaced: after two thirds of its life.
    pub(super) fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life * 2 / 3
    }

    /// True while it is good, and not yet to be replaced.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.renew_at()
    }
}

/// Where a kind's certificate and key are.
pub(super) fn paths(dir: &Path, kind: Kind) -> (PathBuf, PathBuf) {
    (dir.join(format!("{}.crt", kind.name())), dir.join(format!("{}.key", kind.name())))
}

/// What the last run left. What cannot be used is as if it were not there.
pub(super) fn load(dir: &Path, kind: Kind) -> Result<Option<Certificate>, JoinError> {
    let (certificate, key) = paths(dir, kind);
    let (Some(pem), Some(key)) = (files::read(&certificate, MAX_FILE)?, files::read(&key, MAX_FILE)?) else {
        return Ok(None);
    };
    match Certificate::read(&pem, &key) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(problem) => {
            // A crash between writing the two, say.
            tracing::warn!(file = %certificate.display(), problem, "a certificate is not used; a new one is asked for");
            Ok(None)
        }
    }
}

/// Keeps them for the next start.
pub(super) fn save(dir: &Path, kind: Kind, certificate_pem: &[u8], key_pem: &str) -> Result<(), JoinError> {
    let (certificate, key) = paths(dir, kind);
    files::write(&key, key_pem.as_bytes(), Readers::Owner)?;
    files::write(&certificate, certificate_pem, Readers::All)?;
    Ok(())
}
