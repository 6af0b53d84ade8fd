//! TLS between members: both sides show certificates, and renewed ones are
//! used without a restart.

use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use skiff_raft::peer::{CallError, PeerClient};
use skiff_raft::transport::{Transport, TransportConfig};

use super::calls::read_index;
use super::*;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Settings of a client that trusts this authority and shows a
    /// certificate of `own`.
    fn client(&self, own: &Authority) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = own.issue();
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(self.roots());
        Arc::new(builder.with_client_auth_cert(chain, key).unwrap())
    }

    fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
        let (chain, key) = self.issue();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

#[tokio::test]
async fn members_show_certificates_and_renewed_ones_are_used_at_once() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let handler = Arc::new(Handler::default());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::listen(handler.clone(), any, Some(authority.server())).await;
    let node = node(&[url(&server).replace("http", "https")]);

    let current = Arc::new(Mutex::new(authority.client(&stranger)));
    let source = current.clone();
    let tls: Arc<dyn skiff_raft::transport::PeerTls> = Arc::new(move || source.lock().clone());
    let transport = Transport::new(TransportConfig { tls: Some(tls), ..config() });
    let refused = transport.call(ANSWERER, &node, read_index(), DEADLINE).await;
    assert!(matches!(refused, Err(CallError::Unreachable(_) | CallError::Lost(_))), "{refused:?}");

    *current.lock() = authority.client(&authority);
    eventually("the renewed certificate is accepted", || {
        transport.call(ANSWERER, &node, read_index(), DEADLINE)
    })
    .await;

    // The whole chain is renewed, on both sides, and the server restarts.
    let renewed = Authority::new();
    *current.lock() = renewed.client(&renewed);
    let address = server.kill().await;
    let _server = Server::listen(handler, address, Some(renewed.server())).await;
    eventually("the new authority is trusted", || transport.call(ANSWERER, &node, read_index(), DEADLINE))
        .await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::listen(Arc::new(Handler::default()), any, Some(stranger.server())).await;
    let client = authority.client(&authority);
    let tls: Arc<dyn skiff_raft::transport::PeerTls> = Arc::new(move || client.clone());
    let transport = Transport::new(TransportConfig { tls: Some(tls), ..config() });
    let refused = transport
        .call(ANSWERER, &node(&[url(&server).replace("http", "https")]), read_index(), DEADLINE)
        .await;
    assert!(matches!(refused, Err(CallError::Unreachable(_))), "{refused:?}");
}
