//! Reads PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::options::{KeyFiles, TlsOptions};
use super::verify::{Conditions, Restricted};

/// A chain and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn at(path: &Path, problem: impl std::fmt::Display) -> String {
    format!("{}: {problem}", path.display())
}

/// Reads a certificate chain.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| at(path, e))?.collect();
    match chain.map_err(|e| at(path, e))? {
        chain if chain.is_empty() => Err(at(path, "holds no certificate")),
        chain => Ok(chain),
    }
}

/// Reads a chain and its key.
pub(crate) fn identity(files: &KeyFiles) -> Result<Identity, String> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| at(&files.key, e))?;
    Ok((certificates(&files.cert)?, key))
}

/// Reads authorities.
pub(crate) fn roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| at(path, e))?;
    }
    Ok(Arc::new(roots))
}

/// The check of the other end's certificate, if one is asked for.
pub(crate) fn client_verifier(options: &TlsOptions) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(ca) = &options.ca else { return Ok(None) };
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(roots(ca)?, super::provider(&options.suites));
    if options.ca_optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|e| at(ca, e))?;
    Ok(Some(Arc::new(Restricted { conditions: Conditions::new(options)?, inner })))
}
