//! Clients that show certificates, compared with etcd's answers.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use skiff_test_support::certificates::NAMELESS;
use skiff_test_support::ports::free_port;
use skiff_test_support::{Scratch, certificates};

use crate::pair::Pair;
use skiff_test_support::http::{Answer, Asked, ask};

const TEXT: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";

fn client(dir: &Path, name: &str) -> Arc<rustls::ClientConfig> {
    let certificate = |name: &str| CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("ca")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots);
    Arc::new(config.with_client_auth_cert(vec![certificate(name)], key).unwrap())
}

/// Both servers, each with a port for TLS beside the plain one; and the addresses of those.
async fn servers(dir: &Path) -> (Pair, [String; 2]) {
    let ports = [free_port(), free_port()];
    let plain = [free_port(), free_port()];
    let file = |name: &str| dir.join(name).display().to_string();
    let flags = |at: usize| {
        vec![
            format!("--listen-client-urls=http://127.0.0.1:{},https://127.0.0.1:{}", plain[at], ports[at]),
            format!("--advertise-client-urls=http://127.0.0.1:{}", plain[at]),
            "--client-cert-auth".to_owned(),
            "--bcrypt-cost=4".to_owned(),
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
            format!("--trusted-ca-file={}", file("ca.pem")),
        ]
    };
    let pair = Pair::start_at(plain, [flags(0), flags(1)]).await;
    (pair, ports.map(|port| format!("127.0.0.1:{port}")))
}

async fn both(asked: &Asked, addresses: &[String; 2]) -> [Answer; 2] {
    let [etcd, own] = addresses;
    let (etcd, own) = tokio::join!(ask(etcd, asked), ask(own, asked));
    [etcd.expect("etcd answers"), own.expect("the server answers")]
}

/// A name in a certificate counts for no call of the gateway: etcd says so instead of leaving the client
/// to wonder, whatever else he shows.
#[tokio::test]
async fn a_certificate_with_a_name_is_refused() {
    let scratch = Scratch::new("gateway-names");
    certificates::write(scratch.path(), &["root", NAMELESS]).expect("certificates");
    let (named, nameless) = (client(scratch.path(), "root"), client(scratch.path(), NAMELESS));
    let (pair, tls) = servers(scratch.path()).await;
    let range = || Asked::post("kv/range", r#"{"key":"Zm9v"}"#);
    // While auth is off, no name is expected to count.
    assert_eq!(pair.compare_at(&range().over(&named), tls.clone()).await, 200);
    for (path, body) in [
        ("auth/user/add", r#"{"name":"root","password":"r"}"#),
        ("auth/role/add", r#"{"name":"root"}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/enable", ""),
    ] {
        assert_eq!(pair.compare(&Asked::post(path, body)).await, 200, "{path}");
    }
    let at = |path: &str| Asked { path: path.to_owned(), ..range() };
    let get = |path: &str| at(path).method("GET");
    let upgrade = get("/v3/watch").header("connection", "upgrade").header("upgrade", "websocket");
    let login = Asked::post("auth/authenticate", r#"{"name":"root","password":"r"}"#);
    for asked in [
        range(),
        range().header("authorization", "no token"),
        login.clone(),
        at("/v3beta/kv/range"),
        get("/v3/kv/range"),
        at("/v3//kv/range"),
        at("/v3/nothing"),
        at("/v3/"),
        upgrade,
    ] {
        for answer in both(&asked.clone().over(&named), &tls).await {
            let shown = (answer.status, String::from_utf8_lossy(&answer.body).into_owned());
            assert_eq!(shown, (400, TEXT.to_owned()), "{} {}", asked.method, asked.path);
            assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
    }
    // What is not the gateway's, who bears no name, and who comes without TLS.
    for asked in [get("/v3").over(&named), get("/v4/kv/range").over(&named)] {
        pair.compare_at(&asked, tls.clone()).await;
    }
    for answer in both(&get("/health").over(&named), &tls).await {
        assert_eq!(answer.status, 200);
    }
    // Without this header etcd takes a call for one of its own certificate's user. Whether its refusals
    // carry metadata is a matter of timing.
    let accepting = || range().header("accept", "*/*");
    let plain = pair.addresses();
    for (asked, addresses) in [(accepting().over(&nameless), &tls), (accepting(), &plain)] {
        for answer in both(&asked, addresses).await {
            let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert_eq!(
                (answer.status, told["message"].as_str()),
                (400, Some("etcdserver: user name is empty"))
            );
        }
    }
    let tokens = both(&login.over(&nameless), &tls).await.map(|answer| {
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        told["token"].as_str().expect("a token").to_owned()
    });
    for (address, token) in tls.iter().zip(&tokens) {
        let asked = range().header("authorization", token).over(&nameless);
        assert_eq!(ask(address, &asked).await.expect("an answer").status, 200, "{address}");
    }
    pair.finish();
}
