//! An etcd that asks for client certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use skiff_kine_api::pass_through::Options;
use tonic::Code;

use crate::calls::enable_auth;
use crate::common::*;

struct Files {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Files {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Files { folder: tempfile::tempdir().unwrap(), ca };
        std::fs::write(files.path("ca"), files.ca.pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A certificate and key for the name, signed.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    fn options(&self, certificate: bool) -> Options {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = if certificate {
            let (chain, key) = self.sign("root");
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let config = Arc::new(config);
        Options { tls: Some(Arc::new(move || config.clone())), ..Options::default() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_opens_the_door_and_names_nobody() {
    let files = Files::new();
    let (chain, key) = files.sign("server");
    std::fs::write(files.path("cert"), chain).unwrap();
    std::fs::write(files.path("key"), key).unwrap();
    let flags = ["--client-cert-auth", "--trusted-ca-file", &files.path("ca"), "--cert-file"];
    let mut flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend([files.path("cert"), "--key-file".to_owned(), files.path("key")]);
    let etcd = Etcd::single("https", &flags);
    let front = Front::start(&[&etcd.url], files.options(true)).await;
    front.ready().await;
    assert!(front.http("GET", "/version", "").await.starts_with("HTTP/1.1 200"));
    enable_auth(&front).await;
    // Our certificate is root's; its requests would be root's too.
    let error = front.kv().put(put("k", "v")).await.unwrap_err();
    assert_eq!(error.message(), "etcdserver: user name is empty");
    let named = Options { certificate_names_user: true, ..files.options(true) };
    Front::start(&[&etcd.url], named).await.kv().put(put("k", "v")).await.unwrap();

    let stranger = Front::start(&[&etcd.url], files.options(false)).await;
    let error = within(stranger.kv().put(put("k", "v"))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&etcd.url), "{error}");
}
