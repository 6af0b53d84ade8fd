//! Endpoints as users write them, and ones that nobody should.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(text, TlsFiles::default())
}

fn postgres(text: &str) -> PostgresEndpoint {
    match parse(text) {
        Ok(Endpoint::Postgres(endpoint)) => endpoint,
        other => panic!("{text}: {other:?}"),
    }
}

fn mysql(text: &str) -> MysqlEndpoint {
    match parse(text) {
        Ok(Endpoint::Mysql(endpoint)) => endpoint,
        other => panic!("{text}: {other:?}"),
    }
}

fn sqlite(text: &str) -> SqliteEndpoint {
    match parse(text) {
        Ok(Endpoint::Sqlite(endpoint)) => endpoint,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn nothing_is_the_sqlite_file_of_kine() {
    for text in ["", "sqlite://"] {
        let endpoint = sqlite(text);
        assert_eq!(endpoint.path, Path::new("./db/state.db"));
        assert_eq!(endpoint.busy_timeout, Duration::from_secs(30));
        assert_eq!(endpoint.synchronous, Synchronous::Full);
    }
}

#[test]
fn sqlite_takes_a_path_and_parameters() {
    let endpoint = sqlite(
        "sqlite:///var/lib/s.db?_journal=WAL&cache=shared&_busy_timeout=500&_txlock=immediate&_synchronous=NORMAL",
    );
    assert_eq!(endpoint.path, Path::new("/var/lib/s.db"));
    assert_eq!(endpoint.busy_timeout, Duration::from_millis(500));
    assert_eq!(endpoint.synchronous, Synchronous::Normal);
    assert_eq!(sqlite("sqlite://file:x.db").path, Path::new("x.db"));
    for wrong in
        ["sqlite://:memory:", "sqlite://x?_journal=DELETE", "sqlite://x?_busy_timeout=1s", "sqlite://x?y=1"]
    {
        parse(wrong).expect_err(wrong);
    }
}

#[test]
fn postgres_has_kines_defaults() {
    for text in ["postgres://", "postgresql://"] {
        let endpoint = postgres(text);
        assert_eq!(endpoint.hosts, [PostgresHost { host: "localhost".into(), port: 5432 }]);
        assert_eq!(endpoint.user, "postgres");
        assert_eq!(endpoint.password, Some(Secret::new("postgres")));
        assert_eq!(endpoint.database, "kubernetes");
        assert_eq!(endpoint.ssl_mode, PostgresTls::Allow);
        assert_eq!(endpoint.prepared_statements, None);
    }
}

#[test]
fn postgres_takes_urls() {
    let endpoint = postgres(
        "postgres://us%40er:p%3A%2F%40w@[::1]:6000,db2/KuBe?sslmode=require&connect_timeout=3\
         &application_name=a+b&search_path=x&prepared_statements=false",
    );
    assert_eq!(endpoint.user, "us@er");
    assert_eq!(endpoint.password, Some(Secret::new("p:/@w")));
    let host = |host: &str, port| PostgresHost { host: host.into(), port };
    assert_eq!(endpoint.hosts, [host("::1", 6000), host("db2", 5432)]);
    assert_eq!(endpoint.database, "kube");
    assert_eq!(endpoint.ssl_mode, PostgresTls::Require);
    assert_eq!(endpoint.connect_timeout, Duration::from_secs(3));
    assert_eq!(endpoint.application_name, "a b");
    assert_eq!(endpoint.settings, [("search_path".to_owned(), "x".to_owned())]);
    assert_eq!(endpoint.prepared_statements, Some(false));
    let socket = postgres("postgres:///db?host=/run/postgresql&user=me");
    assert_eq!(socket.hosts, [host("/run/postgresql", 5432)]);
    assert_eq!((socket.user.as_str(), socket.password), ("me", None));
    for wrong in [
        "postgres://h:0/",
        "postgres://h:x/",
        "postgres://::1/",
        "postgres://[::1/",
        "postgres://[::1]5/",
        "postgres://h/a/b",
        "postgres://h/?sslmode=maybe",
        "postgres://h/?connect_timeout=x",
        "postgres://%zz@h/",
    ] {
        parse(wrong).expect_err(wrong);
    }
}

#[test]
fn postgres_takes_several_hosts() {
    let host = |host: &str, port| PostgresHost { host: host.into(), port };
    let cases = [
        ("postgres://a:1,b:2,[::1]:3/db", vec![host("a", 1), host("b", 2), host("::1", 3)]),
        ("postgres://a,b:2/", vec![host("a", 5432), host("b", 2)]),
        ("postgres:///db?host=a,b&port=1,2", vec![host("a", 1), host("b", 2)]),
        ("postgres:///db?port=1,2&host=a,b", vec![host("a", 1), host("b", 2)]),
        ("postgres:///db?host=a,::1,/run/x&port=7", vec![host("a", 7), host("::1", 7), host("/run/x", 7)]),
        ("postgres:///db?host=a,b:3", vec![host("a", 5432), host("b", 3)]),
        ("postgres://x,y/db?port=,8", vec![host("x", 5432), host("y", 8)]),
    ];
    for (text, hosts) in cases {
        assert_eq!(postgres(text).hosts, hosts, "{text}");
    }
    for (text, target) in [
        ("postgres://a,b/", PostgresTarget::ReadWrite),
        ("postgres://a,b/?target_session_attrs=read-write", PostgresTarget::ReadWrite),
        ("postgres://a,b/?target_session_attrs=primary", PostgresTarget::Primary),
        ("postgres://a,b/?target_session_attrs=any", PostgresTarget::Primary),
    ] {
        assert_eq!(postgres(text).target, target, "{text}");
    }
    for wrong in [
        "postgres://a,b/?target_session_attrs=standby",
        "postgres://a,b/?target_session_attrs=prefer-standby",
        "postgres://a,b/?target_session_attrs=read-only",
        "postgres://a,b/?target_session_attrs=maybe",
        "postgres://a,b/?port=1,2,3",
        "postgres://a,b/?port=1,x",
        &format!("postgres://{}/", vec!["a"; 17].join(",")),
    ] {
        parse(wrong).expect_err(wrong);
    }
}

#[test]
fn files_for_tls_turn_verification_on() {
    let with = |text: &str, tls: TlsFiles| match Endpoint::parse(text, tls) {
        Ok(Endpoint::Postgres(endpoint)) => endpoint.ssl_mode,
        other => panic!("{other:?}"),
    };
    let ca = TlsFiles { ca_file: Some("ca".into()), ..TlsFiles::default() };
    let blind = TlsFiles { skip_verify: true, ..ca.clone() };
    assert_eq!(with("postgres://h/", ca.clone()), PostgresTls::VerifyFull);
    assert_eq!(with("postgres://h/?sslmode=require", ca.clone()), PostgresTls::VerifyCa);
    assert_eq!(with("postgres://h/?sslmode=disable", blind.clone()), PostgresTls::Disable);
    assert_eq!(with("postgres://h/", blind.clone()), PostgresTls::Require);
    let file = postgres("postgres://h/?sslrootcert=/ca.pem");
    assert_eq!((file.tls.ca_file, file.ssl_mode), (Some(PathBuf::from("/ca.pem")), PostgresTls::VerifyFull));
    let with = |text: &str, tls: TlsFiles| match Endpoint::parse(text, tls) {
        Ok(Endpoint::Mysql(endpoint)) => endpoint.tls_mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(with("mysql://@tcp(h)/", ca.clone()), MysqlTls::Verified);
    assert_eq!(with("mysql://@tcp(h)/", blind.clone()), MysqlTls::Required);
    assert_eq!(with("mysql://@tcp(h)/?tls=false", blind), MysqlTls::Disabled);
    // On one machine nothing is encrypted that need not be.
    let none = TlsFiles::default;
    for (host, mode) in
        [("127.0.0.1", MysqlTls::Allowed), ("[::1]", MysqlTls::Allowed), ("h", MysqlTls::Preferred)]
    {
        assert_eq!(with(&format!("mysql://u@tcp({host}:1)/d"), none()), mode, "{host}");
    }
    assert_eq!(with("mysql://@tcp(127.0.0.1)/", ca.clone()), MysqlTls::Verified);
    for (hosts, mode) in
        [("h", PostgresTls::Prefer), ("localhost,h", PostgresTls::Prefer), ("127.1.2.3", PostgresTls::Allow)]
    {
        assert_eq!(postgres(&format!("postgres://{hosts}/d")).ssl_mode, mode, "{hosts}");
    }
    let key_alone = TlsFiles { key_file: Some("k".into()), ..TlsFiles::default() };
    Endpoint::parse("postgres://", key_alone).expect_err("a key without a certificate");
}

#[test]
fn mysql_takes_the_dsn_of_gos_driver() {
    let tcp = |host: &str, port| MysqlAddress::Tcp(host.into(), port);
    let unix = |path: &str| MysqlAddress::Unix(path.into());
    let cases = [
        ("mysql://", unix("/var/run/mysqld/mysqld.sock"), "root", None, "kubernetes"),
        ("mysql://u:p@tcp(h:3307)/db", tcp("h", 3307), "u", Some("p"), "db"),
        ("mysql://u:p@tcp(h)/", tcp("h", 3306), "u", Some("p"), "kubernetes"),
        ("mysql://u@unix(/tmp/my.sock)/db", unix("/tmp/my.sock"), "u", None, "db"),
        ("mysql://u:p@tcp([2001:db8::1]:33)/db", tcp("2001:db8::1", 33), "u", Some("p"), "db"),
        ("mysql://u:p@tcp/db", tcp("127.0.0.1", 3306), "u", Some("p"), "db"),
        ("mysql:///db", tcp("127.0.0.1", 3306), "root", None, "db"),
        ("mysql://u:p@/db", tcp("127.0.0.1", 3306), "u", Some("p"), "db"),
        ("mysql://u:p@s/w:?@tcp(h:1)/db", tcp("h", 1), "u", Some("p@s/w:?"), "db"),
        ("mysql://u:p@tcp(h:1)/d%2Fb?parseTime=true", tcp("h", 1), "u", Some("p"), "d/b"),
        ("mariadb://u@tcp(h)/db?loc=Europe/Berlin", tcp("h", 3306), "u", None, "db"),
    ];
    for (text, address, user, password, database) in cases {
        let endpoint = mysql(text);
        assert_eq!(endpoint.address, address, "{text}");
        assert_eq!(endpoint.user, user, "{text}");
        assert_eq!(endpoint.password, password.map(Secret::new), "{text}");
        assert_eq!(endpoint.database, database, "{text}");
    }
    let endpoint = mysql("mysql://u@tcp(h)/?tls=skip-verify&timeout=1m500ms&max_statement_time=5&tx='A-B'");
    assert_eq!(endpoint.tls_mode, MysqlTls::Required);
    assert_eq!(endpoint.connect_timeout, Duration::from_millis(60_500));
    let variables = [("max_statement_time", "5"), ("tx", "'A-B'")];
    assert_eq!(endpoint.variables, variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for wrong in [
        "mysql://u:p@tcp(h)",
        "mysql://u:p@h:3306/db",
        "mysql://u:p@tcp(h/db",
        "mysql://u@tcp(::1)/db",
        "mysql://u@tcp(h:70000)/db",
        "mysql://u@tcp(h)/?tls=maybe",
        "mysql://u@tcp(h)/?timeout=5",
        "mysql://u@tcp(h)/?a=1;DROP",
        "mysql://u@tcp(h)/?a='b'c'",
    ] {
        parse(wrong).expect_err(wrong);
    }
}

#[test]
fn an_external_etcd_is_a_list() {
    let list = |text: &str| match parse(text) {
        Ok(Endpoint::Etcd(endpoint)) => endpoint.addresses,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(list("https://a:2379,b:2379/,http://c:1"), ["https://a:2379", "https://b:2379", "http://c:1"]);
    assert_eq!(list("unix:///run/etcd.sock"), ["unix:///run/etcd.sock"]);
    assert_eq!(list("unixs://kine.sock"), ["unixs://kine.sock"]);
    for wrong in ["http://", "http://a,,b", "http://a,ftp://b", "http://me:hunter2@a"] {
        let error = parse(wrong).expect_err(wrong);
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, named) in [("nats://x", "nats"), ("localhost:5432", "no scheme"), ("redis://x", "unknown")] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn no_password_is_printed() {
    for text in
        ["postgres://u:hunter2@h/db", "postgres://u@h/db?password=hunter2", "mysql://u:hunter2@tcp(h)/db"]
    {
        let endpoint = parse(text).expect("a good endpoint");
        assert!(!format!("{endpoint} {endpoint:?}").contains("hunter2"), "{endpoint}");
    }
    for wrong in [
        "u:hunter2@tcp(h)/db",
        "postgrs://u:hunter2@h/",
        "postgres://u:hunter2%@h/",
        "postgres://u:hunter2@h:port/",
        "postgres://u:hunter2@h/?sslmode=hunter2",
        "postgres://u:x/hunter2@h/db/",
        "mysql://u:hunter2@h/db",
        "mysql://u:hunter2",
        "mysql://u:hunter2@tcp(h)/?a=hunter2;",
    ] {
        let error = parse(wrong).expect_err(wrong);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_tail_is_parsed_or_refused(
        scheme in "(sqlite|postgres|mysql|http|unix)",
        tail in "[a-z0-9:/?&=@()%\\[\\],.'é ]{0,60}",
    ) {
        let _ = parse(&format!("{scheme}://{tail}"));
    }

    /// Display is an endpoint again, the same but for the password and the
    /// parameters.
    #[test]
    fn what_is_shown_parses_again(
        user in "[a-z]{1,8}",
        password in "[a-z@:/()]{0,8}",
        host in "[a-z]{1,8}|\\[::[1-9]\\]",
        port in 1..u16::MAX,
        database in "[a-z]{1,8}",
    ) {
        let endpoint = parse(&format!("mysql://{user}:{password}@tcp({host}:{port})/{database}"))
            .expect("a good endpoint");
        let Endpoint::Mysql(mut endpoint) = endpoint else { panic!("not MySQL") };
        prop_assert_eq!(endpoint.password.take(), Some(Secret::new(password)));
        let again = parse(&Endpoint::Mysql(endpoint.clone()).to_string()).expect("a good endpoint");
        prop_assert_eq!(again, Endpoint::Mysql(endpoint));
    }
}
