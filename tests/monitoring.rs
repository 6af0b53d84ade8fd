//! Dashboards and alerts: what they ask for is what members export.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_test_support::pb::etcdserverpb::{PutRequest, RangeRequest};
use skiff_test_support::tools::build_dir;
use skiff_test_support::{Cluster, ClusterOptions, Fault, Program, Scratch};

/// What etcd's well-known dashboards ask for (its own, and number 3070 of Grafana's collection), with
/// the labels they select or group by. Not yet here: `etcd_disk_backend_commit_duration_seconds_bucket`
/// and the older name `etcd_debugging_mvcc_db_total_size_in_bytes`.
const WELL_KNOWN: &[(&str, &[&str])] = &[
    ("etcd_server_has_leader", &[]),
    ("etcd_server_leader_changes_seen_total", &[]),
    ("etcd_server_proposals_failed_total", &[]),
    ("etcd_server_proposals_pending", &[]),
    ("etcd_server_proposals_committed_total", &[]),
    ("etcd_server_proposals_applied_total", &[]),
    ("etcd_server_quota_backend_bytes", &[]),
    ("grpc_server_started_total", &["grpc_type", "grpc_service"]),
    ("grpc_server_handled_total", &["grpc_type", "grpc_service", "grpc_code", "grpc_method"]),
    ("grpc_server_handling_seconds_bucket", &["grpc_type", "grpc_method", "le"]),
    ("etcd_mvcc_db_total_size_in_bytes", &[]),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", &[]),
    ("etcd_disk_wal_fsync_duration_seconds_bucket", &["le"]),
    ("etcd_network_client_grpc_received_bytes_total", &[]),
    ("etcd_network_client_grpc_sent_bytes_total", &[]),
    ("etcd_network_peer_received_bytes_total", &["From"]),
    ("etcd_network_peer_sent_bytes_total", &["To"]),
    ("etcd_network_peer_round_trip_time_seconds_bucket", &["To", "le"]),
    ("process_resident_memory_bytes", &[]),
];

/// Labels that Prometheus adds to what it scrapes.
const OF_THE_TARGET: &[&str] = &["job", "instance"];

/// The names of all samples that members export, with the labels each has.
type Exported = BTreeMap<String, BTreeSet<String>>;

async fn cluster(dir: &Path) -> (Cluster, Exported) {
    let options =
        ClusterOptions::three(Program::subject(env!("CARGO_BIN_EXE_skiff"))).flag("--metrics=extensive");
    let cluster = Cluster::start(options, dir).await.expect("a cluster");
    for member in &cluster.members {
        let put = PutRequest { key: "a".into(), value: "b".into(), ..Default::default() };
        member.client().put(put).await.expect("a write");
        member.client().range(RangeRequest { key: "a".into(), ..Default::default() }).await.expect("a read");
    }
    let mut exported = Exported::new();
    // Round trips are measured from time to time; only a leader has some of the rest.
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline
        && !exported.contains_key("etcd_network_peer_round_trip_time_seconds_bucket")
    {
        for member in &cluster.members {
            collect(&metrics(&member.address()).expect("metrics"), &mut exported);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (cluster, exported)
}

/// The page of metrics at an address.
fn metrics(address: &str) -> Result<String, Fault> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let (head, body) = page.split_once("\r\n\r\n").ok_or("no body")?;
    if head.lines().next().is_none_or(|line| !line.contains(" 200 ")) {
        return Err(head.to_owned().into());
    }
    Ok(body.to_owned())
}

fn collect(page: &str, exported: &mut Exported) {
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name: String =
            line.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
        let labels =
            line[name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(l, _)| l);
        exported.entry(name).or_default().extend(names_of_labels(labels));
    }
}

