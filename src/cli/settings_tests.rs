use std::io::Write;

use super::*;
use crate::cli::kine::KINE;

fn parse_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, UsageError> {
    let arguments = arguments.iter().map(|a| (*a).to_owned());
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    match Settings::parse(arguments, environment)? {
        Request::Run(settings) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

fn parse(arguments: &[&str]) -> Result<Settings, UsageError> {
    parse_with(arguments, &[])
}

#[test]
fn every_flag_is_read_in_every_spelling() {
    for flag in ETCD.flags.iter().filter(|flag| flag.name != "config-file") {
        let text = match flag.kind {
            Kind::Bool => "true",
            Kind::Int => "7",
            Kind::Duration => "7s",
            Kind::Choice(words) => words[words.len() - 1],
            Kind::Text | Kind::List | Kind::Strings => flag.default,
        };
        for spelling in std::iter::once(&flag.name).chain(flag.aliases) {
            let mut lines = vec![vec![format!("--{spelling}={text}")], vec![format!("-{spelling}={text}")]];
            if flag.kind != Kind::Bool {
                lines.push(vec![format!("--{spelling}"), text.to_owned()]);
                lines.push(vec![format!("-{spelling}"), text.to_owned()]);
            } else if text == "true" {
                lines.push(vec![format!("--{spelling}")]);
            }
            for line in lines {
                let line: Vec<&str> = line.iter().map(String::as_str).collect();
                assert_eq!(parse(&line).unwrap().text(flag.name), text, "{line:?}");
            }
            if !text.is_empty() {
                let variable = ETCD.env_name(spelling);
                let settings = parse_with(&[], &[(&variable, text)]).unwrap();
                assert_eq!(settings.text(flag.name), text, "{variable}");
            }
        }
    }
}

#[test]
fn without_arguments_everything_is_default() {
    let settings = parse(&[]).unwrap();
    assert_eq!(settings.text("name"), "default");
    assert_eq!(settings.int("max-txn-ops"), 128);
    assert_eq!(settings.duration("watch-progress-notify-interval"), Duration::from_secs(600));
    assert!(settings.bool("pre-vote") && !settings.given("pre-vote"));
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    let error = parse(&["--listen-client-url", "http://127.0.0.1:1"]).unwrap_err();
    assert_eq!(error.to_string(), "unknown flag --listen-client-url; did you mean --listen-client-urls?");
    let error = parse(&["--xyzzy-plugh"]).unwrap_err();
    assert_eq!(error.to_string(), "unknown flag --xyzzy-plugh");
}

#[test]
fn mistakes_are_told_apart() {
    assert_eq!(parse(&["start"]).unwrap_err(), UsageError::NotAFlag("start".into()));
    assert_eq!(parse(&["--name"]).unwrap_err(), UsageError::MissingValue("name".into()));
    for line in [["--max-txn-ops", "many"], ["--metrics", "all"], ["--corrupt-check-time", "5"]] {
        assert!(matches!(parse(&line), Err(UsageError::InvalidValue { .. })), "{line:?}");
    }
    // A boolean does not take the next argument, as with Go's flags.
    assert_eq!(parse(&["--pre-vote", "false"]).unwrap_err(), UsageError::NotAFlag("false".into()));
}

#[test]
fn the_last_of_two_equal_flags_counts() {
    assert_eq!(parse(&["--name", "a", "--name=b"]).unwrap().text("name"), "b");
}

#[test]
fn flags_win_over_the_environment() {
    let settings = parse_with(&["--name", "a"], &[("ETCD_NAME", "b"), ("ETCD_MAX_TXN_OPS", "9")]).unwrap();
    assert_eq!(settings.text("name"), "a");
    assert_eq!(settings.int("max-txn-ops"), 9);
    assert_eq!(settings.warnings, ["ETCD_NAME is ignored: --name is given"]);
}

#[test]
fn odd_variables_are_named_not_fatal() {
    let settings = parse_with(&[], &[("ETCD_NMAE", "b"), ("ETCD_NAME", ""), ("ETCDCTL_API", "3")]).unwrap();
    assert_eq!(settings.text("name"), "default");
    assert_eq!(settings.warnings, ["unrecognized environment variable ETCD_NMAE"]);
}

#[test]
fn a_flag_without_effect_is_named() {
    let settings = parse(&["--backend-batch-limit=5"]).unwrap();
    assert_eq!(
        settings.warnings,
        ["--backend-batch-limit has no effect: the state is kept in RocksDB, not in bbolt"]
    );
}

#[test]
fn help_and_version_end_the_parsing() {
    let ask = |argument: &str| Settings::parse([argument.to_owned()], []).unwrap();
    assert!(matches!(ask("--help"), Request::Help));
    assert!(matches!(ask("-h"), Request::Help));
    assert!(matches!(ask("--version"), Request::Version));
    assert!(matches!(ask("-version"), Request::Version));
}

#[test]
fn another_command_has_its_own_flags_and_variables() {
    let kine = |arguments: &[&str], environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Settings::parse_for(&KINE, arguments.iter().map(|a| (*a).to_owned()), environment)
    };
    let environment = [("KINE_ENDPOINT", "sqlite://x"), ("ETCD_NAME", "m"), ("KINE_NMAE", "x")];
    let Ok(Request::Run(settings)) = kine(&["--poll-batch-size=9"], &environment) else { panic!() };
    assert_eq!(settings.text("endpoint"), "sqlite://x");
    assert_eq!(settings.duration("watch-progress-notify-interval"), Duration::from_secs(5));
    assert!(settings.warnings[0].contains("KINE_NMAE"), "{:?}", settings.warnings);
    assert!(settings.warnings[1].contains("poll-batch-size"), "{:?}", settings.warnings);
    assert_eq!(settings.warnings.len(), 2);
    let error = kine(&["--listen-adress=x"], &[]).unwrap_err();
    assert_eq!(error.to_string(), "unknown flag --listen-adress; did you mean --listen-address?");
    assert!(kine(&["--data-dir=x"], &[]).is_err());
}

#[test]
fn a_file_rules_alone() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "name: m1\nheartbeat-interval: 50\npre-vote: false\nlog-outputs: [stderr, /tmp/x.log]\n\
         watch-progress-notify-interval: 5000000000\ngrpc-keepalive-interval: 1m\nnonsense: 1\n\
         client-transport-security:\n  cert-file: /c.pem\n  client-cert-auth: true\n\
         peer-transport-security:\n  cert-file: /p.pem\n"
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let settings =
        parse_with(&["--config-file", path, "--name", "ignored"], &[("ETCD_MAX_TXN_OPS", "9")]).unwrap();
    assert_eq!(settings.text("name"), "m1");
    assert_eq!(settings.int("heartbeat-interval"), 50);
    assert_eq!(settings.int("max-txn-ops"), 128);
    assert!(!settings.bool("pre-vote") && settings.bool("client-cert-auth"));
    assert_eq!(settings.list("log-outputs"), ["stderr", "/tmp/x.log"]);
    assert_eq!(settings.duration("watch-progress-notify-interval"), Duration::from_secs(5));
    assert_eq!(settings.duration("grpc-keepalive-interval"), Duration::from_secs(60));
    assert_eq!((settings.text("cert-file"), settings.text("peer-cert-file")), ("/c.pem", "/p.pem"));
    assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
    assert!(settings.warnings[2].contains("nonsense"), "{:?}", settings.warnings);
}

#[test]
fn a_broken_file_is_refused_with_its_name() {
    for content in ["name: [", "- a\n- b\n", "name: {a: {b: c}}\n", "max-txn-ops: lots\n"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let error = parse(&["--config-file", &path]).unwrap_err().to_string();
        assert!(error.contains(&path), "{content}: {error}");
    }
    assert!(matches!(parse(&["--config-file", "/does/not/exist"]), Err(UsageError::File { .. })));
}
