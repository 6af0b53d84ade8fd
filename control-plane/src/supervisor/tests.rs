use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tower::ServiceExt;

use super::*;
use crate::bootstrap::{Given, establish};
use crate::pki::Names;
use crate::records::in_memory;
use crate::token::Secrets;

const SERVER: (&str, &str) = ("server", "server-secret");
const NODE: (&str, &str) = ("node", "agent-secret");

async fn supervisor(dir: &Path) -> Arc<Supervisor> {
    let layout = Layout::new(dir);
    let pki = Arc::new(Pki::new(layout.tls(), Names::default()));
    let records = in_memory();
    let given = Given { passwords: vec![SERVER.1.to_owned()], agent: Some(NODE.1.to_owned()) };
    let established = establish(&records, &pki, &given).await.unwrap();
    pki.ensure_leaves(std::time::SystemTime::now()).unwrap();
    let secrets = Arc::new(SharedSecrets::new(records.clone(), established.key, established.secrets));
    let mut settings = Settings::default();
    settings.set("cluster-domain", "cluster.local");
    Supervisor::new(layout, pki, records, secrets, None, settings, "0", true)
}

/// A request with what it shows: a password, and headers.
fn request(
    method: &str,
    path: &str,
    user: Option<(&str, &str)>,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some((user, password)) = user {
        let shown = skiff_token::Credentials::Password(skiff_token::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        });
        request = request.header(header::AUTHORIZATION, shown.authorization());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn every_route_is_for_those_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = supervisor(dir.path()).await;
    let router = supervisor.router();
    let anybody = ["/ping", "/cacerts", "/readyz", "/livez"];
    let agents = ["/config", "/apiservers", "/readyz", "/client-ca.crt", "/server-ca.crt"];
    let servers = ["/server-bootstrap", "/cert/cacerts", "/tokens"];
    for path in anybody {
        assert_eq!(ask(&router, request("GET", path, None, &[], vec![])).await.0, StatusCode::OK, "{path}");
    }
    for prefix in ["/v1-skiff", "/v1-k3s"] {
        for (path, agent) in agents.iter().map(|p| (p, 200)).chain(servers.iter().map(|p| (p, 403))) {
            let path = format!("{prefix}{path}");
            let status = async |user| ask(&router, request("GET", &path, user, &[], vec![])).await.0.as_u16();
            assert_eq!(status(None).await, 401, "{path}");
            assert_eq!(status(Some(("server", "wrong"))).await, 401, "{path}");
            assert_eq!(status(Some(("server", NODE.1))).await, 401, "{path}");
            assert_eq!(status(Some(NODE)).await, agent, "{path}");
            assert_eq!(status(Some(SERVER)).await, 200, "{path}");
        }
    }
    for path in ["/metrics", "/db/info"] {
        assert_eq!(
            ask(&router, request("GET", path, Some(NODE), &[], vec![])).await.0,
            StatusCode::FORBIDDEN
        );
    }
    let (status, text) = ask(&router, request("GET", "/db/info", Some(SERVER), &[], vec![])).await;
    assert!(status == StatusCode::CONFLICT && text.contains("--datastore-endpoint"), "{text}");
    assert_eq!(
        ask(&router, request("GET", "/api", Some(SERVER), &[], vec![])).await.0,
        StatusCode::NOT_FOUND
    );
    // Agents do not see what would let them guess the other secret.
    let (_, config) = ask(&router, request("GET", "/v1-skiff/config", Some(NODE), &[], vec![])).await;
    assert!(config.contains("cluster.local") && !config.contains("agent-token"), "{config}");
}

#[tokio::test]
async fn a_certificate_gives_the_right_that_stands_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = supervisor(dir.path()).await;
    let router = supervisor.router();
    let shown = |path: &str| {
        let pem = std::fs::read(supervisor.pki.file(path, "crt")).unwrap();
        ClientCertificate(CertificateDer::from_pem_slice(&pem).unwrap())
    };
    for (certificate, expected) in
        [("client-supervisor", 200), ("client-admin", 200), ("client-scheduler", 403)]
    {
        let mut request = request("GET", "/v1-skiff/server-bootstrap", None, &[], vec![]);
        request.extensions_mut().insert(shown(certificate));
        assert_eq!(ask(&router, request).await.0.as_u16(), expected, "{certificate}");
    }
}