/// The names in `a="x",b=~"y,z"`.
fn names_of_labels(labels: &str) -> Vec<String> {
    // Outside of the quotes stand the names and their operators.
    let outside = labels.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let names = outside.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What an expression asks for: metrics with the labels it selects by, and the labels it groups by.
fn asked(expression: &str) -> (BTreeMap<String, BTreeSet<String>>, BTreeSet<String>) {
    let (mut metrics, mut groups) = (BTreeMap::<String, BTreeSet<String>>::new(), BTreeSet::new());
    let mut rest = expression;
    while !rest.is_empty() {
        let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if word.is_empty() {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            rest = &rest[next..];
            continue;
        }
        rest = rest[word.len()..].trim_start();
        if ["etcd_", "grpc_", "process_", "skiff_"].iter().any(|prefix| word.starts_with(prefix)) {
            let labels = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            metrics
                .entry(word)
                .or_default()
                .extend(labels.iter().flat_map(|(labels, _)| names_of_labels(labels)));
            rest = labels.map_or(rest, |(_, behind)| behind);
        } else if let ("by" | "without" | "on", Some((labels, behind))) =
            (word.as_str(), rest.strip_prefix('(').and_then(|inner| inner.split_once(')')))
        {
            groups.extend(names_of_labels(labels));
            rest = behind;
        }
    }
    (metrics, groups)
}

fn check(expression: &str, exported: &Exported) {
    let (metrics, groups) = asked(expression);
    let mut known: BTreeSet<&str> = OF_THE_TARGET.iter().copied().collect();
    for (metric, labels) in &metrics {
        let there = exported.get(metric).unwrap_or_else(|| panic!("{metric} is not exported: {expression}"));
        for label in labels.iter().filter(|label| !OF_THE_TARGET.contains(&label.as_str())) {
            assert!(there.contains(label), "{metric} has no label {label}: {expression}");
        }
        known.extend(there.iter().map(String::as_str));
    }
    for label in &groups {
        assert!(known.contains(label.as_str()), "nothing has the label {label}: {expression}");
    }
}

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join("monitoring")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(monitoring().join(name)).expect("a file of ours")
}

/// The expressions of the dashboard, those behind its variables too.
fn of_the_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let of_variables = variables.filter_map(|variable| variable["query"]["query"].as_str());
    let of_panels = targets.map(|target| target["expr"].as_str().expect("an expression"));
    of_panels.chain(of_variables).map(str::to_owned).collect()
}

/// The expressions of the rules: what stands behind `expr:`, up to the next key.
fn of_the_rules() -> Vec<String> {
    let text = read("rules.yaml");
    let parts = text.split("        expr: ").skip(1);
    parts.map(|part| part.split("        for: ").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dashboards_and_alerts_ask_for_is_exported() {
    let scratch = Scratch::new("monitoring");
    let (cluster, exported) = cluster(scratch.path()).await;
    for (metric, labels) in WELL_KNOWN {
        let there = exported.get(*metric).unwrap_or_else(|| panic!("{metric} is not exported"));
        for label in *labels {
            assert!(there.contains(*label), "{metric} has no label {label}");
        }
    }
    // Some are of this project alone.
    if !Program::subject(env!("CARGO_BIN_EXE_skiff")).is_etcd() {
        let (dashboard, rules) = (of_the_dashboard(), of_the_rules());
        assert!(dashboard.len() > 25 && rules.len() > 12, "{} and {}", dashboard.len(), rules.len());
        for expression in dashboard.iter().chain(&rules) {
            check(expression, &exported);
        }
    }
    drop(cluster);
}

#[test]
fn what_an_expression_asks_for_is_understood() {
    let (metrics, groups) =
        asked("sum by (To, le) (rate(etcd_a_bucket{job=~\"x,y\", To!=\"\"}[5m])) / etcd_b > 1");
    assert_eq!(metrics["etcd_a_bucket"].iter().collect::<Vec<_>>(), ["To", "job"]);
    assert!(metrics["etcd_b"].is_empty());
    assert_eq!(groups.into_iter().collect::<Vec<_>>(), ["To", "le"]);
    let exported = Exported::from([("etcd_b".to_owned(), BTreeSet::from(["le".to_owned()]))]);
    check("sum by (instance, le) (etcd_b{job=\"x\"})", &exported);
    for wrong in ["etcd_c", "etcd_b{nothing=\"x\"}", "sum by (nothing) (etcd_b)"] {
        assert!(std::panic::catch_unwind(|| check(wrong, &exported)).is_err(), "{wrong}");
    }
}

#[test]
fn the_rules_are_valid_and_fire_when_they_should() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("promtool.sh");
    let status = Command::new("sh").arg(&script).status().expect("a shell");
    assert!(status.success(), "{} could not get promtool", script.display());
    let promtool = build_dir().join("promtool").join("promtool");
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]] {
        let done =
            Command::new(&promtool).args(arguments).current_dir(monitoring()).output().expect("promtool");
        let text =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && text.contains("SUCCESS"), "{arguments:?}: {text}");
    }
    let alerts = read("rules.yaml").matches("- alert: ").count();
    let tested = read("rules_test.yaml");
    for alert in read("rules.yaml").lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tested.contains(alert), "{alert} of {alerts} has no test");
    }
}
