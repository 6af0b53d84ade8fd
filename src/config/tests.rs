use super::*;
use crate::cli::Request;

fn config(arguments: &[&str]) -> Result<Config, String> {
    match Settings::parse(arguments.iter().map(|a| (*a).to_owned()), []) {
        Ok(Request::Run(settings)) => Config::from_settings(&settings),
        other => panic!("{other:?}"),
    }
}

fn texts(urls: &[Endpoint]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_those_of_etcd() {
    let config = config(&[]).unwrap();
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(texts(&config.listen.client), ["http://localhost:2379"]);
    assert_eq!(texts(&config.listen.peer), ["http://localhost:2380"]);
    assert_eq!(texts(&config.bootstrap.members["default"]), ["http://localhost:2380"]);
    assert_eq!((config.heartbeat.as_millis(), config.election.as_millis()), (100, 1000));
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert!(!config.bootstrap.existing && config.pre_vote && config.strict_reconfig);
}

#[test]
fn a_name_alone_makes_a_cluster_of_one() {
    let config = config(&["--name", "m1"]).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("m1.etcd"));
    assert_eq!(texts(&config.bootstrap.members["m1"]), ["http://localhost:2380"]);
}

#[test]
fn three_members_as_in_the_clustering_guide() {
    let config = config(&[
        "--name=m1",
        "--initial-advertise-peer-urls=http://127.0.0.1:12380",
        "--listen-peer-urls=http://127.0.0.1:12380",
        "--listen-client-urls=http://127.0.0.1:12379",
        "--advertise-client-urls=http://127.0.0.1:12379",
        "--initial-cluster=m1=http://127.0.0.1:12380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380",
        "--initial-cluster-token=tkn",
    ])
    .unwrap();
    assert_eq!(config.bootstrap.members.len(), 3);
    assert_eq!(config.bootstrap.token, "tkn");
}