#[tokio::test]
async fn a_nodes_name_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = supervisor(dir.path()).await;
    let router = supervisor.router();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let sign = async |path: &str, user, headers: &[(&str, &str)]| {
        ask(&router, request("POST", path, user, headers, csr.clone())).await
    };
    let path = "/v1-skiff/client-kubelet.crt";
    let named = [("skiff-node-name", "n1"), ("skiff-node-password", "mine"), ("skiff-node-ip", "10.0.0.1")];
    let (status, pem) = sign(path, Some(NODE), &named).await;
    assert_eq!(status, StatusCode::OK, "{pem}");
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    // K3s's names of the headers, and the certificate of another kind.
    let k3s = [("k3s-node-name", "n1"), ("k3s-node-password", "mine")];
    assert_eq!(sign("/v1-k3s/serving-kubelet.crt", Some(NODE), &k3s).await.0, StatusCode::OK);
    let other = [("skiff-node-name", "n1"), ("skiff-node-password", "another's")];
    let (status, text) = sign(path, Some(NODE), &other).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("--node-name"), "{text}");
    assert_eq!(sign(path, None, &named).await.0, StatusCode::UNAUTHORIZED);
    for wrong in [
        vec![("skiff-node-name", "N 1"), ("skiff-node-password", "x")],
        vec![("skiff-node-name", "n2")],
        vec![("skiff-node-password", "x")],
        vec![("skiff-node-name", "n2"), ("skiff-node-password", "x"), ("skiff-node-ip", "here")],
    ] {
        assert_eq!(sign(path, Some(NODE), &wrong).await.0, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    // By its certificate a node needs no password for its own name, and gets no other.
    for (name, expected) in [("n1", 200), ("n3", 400)] {
        let mut request = request("POST", path, None, &[("skiff-node-name", name)], csr.clone());
        request.extensions_mut().insert(ClientCertificate(certificate.clone()));
        assert_eq!(ask(&router, request).await.0.as_u16(), expected, "{name}");
    }
}

#[tokio::test]
async fn tokens_are_made_listed_used_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = supervisor(dir.path()).await;
    let router = supervisor.router();
    let json = [("content-type", "application/json")];
    let wanted =
        br#"{"token":"abcdef.0123456789abcdef","ttl_seconds":60,"usages":[],"groups":[],"description":"d"}"#;
    let create = || request("POST", "/v1-skiff/tokens", Some(SERVER), &json, wanted.to_vec());
    let (status, token) = ask(&router, create()).await;
    assert!(
        status == StatusCode::OK && token.starts_with("K10") && token.ends_with("::abcdef.0123456789abcdef"),
        "{token}"
    );
    assert_eq!(ask(&router, create()).await.0, StatusCode::CONFLICT);
    let (_, listed) = ask(&router, request("GET", "/v1-skiff/tokens", Some(SERVER), &[], vec![])).await;
    assert!(listed.contains("abcdef") && !listed.contains("0123456789abcdef"), "{listed}");
    let bearer = [("authorization", "Bearer abcdef.0123456789abcdef")];
    let as_bearer = |path: &str| request("GET", path, None, &bearer, vec![]);
    assert_eq!(ask(&router, as_bearer("/v1-skiff/config")).await.0, StatusCode::OK);
    assert_eq!(ask(&router, as_bearer("/v1-skiff/server-bootstrap")).await.0, StatusCode::FORBIDDEN);
    let delete = || request("DELETE", "/v1-skiff/tokens/abcdef", Some(SERVER), &[], vec![]);
    assert_eq!(ask(&router, delete()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&router, delete()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&router, as_bearer("/v1-skiff/config")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_servers_token_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = supervisor(dir.path()).await;
    let router = supervisor.router();
    let rotate = |user, body: &str| {
        request(
            "PUT",
            "/v1-k3s/token",
            Some(user),
            &[("content-type", "application/json")],
            body.as_bytes().to_vec(),
        )
    };
    assert_eq!(ask(&router, rotate(NODE, "{}")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&router, rotate(SERVER, r#"{"newToken":"short"}"#)).await.0, StatusCode::CONFLICT);
    let (status, token) = ask(&router, rotate(SERVER, r#"{"newToken":"a-new-secret"}"#)).await;
    assert!(status == StatusCode::OK && token.ends_with("::server:a-new-secret"), "{token}");
    assert_eq!(std::fs::read_to_string(supervisor.layout.token()).unwrap().trim(), token);
    let bundle = |user| request("GET", "/v1-skiff/server-bootstrap", Some(user), &[], vec![]);
    assert_eq!(ask(&router, bundle(SERVER)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&router, bundle(("server", "a-new-secret"))).await.0, StatusCode::OK);
    let secrets: Secrets = (*supervisor.secrets.current()).clone();
    assert_eq!((secrets.server.as_str(), secrets.agent()), ("a-new-secret", NODE.1));
}
