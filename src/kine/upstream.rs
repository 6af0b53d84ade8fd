//! An external etcd as the datastore: requests are passed through.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use skiff_kine_api::pass_through::{self, Endpoint, Options, TlsSource};
use skiff_sql::endpoint::{EtcdEndpoint, TlsFiles};

use crate::serve::Stop;
use crate::tls::{KeyFiles, PeerClientTls, TlsOptions};

/// Checks the addresses, and that TLS has what it needs.
///
/// # Errors
/// A sentence, naming the flag.
pub(crate) fn check(etcd: &EtcdEndpoint) -> Result<Vec<Endpoint>, String> {
    let endpoints = Endpoint::parse_list(&etcd.addresses.join(",")).map_err(named)?;
    let trusts = etcd.tls.ca_file.is_some() || etcd.tls.skip_verify;
    if endpoints.iter().any(Endpoint::uses_tls) && !trusts {
        return Err("an etcd over TLS needs --ca-file, the authorities to trust, or --skip-verify".to_owned());
    }
    Ok(endpoints)
}

fn named(problem: String) -> String {
    format!("--endpoint: {problem}")
}

/// The router that passes everything on.
///
/// # Errors
/// A sentence, naming the flag or the file.
pub(crate) fn router(etcd: &EtcdEndpoint, stop: &Stop) -> Result<Router, String> {
    let endpoints = check(etcd)?;
    let tls = match endpoints.iter().any(Endpoint::uses_tls) {
        true => Some(tls(&etcd.tls)?),
        false => None,
    };
    let options = Options { tls, ..Options::default() };
    pass_through::router(endpoints, options, stop.receiver()).map_err(named)
}

/// What the port for metrics serves of that router: this server's own paths.
pub(super) fn metrics(router: &Router) -> Router {
    router.clone().layer(middleware::from_fn(async |request: Request, next: Next| {
        match request.uri().path() {
            "/metrics" | "/health" | "/livez" | "/readyz" => next.run(request).await,
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }))
}

fn tls(files: &TlsFiles) -> Result<TlsSource, String> {
    let options = TlsOptions {
        client: match (&files.cert_file, &files.key_file) {
            (Some(cert), Some(key)) => Some(KeyFiles { cert: cert.clone(), key: key.clone() }),
            _ => None,
        },
        ca: files.ca_file.clone().filter(|_| !files.skip_verify),
        ..TlsOptions::none()
    };
    let tls: Arc<PeerClientTls> = PeerClientTls::load(&options)?;
    Ok(Arc::new(move || tls.config()))
}