#[test]
fn wrong_combinations_are_refused_with_the_flag_named() {
    let table: &[(&[&str], &str)] = &[
        (&["--listen-client-urls=http://127.0.0.1:1"], "--advertise-client-urls is required"),
        (
            &["--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://a:1"],
            "expected IP in URL for binding",
        ),
        (&["--listen-peer-urls=localhost:2380"], "--listen-peer-urls"),
        (&["--heartbeat-interval=300"], "at least as 5 times"),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0"),
        (&["--election-timeout=60000"], "too long"),
        (&["--initial-cluster=a=http://127.0.0.1:2380"], "couldn't find local name"),
        (&["--initial-cluster=default=http://127.0.0.1:2380"], "missing from --initial-advertise-peer-urls"),
        (
            &["--initial-advertise-peer-urls=http://127.0.0.1:9"],
            "--initial-cluster has default=http://localhost:2380",
        ),
        (&["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"], "duplicate url"),
        (&["--initial-cluster=nonsense"], "name=peer-url"),
        (
            &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
            "TLS key/cert must be provided",
        ),
        (
            &["--auto-compaction-mode=revision", "--auto-compaction-retention=1h"],
            "--auto-compaction-retention",
        ),
        (&["--auto-compaction-retention=soon"], "--auto-compaction-retention"),
        (&["--max-txn-ops=0"], "--max-txn-ops"),
        (
            &["--listen-client-http-urls=http://localhost:2379"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url",
        ),
        (&["--max-concurrent-streams=-1"], "--max-concurrent-streams"),
        (&["--feature-gates=Nope=true"], "unrecognized feature gate"),
        (&["--log-outputs=default,stdout"], "multi logoutput for \"default\""),
        (&["--log-outputs=systemd/journal,stdout"], "running with systemd/journal"),
        (&["--enable-log-rotation"], "--log-outputs requires a single file path"),
        (&["--enable-log-rotation", "--log-outputs=stdout,stderr"], "requires a single file path"),
        (&["--enable-log-rotation", "--log-outputs=/a,/b"], "requires a single file path"),
        (
            &["--enable-log-rotation", "--log-outputs=/a", "--log-rotation-config-json={"],
            "improperly formatted log rotation config",
        ),
        (
            &["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=2000000"],
            "tracing sampling rate must be less than 1000000",
        ),
        (
            &[
                "--experimental-enable-distributed-tracing",
                "--experimental-distributed-tracing-sampling-rate=-1",
            ],
            "tracing sampling rate must be positive",
        ),
        (&["--cert-file=/c.pem"], "--key-file"),
        (&["--client-cert-auth"], "--trusted-ca-file"),
        (&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "--tls-m"),
        (&["--cipher-suites=TLS_NOPE"], "TLS_NOPE"),
        (&["--auth-token=magic"], "\"magic\" is no kind of token"),
        (&["--auth-token=jwt"], "sign-method is missing"),
        (&["--auth-token=jwt,sign-method"], "option=value"),
        (&["--auth-token=jwt,sign-method=RS256,sign-method=HS256"], "given twice"),
        (&["--auth-token=jwt,sign-method=RS256,ttl=soon"], "ttl: not a duration"),
        (&["--auth-token-ttl=-1"], "--auth-token-ttl"),
    ];
    for (arguments, want) in table {
        let error = config(arguments).expect_err(&format!("{arguments:?}"));
        assert!(error.contains(want), "{arguments:?}: {error}");
    }
}

#[test]
fn retention_is_hours_or_a_duration_or_revisions() {
    let retention = |mode: &str, text: &str| {
        config(&[&format!("--auto-compaction-mode={mode}"), &format!("--auto-compaction-retention={text}")])
            .unwrap()
            .auto_compaction
    };
    assert_eq!(retention("periodic", "2"), AutoCompaction::Periodic(Duration::from_secs(7200)));
    assert_eq!(retention("periodic", "5m"), AutoCompaction::Periodic(Duration::from_secs(300)));
    assert_eq!(retention("revision", "1000"), AutoCompaction::Revision(1000));
    assert_eq!(retention("revision", "0"), AutoCompaction::Off);
}

#[test]
fn peers_are_connected_to_from_the_address_that_is_advertised() {
    let with = |flags: &[&str], urls: &str| {
        let members = urls.split(',').map(|url| format!("default={url}")).collect::<Vec<_>>().join(",");
        let given = [format!("--initial-advertise-peer-urls={urls}"), format!("--initial-cluster={members}")];
        let all: Vec<&str> = flags.iter().copied().chain(given.iter().map(String::as_str)).collect();
        config(&all).map(|config| config.local_address)
    };
    let urls = "http://name:1,http://127.0.0.1:1,http://0.0.0.0:1,http://192.0.2.1:1,http://192.0.2.2:1";
    assert_eq!(with(&[], urls), Ok(None));
    for flag in [
        "--set-member-localaddr",
        "--experimental-set-member-localaddr",
        "--feature-gates=SetMemberLocalAddr=true",
    ] {
        assert_eq!(with(&[flag], urls), Ok(Some("192.0.2.1".parse().unwrap())), "{flag}");
    }
    let error = with(&["--set-member-localaddr"], "http://localhost:1,http://127.0.0.1:2").unwrap_err();
    assert!(error.contains("unable to set member local address"), "{error}");
}

#[test]
fn gates_without_effect_are_named() {
    let config = config(&["--feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=1"]).unwrap();
    let about = |gate: &str| config.warnings.iter().any(|warning| warning.contains(gate));
    assert!(!about("InitialCorruptCheck") && about("LeaseCheckpoint"), "{:?}", config.warnings);
    assert!(config.corruption_checks.initial && !config.corruption_checks.at_compactions);
}

#[test]
fn checks_of_hashes_have_gates_and_older_flags() {
    let checks = |arguments: &[&str]| {
        let checks = config(arguments).unwrap().corruption_checks;
        (
            checks.initial,
            checks.at_compactions,
            checks.interval.as_secs(),
            checks.compaction_interval.as_secs(),
        )
    };
    assert_eq!(checks(&[]), (false, false, 0, 60));
    assert_eq!(checks(&["--feature-gates=AllAlpha=true"]), (true, true, 0, 60));
    assert_eq!(checks(&["--feature-gates=AllAlpha=true,CompactHashCheck=false"]), (true, false, 0, 60));
    let old = ["--experimental-initial-corrupt-check", "--experimental-compact-hash-check-enabled=true"];
    assert_eq!(checks(&old), (true, true, 0, 60));
    let times = ["--experimental-corrupt-check-time=5m", "--compact-hash-check-time=2s"];
    assert_eq!(checks(&times), (false, false, 300, 2));
    let both = ["--experimental-initial-corrupt-check", "--feature-gates=InitialCorruptCheck=true"];
    assert!(config(&both).unwrap_err().contains("cannot specify both flags"));
    assert!(config(&["--compact-hash-check-time=0s"]).unwrap_err().contains("must be >0"));
}
