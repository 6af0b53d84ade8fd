//! Joining a cluster, and staying in it.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use skiff_agent::join::{Identity, JoinError, JoinOptions, Kind, Node};
use skiff_token::Token;
use skiff_token::wire::Refused;

use crate::cluster::{Cluster, Server};
use crate::support::{soon, until};

pub(crate) fn options(server: &Server, token: Token, dir: &Path, name: &str) -> JoinOptions {
    let addresses: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap()];
    let node = Node { name: name.to_owned(), addresses, password_file: dir.join("node/password") };
    let options = JoinOptions::new(server.address.clone(), token, node, dir.join("agent"));
    JoinOptions { retry_first: Duration::from_millis(10), retry_most: Duration::from_millis(50), ..options }
}

async fn join(options: &JoinOptions) -> Result<Arc<Identity>, JoinError> {
    soon(Identity::join_once(options.clone())).await
}

fn names(kind: Kind, dir: &Path) -> String {
    std::fs::read_to_string(dir.join(format!("agent/{}.crt", kind.name()))).unwrap()
}

#[tokio::test]
async fn a_node_gets_its_certificates_and_keeps_its_keys() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let identity = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap();
    assert_eq!(identity.status().len(), Kind::ALL.len());
    assert_eq!(identity.authorities().pem(), cluster.ca_pem().as_bytes());
    for kind in Kind::ALL {
        let mode = |ending: &str| {
            let file = dir.path().join(format!("agent/{}.{ending}", kind.name()));
            std::fs::metadata(file).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("key"), mode("crt")), (0o600, 0o644));
    }
    for file in ["server-ca.crt", "client-ca.crt"] {
        assert_eq!(std::fs::read_to_string(dir.path().join("agent").join(file)).unwrap(), cluster.ca_pem());
    }
    let asked: Vec<_> = cluster.state().asked.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(asked, Kind::ALL.map(|kind| format!("{}.crt", kind.name())));
}

#[tokio::test]
async fn every_form_of_a_token_joins() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    for (number, token) in ["right", "abcdef.0123456789abcdef"].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let joined = join(&options(&server, token.parse().unwrap(), dir.path(), &format!("n{number}"))).await;
        assert!(joined.is_ok(), "{joined:?}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_refused_with_what_to_do() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let wrong: Token = "wrong".parse().unwrap();
    let error = join(&options(&server, wrong, dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongToken) && !error.is_temporary(), "{error}");
    cluster.state().refuse = Some(Refused::TokenExpired);
    let error = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::TokenExpired) && !error.is_temporary(), "{error}");
    assert!(cluster.state().asked.is_empty(), "refused before a key was made");
}

