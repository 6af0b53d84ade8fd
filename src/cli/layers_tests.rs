use super::*;
use crate::cli::server::SERVER;

fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, UsageError> {
    let arguments = arguments.iter().map(|text| (*text).to_owned());
    let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    match Settings::parse_layers(&SERVER, arguments, environment)? {
        Request::Run(settings) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

/// A folder with a config file and what lies beside it.
fn folder(config: &str, drop_ins: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, config).unwrap();
    let beside = dir.path().join("config.yaml.d");
    std::fs::create_dir(&beside).unwrap();
    for (name, text) in drop_ins {
        std::fs::write(beside.join(name), text).unwrap();
    }
    let flag = format!("--config={}", path.display());
    (dir, flag)
}

#[test]
fn files_add_up_in_the_order_of_their_names() {
    let (_dir, config) = folder(
        "token: first\nnode-name: a\ntls-san: [one, two]\ndebug: true\netcd-arg:\n- a=1,2\n- b=3\n",
        &[
            ("20-b.yaml", "tls-san+: four\nnode-name: c\n"),
            ("10-a.yaml", "tls-san+:\n- three\nnode-name: b\netcd-arg: [c=4]\n"),
            ("30.txt", "node-name: d\n"),
        ],
    );
    let settings = parse(&[&config], &[]).unwrap();
    assert_eq!(settings.text("node-name"), "c");
    assert_eq!(settings.text("token"), "first");
    assert_eq!(settings.list("tls-san"), ["one", "two", "three", "four"]);
    assert_eq!(settings.strings("etcd-arg"), ["c=4"]);
    assert!(settings.bool("debug"));
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_files() {
    let (_dir, config) = folder("node-name: file\ntls-san: [file]\nserver: https://file:6443\n", &[]);
    let environment =
        [("SKIFF_NODE_NAME", "env"), ("SKIFF_URL", "https://env:6443"), ("SKIFF_BUILD_DIR", "x")];
    let settings =
        parse(&[&config, "--tls-san=a,b", "--tls-san", "c", "-s", "https://line:1"], &environment).unwrap();
    assert_eq!(settings.text("node-name"), "env");
    assert_eq!(settings.list("tls-san"), ["a", "b", "c"]);
    assert_eq!(settings.text("server"), "https://line:1");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn arguments_with_commas_stay_whole() {
    let settings = parse(&["--etcd-arg=a=1,2", "--etcd-arg", "b=3"], &[("SKIFF_CONFIG_FILE", "")]).unwrap();
    assert_eq!(settings.strings("etcd-arg"), ["a=1,2", "b=3"]);
}

#[test]
fn unknown_keys_warn_and_unknown_flags_do_not_pass() {
    let (_dir, config) = folder("no-such-thing: 1\n", &[]);
    let settings = parse(&[&config], &[]).unwrap();
    assert!(settings.warnings[0].contains("no-such-thing"), "{:?}", settings.warnings);
    let error = parse(&["--tls-sam=a"], &[]).unwrap_err().to_string();
    assert!(error.contains("did you mean --tls-san?"), "{error}");
}

#[test]
fn what_is_refused_is_named_with_the_reason() {
    let error = parse(&["--etcd-s3"], &[]).unwrap_err().to_string();
    assert!(error.contains("--etcd-s3 is refused") && error.contains("S3"), "{error}");
    // What it would be anyway is no promise.
    assert!(parse(&["--etcd-s3=false", "--etcd-s3-region=us-east-1"], &[]).is_ok());
    let settings = parse(&["--kubelet-arg=v=1"], &[]).unwrap();
    assert!(settings.warnings[0].contains("--kubelet-arg has no effect"), "{:?}", settings.warnings);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let (dir, config) = folder("- a list\n", &[]);
    assert!(parse(&[&config], &[]).unwrap_err().to_string().contains("config.yaml"));
    let missing = format!("--config={}", dir.path().join("none.yaml").display());
    assert!(parse(&[&missing], &[]).unwrap_err().to_string().contains("is not there"));
    let (_dir, config) = folder("https-listen-port: many\n", &[]);
    let error = parse(&[&config], &[]).unwrap_err().to_string();
    assert!(error.contains("key https-listen-port") && error.contains("not a whole number"), "{error}");
}
