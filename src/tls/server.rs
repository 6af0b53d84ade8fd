//! TLS of a listening port.

use std::sync::Arc;

use rustls::ServerConfig;

use super::options::TlsOptions;
use super::{load, reload::Reload};

/// TLS of a listening port; its files are read again when they change.
pub(crate) struct ServerTls {
    config: Reload<Arc<ServerConfig>>,
    /// A client's certificate must be for the address it comes from.
    pub(super) check_address: bool,
}

impl ServerTls {
    /// Loads the files; `None` if TLS is not configured.
    ///
    /// # Errors
    /// A sentence with the path.
    pub(crate) fn new(options: &TlsOptions) -> Result<Option<Arc<ServerTls>>, String> {
        let Some(server) = &options.server else { return Ok(None) };
        let mut files = vec![server.cert.clone(), server.key.clone()];
        files.extend(options.ca.clone());
        files.extend(options.crl.clone());
        let owned = options.clone();
        Ok(Some(Arc::new(ServerTls {
            config: Reload::new(files, move || build(&owned))?,
            check_address: options.check_address,
        })))
    }

    /// The settings for the next connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.get())
    }
}

fn build(options: &TlsOptions) -> Result<Arc<ServerConfig>, String> {
    let files = options.server.as_ref().ok_or("no certificate is configured")?;
    let (chain, key) = load::identity(files)?;
    let builder = ServerConfig::builder_with_provider(super::provider(&options.suites))
        .with_protocol_versions(&options.versions)
        .map_err(|e| e.to_string())?;
    let builder = match load::client_verifier(options)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| format!("{} with {}: {e}", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
