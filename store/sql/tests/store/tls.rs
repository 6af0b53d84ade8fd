//! Databases that take encrypted connections only: whom we believe, who we are,
//! and what is said where either fails.

use std::sync::Arc;

use skiff_sql::db::{self, Database, DbError, DbErrorKind, PoolOptions};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::clock::SystemClock;
use skiff_store::conformance::support::*;

use crate::support::certificates::Certificates;
use crate::support::{Disk, MariadbServer, MysqlServer, PostgresServer, give};

/// What the flags say.
#[derive(Clone, Copy)]
enum Files {
    None,
    /// `--ca-file`.
    Ca(&'static str),
    /// `--ca-file`, `--cert-file` and `--key-file`.
    Client(&'static str),
    /// `--skip-verify`, beside an authority that is the wrong one.
    Blind,
}

impl Files {
    fn read(self, certificates: &Certificates) -> TlsFiles {
        let ca_file = |name: &str| Some(certificates.file(&format!("{name}.pem")));
        match self {
            Self::None => TlsFiles::default(),
            Self::Ca(name) => TlsFiles { ca_file: ca_file(name), ..TlsFiles::default() },
            Self::Client(name) => TlsFiles {
                ca_file: ca_file("ca"),
                cert_file: ca_file(name),
                key_file: Some(certificates.file(&format!("{name}.key"))),
                skip_verify: false,
            },
            Self::Blind => TlsFiles { ca_file: ca_file("other"), skip_verify: true, ..TlsFiles::default() },
        }
    }
}

async fn connect(endpoint: &str, tls: TlsFiles) -> Result<Arc<dyn Database>, DbError> {
    let endpoint = Endpoint::parse(endpoint, tls).expect("an endpoint");
    db::connect(&endpoint, &PoolOptions::default()).await
}

/// Each is an endpoint, the files, and a part of the error where one is due.
async fn check(certificates: &Certificates, cases: &[(String, Files, Option<&str>)]) {
    for (endpoint, files, expected) in cases {
        let shown = endpoint.rsplit_once('@').expect("a user").1;
        match (connect(endpoint, files.read(certificates)).await, expected) {
            (Ok(db), None) => db.close().await,
            (Err(error), Some(part)) => {
                let text = error.to_string();
                assert!(text.contains(part), "{shown}: {text}");
                // It does not become right by waiting: a start ends.
                assert_eq!(error.kind(), DbErrorKind::Denied, "{shown}: {text}");
                assert!(!text.contains("secret"), "{text}");
            }
            (Ok(_), Some(part)) => panic!("{shown}: taken, not refused with {part}"),
            (Err(error), None) => panic!("{shown}: {error}"),
        }
    }
}

/// The whole store, with a certificate of its own.
async fn serves(certificates: &Certificates, endpoint: &str) {
    let db = connect(endpoint, Files::Client("app").read(certificates)).await.expect("a database");
    let store =
        SqlStore::open(db, SqlConfig::default(), Arc::new(SystemClock::default())).await.expect("a store");
    put(&*store, "a", "1").await;
    assert_eq!(text(&get(&*store, "a").await.unwrap().value), "1");
    store.stop().await;
}

async fn administer(db: &dyn Database, statements: &[&str]) {
    let mut session = db.session().await.unwrap();
    for sql in statements {
        session.execute(sql, &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let certificates = Certificates::new("postgres");
    let hba = "hostssl all app 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(certificates.file("hba"), hba).unwrap();
    give(&certificates.file("hba"), "postgres");
    let settings = [
        "ssl=on".to_owned(),
        certificates.setting("ssl_cert_file", "server.pem"),
        certificates.setting("ssl_key_file", "server.key"),
        certificates.setting("ssl_ca_file", "ca.pem"),
        certificates.setting("hba_file", "hba"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = tokio::task::block_in_place(|| PostgresServer::start_with(Disk::Relaxed, &settings));
    let at = |user: &str, host: &str, parameters: &str| {
        format!("postgres://{user}@{host}:{}/postgres?{parameters}", server.port)
    };
    let admin = "postgres:postgres";
    let db = connect(&at(admin, "127.0.0.1", "sslmode=require"), TlsFiles::default()).await.unwrap();
    administer(db.as_ref(), &["CREATE ROLE app LOGIN CREATEDB", "CREATE DATABASE app OWNER app"]).await;
    db.close().await;
    let wrong = "postgres:secret";
    check(
        &certificates,
        &[
            (at(wrong, "127.0.0.1", "sslmode=disable"), Files::None, Some("no encryption")),
            (at(admin, "127.0.0.1", "sslmode=allow"), Files::None, None),
            (at(admin, "127.0.0.1", ""), Files::None, None),
            (at(admin, "127.0.0.1", "sslmode=require"), Files::None, None),
            (at(admin, "127.0.0.1", ""), Files::Ca("ca"), None),
            (at(admin, "127.0.0.1", ""), Files::Blind, None),
            (at(wrong, "127.0.0.1", ""), Files::Ca("ca"), Some("password authentication failed")),
            (at(wrong, "127.0.0.1", "sslmode=verify-full"), Files::None, Some("UnknownIssuer")),
            (at(wrong, "127.0.0.1", ""), Files::Ca("other"), Some("UnknownIssuer")),
            (at(wrong, "127.0.0.1", "sslmode=require"), Files::Ca("other"), Some("UnknownIssuer")),
            (at(wrong, "localhost", ""), Files::Ca("ca"), Some("not valid for name")),
            (at(admin, "localhost", "sslmode=verify-ca"), Files::Ca("ca"), None),
            (at("app", "127.0.0.1", ""), Files::Client("app"), None),
            (at("app", "127.0.0.1", ""), Files::Ca("ca"), Some("certificate")),
            (at("app", "127.0.0.1", ""), Files::Client("stranger"), Some("UnknownCA")),
        ],
    )
    .await;
    serves(&certificates, &format!("postgres://app@127.0.0.1:{}/app", server.port)).await;
}

/// MySQL and MariaDB, by the arguments that both take.
fn arguments(certificates: &Certificates) -> Vec<String> {
    vec![
        "--require-secure-transport=ON".to_owned(),
        certificates.setting("--ssl-cert", "server.pem"),
        certificates.setting("--ssl-key", "server.key"),
        certificates.setting("--ssl-ca", "ca.pem"),
    ]
}

async fn mysql_alike(certificates: &Certificates, port: u16, insecure: &str) {
    let at = |user: &str, host: &str, parameters: &str| {
        format!("mysql://{user}@tcp({host}:{port})/app?{parameters}")
    };
    let admin = "skiff:skiff";
    let db = connect(&at(admin, "127.0.0.1", ""), TlsFiles::default()).await.expect("a database");
    let user = ["CREATE USER app@'%' IDENTIFIED BY 'app' REQUIRE X509", "GRANT ALL ON *.* TO app@'%'"];
    administer(db.as_ref(), &user).await;
    db.close().await;
    let wrong = "skiff:secret";
    check(
        certificates,
        &[
            (at(admin, "127.0.0.1", "tls=false"), Files::None, Some(insecure)),
            (at(admin, "127.0.0.1", "tls=preferred"), Files::None, None),
            (at(admin, "127.0.0.1", "tls=skip-verify"), Files::None, None),
            (at(admin, "127.0.0.1", ""), Files::Ca("ca"), None),
            (at(admin, "127.0.0.1", "tls=true"), Files::Ca("ca"), None),
            (at(admin, "127.0.0.1", ""), Files::Blind, None),
            (at(wrong, "127.0.0.1", ""), Files::Ca("ca"), Some("Access denied")),
            (at(wrong, "127.0.0.1", "tls=true"), Files::None, Some("UnknownIssuer")),
            (at(wrong, "127.0.0.1", ""), Files::Ca("other"), Some("UnknownIssuer")),
            (at(wrong, "localhost", ""), Files::Ca("ca"), Some("not valid for name")),
            (at("app:app", "127.0.0.1", ""), Files::Client("app"), None),
            (at("app:app", "127.0.0.1", ""), Files::Ca("ca"), Some("Access denied")),
            (at("app:app", "127.0.0.1", ""), Files::Client("stranger"), Some("UnknownCA")),
        ],
    )
    .await;
    serves(certificates, &at("app:app", "127.0.0.1", "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    let certificates = Certificates::new("root");
    let arguments = arguments(&certificates);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = tokio::task::block_in_place(|| MariadbServer::start_with(Disk::Relaxed, &arguments));
    // It does not say why.
    mysql_alike(&certificates, server.port, "Access denied").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    let certificates = Certificates::new("root");
    let arguments = arguments(&certificates);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = tokio::task::block_in_place(|| MysqlServer::start_with(Disk::Relaxed, &arguments));
    let Some(server) = server else { return };
    mysql_alike(&certificates, server.port, "insecure transport").await;
}