#[tokio::test]
async fn authorities_of_another_hash_are_refused_before_anything_is_shown() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let server = Server::start(&other).await;
    let dir = tempfile::tempdir().unwrap();
    let error = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::CaHash { .. }) && !error.is_temporary(), "{error}");
    assert!(!dir.path().join("agent").exists());
    // It serves the right authorities, and is none of theirs.
    other.state().served = Some(cluster.ca_pem());
    let error = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::Untrusted { .. }) && !error.is_temporary(), "{error}");
    // The same without a hash: what is served must vouch for the server at least.
    other.state().served = Some(Cluster::stranger());
    let error = join(&options(&server, "right".parse().unwrap(), dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::Untrusted { .. }), "{error}");
    other.state().served = Some("no certificate".to_owned());
    let error = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::Bundle(_)), "{error}");
    assert!(other.state().asked.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    join(&options(&server, cluster.token(), first.path(), "n1")).await.unwrap();
    let error = join(&options(&server, cluster.token(), second.path(), "n1")).await.unwrap_err();
    assert!(matches!(error, JoinError::NameTaken { .. }) && !error.is_temporary(), "{error}");
    assert!(error.to_string().contains("--with-node-id"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_again() {
    let cluster = Cluster::new();
    let mut server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let options = options(&server, cluster.token(), dir.path(), "n1");
    server.kill().await;
    assert!(matches!(join(&options).await, Err(JoinError::Unreachable { .. })));
    cluster.state().status = Some(StatusCode::SERVICE_UNAVAILABLE);
    let joining = tokio::spawn(Identity::join(options));
    server.restart().await;
    until("it is asked twice", || cluster.state().asked.len() > 2).await;
    cluster.state().status = None;
    soon(joining).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_starts_though_no_server_is_there() {
    let cluster = Cluster::new();
    let mut server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let options = options(&server, cluster.token(), dir.path(), "n1");
    join(&options).await.unwrap();
    server.kill().await;
    join(&options).await.unwrap();
    let other =
        JoinOptions { token: format!("K10{}::node:x", "0".repeat(64)).parse().unwrap(), ..options.clone() };
    assert!(
        matches!(join(&other).await, Err(JoinError::Unreachable { .. })),
        "for another cluster it must ask"
    );
    // A crash between writing the two leaves a key that is not the certificate's.
    let keys = ["client-kubelet.key", "serving-kubelet.key"].map(|key| dir.path().join("agent").join(key));
    std::fs::copy(&keys[0], &keys[1]).unwrap();
    assert!(matches!(join(&options).await, Err(JoinError::Unreachable { .. })));
    server.restart().await;
    let before = cluster.state().asked.len();
    join(&options).await.unwrap();
    assert_eq!(cluster.state().asked[before..], [("serving-kubelet.crt".to_owned(), false)]);
}

#[tokio::test]
async fn another_name_gets_other_certificates() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap();
    let before = names(Kind::ClientKubelet, dir.path());
    join(&options(&server, cluster.token(), dir.path(), "n2")).await.unwrap();
    assert_ne!(names(Kind::ClientKubelet, dir.path()), before);
    assert_eq!(cluster.state().asked.len(), 2 * Kind::ALL.len());
}

#[tokio::test]
async fn certificates_are_renewed_by_themselves_while_they_run() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    // Most of their time is over.
    cluster.state().age = 10 * day;
    let identity = join(&options(&server, cluster.token(), dir.path(), "n1")).await.unwrap();
    let before = identity.status();
    // The token is of no use any more: the certificate must be the right to a new one.
    cluster.state().refuse = Some(Refused::TokenExpired);
    cluster.state().age = Duration::ZERO;
    cluster.state().lifetime = 2 * day;
    let shown = identity.client_certificate(Kind::ClientKubelet).unwrap();
    let first = shown.resolve(&[], &[]).unwrap();
    let renewing = tokio::spawn(identity.clone().keep_renewed());
    until("all are renewed", || {
        identity.status().iter().zip(&before).all(|(now, before)| now.not_after > before.not_after)
    })
    .await;
    assert_ne!(shown.resolve(&[], &[]).unwrap().cert, first.cert, "handshakes show the new one");
    let asked = cluster.state().asked.clone();
    assert!(asked[Kind::ALL.len()..].iter().all(|(_, by_certificate)| *by_certificate), "{asked:?}");
    renewing.abort();
}

#[tokio::test]
async fn new_authorities_are_trusted_if_the_known_ones_vouch_for_them_and_the_token_allows() {
    let cluster = Cluster::new();
    let server = Server::start(&cluster).await;
    let (short, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let follows = join(&options(&server, "right".parse().unwrap(), short.path(), "n1")).await.unwrap();
    let pinned = join(&options(&server, cluster.token(), whole.path(), "n2")).await.unwrap();
    let both = cluster.ca_pem() + &Cluster::stranger();
    cluster.state().served = Some(both.clone());
    let tasks = [follows.clone(), pinned.clone()].map(|identity| tokio::spawn(identity.keep_renewed()));
    until("the new ones are trusted", || follows.authorities().pem() == both.as_bytes()).await;
    let file = std::fs::read_to_string(short.path().join("agent/server-ca.crt")).unwrap();
    assert_eq!(file, both);
    assert_eq!(pinned.authorities().pem(), cluster.ca_pem().as_bytes(), "not those of the token");
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}
