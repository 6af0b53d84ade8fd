//! The metrics that dashboards and clients of etcd name.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::rpc::create_watch;
use skiff_test_support::{Cluster, ClusterOptions, Member, Program, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);

/// What every member of a cluster exports.
const NAMES: &[&str] = &[
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_id",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_client_requests_total",
    "etcd_server_health_success",
    "etcd_server_health_failures",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_server_version",
    "etcd_server_go_version",
    "etcd_server_quota_backend_bytes",
    "etcd_server_read_indexes_failed_total",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_heartbeat_send_failures_total",
    "etcd_server_apply_duration_seconds",
    "etcd_server_request_duration_seconds",
    "etcd_server_range_duration_seconds",
    "etcd_server_learner_promote_successes",
    "etcd_server_snapshot_apply_in_progress_total",
    "etcd_cluster_version",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_mvcc_hash_duration_seconds",
    "etcd_mvcc_hash_rev_duration_seconds",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_active_peers",
    "etcd_network_known_peers",
    "etcd_network_peer_round_trip_time_seconds",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_disk_wal_write_bytes_total",
    "etcd_disk_wal_write_duration_seconds",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_debugging_auth_revision",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_server_lease_expired_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "os_fd_limit",
    "os_fd_used",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

/// What `--metrics=extensive` adds.
const EXTENSIVE: &[&str] = &["grpc_server_handling_seconds"];

/// What an etcd exports beside these, and why it is not here. Whoever adds one moves it up.
const WITHOUT_A_COUNTERPART: &[(&str, &str)] = &[
    ("go_*", "there is no Go runtime: no goroutines, no garbage collector"),
    ("promhttp_*", "metrics of Go's metrics handler"),
    ("etcd_grpc_proxy_*", "there is no gRPC proxy"),
    ("etcd_debugging_store_*", "metrics of the v2 store, which is gone"),
    ("etcd_debugging_disk_backend_commit_*", "stages of a bbolt commit: rebalance, spill, write"),
    ("etcd_disk_backend_snapshot_duration_seconds", "a snapshot is hard links, not a copy of a bbolt file"),
    ("etcd_snap_*", "the log is cut by checkpoints of the state; no .snap file is written or synced"),
    ("etcd_debugging_snap_save_*", "the same"),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "the index never pauses to compact"),
    ("etcd_debugging_mvcc_db_compaction_keys_total", "rows are removed by ranges and not counted one by one"),
    ("etcd_debugging_mvcc_range_total", "the older name of etcd_mvcc_range_total"),
];

fn get(member: &Member, path: &str) -> String {
    let mut stream = TcpStream::connect(member.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// The names of the series that have a value.
fn exported(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_histogram = stem.is_some_and(|stem| page.contains(&format!("# TYPE {stem} histogram")));
        if is_histogram { stem.unwrap_or(name).to_owned() } else { name.to_owned() }
    };
    lines.map(name).collect()
}

/// The value of a series, found by how its line begins.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no series {series} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Uses everything that leaves a trace.
async fn use_everything(member: &Member) {
    let client = member.client();
    let put = PutRequest { key: "k".into(), value: "value".into(), ..Default::default() };
    let revision = client.put(put).await.unwrap().header.unwrap().revision;
    client.put(PutRequest { key: "gone".into(), ..Default::default() }).await.unwrap();
    client.delete_range(DeleteRangeRequest { key: "gone".into(), ..Default::default() }).await.unwrap();
    client.range(RangeRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    client.txn(TxnRequest::default()).await.unwrap();
    client.hash(HashRequest {}).await.unwrap();
    client.hash_kv(HashKvRequest { revision: 0 }).await.unwrap();
    client.defragment(DefragmentRequest {}).await.unwrap();
    client.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    let refused = client.put(PutRequest::default()).await;
    assert!(refused.is_err());
    let missing = client.lease_revoke(LeaseRevokeRequest { id: 1 }).await;
    assert!(missing.is_err());
    let own = client.status(StatusRequest {}).await.unwrap().header.unwrap().member_id;
    for id in [1, 1, own] {
        assert!(client.member_promote(MemberPromoteRequest { id }).await.is_err());
    }
    for path in ["/health", "/livez", "/readyz"] {
        assert!(get(member, path).contains("200 OK"));
    }
}

#[tokio::test]
async fn every_name_that_dashboards_use_is_exported() {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    let scratch = Scratch::new("metrics");
    let options = ClusterOptions::three(program).flag("--metrics=extensive");
    let cluster = Cluster::start(options, scratch.path()).await.unwrap();
    for member in &cluster.members {
        use_everything(member).await;
    }
    for member in &cluster.members {
        let page = get(member, "/metrics");
        let exported = exported(&page);
        let missing: Vec<_> =
            NAMES.iter().chain(EXTENSIVE).filter(|name| !exported.contains(**name)).collect();
        assert!(missing.is_empty(), "{} does not export {missing:?}", member.name());
        for (name, why) in WITHOUT_A_COUNTERPART {
            let stem = name.trim_end_matches('*');
            let there = exported.iter().find(|exported| exported.starts_with(stem));
            assert_eq!(there, None, "{name} is said not to be there: {why}");
        }
    }
}

#[tokio::test]
async fn basic_metrics_have_no_times_of_calls_and_the_numbers_are_true() {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    let scratch = Scratch::new("metrics-basic");
    let member = Member::single(program, scratch.path()).await.unwrap();
    use_everything(&member).await;
    let page = get(&member, "/metrics");
    let there = exported(&page);
    for name in EXTENSIVE {
        assert!(!there.contains(*name), "{name} is for --metrics=extensive");
    }
    assert_eq!(value(&page, "etcd_debugging_mvcc_keys_total"), 1.0);
    assert_eq!(value(&page, "etcd_debugging_mvcc_total_put_size_in_bytes"), 10.0);
    assert_eq!(value(&page, "etcd_mvcc_put_total"), 2.0);
    assert_eq!(value(&page, "etcd_mvcc_delete_total"), 1.0);
    assert_eq!(value(&page, "etcd_mvcc_hash_duration_seconds_count"), 1.0);
    assert_eq!(value(&page, "etcd_mvcc_hash_rev_duration_seconds_count"), 1.0);
    assert_eq!(value(&page, "etcd_disk_backend_defrag_duration_seconds_count"), 1.0);
    assert_eq!(value(&page, "etcd_disk_defrag_inflight"), 0.0);
    assert_eq!(value(&page, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count"), 1.0);
    assert!(value(&page, "etcd_debugging_mvcc_db_compaction_last") > 1e9);
    assert!(value(&page, "etcd_disk_backend_commit_duration_seconds_count") >= 3.0);
    assert!(value(&page, "etcd_mvcc_db_open_read_transactions") >= 1.0);
    let puts = |success: &str| {
        let labels = format!("{{success=\"{success}\",type=\"Put\"}}");
        value(&page, &format!("etcd_server_request_duration_seconds_count{labels}"))
    };
    assert_eq!((puts("true"), puts("false")), (2.0, 1.0));
    assert!(value(&page, "etcd_server_range_duration_seconds_count{success=\"true\"}") >= 1.0);
    let applied = |op: &str, success: &str| {
        let labels = format!("{{op=\"{op}\",success=\"{success}\",version=\"v3\"}}");
        value(&page, &format!("etcd_server_apply_duration_seconds_count{labels}"))
    };
    assert_eq!((applied("Put", "true"), applied("DeleteRange", "true")), (2.0, 1.0));
    assert_eq!((applied("Compaction", "true"), applied("LeaseRevoke", "false")), (1.0, 1.0));
    assert!(applied("ClusterMemberAttrSet", "true") >= 1.0);
    for (reason, count) in
        [("membership: ID not found", 2.0), ("membership: can only promote a learner member", 1.0)]
    {
        let series = format!("etcd_server_learner_promote_failures{{Reason=\"{reason}\"}}");
        assert_eq!(value(&page, &series), count, "{reason}");
    }
}

#[tokio::test]
async fn open_watch_streams_are_counted() {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    let scratch = Scratch::new("metrics-watch");
    let member = Member::single(program, scratch.path()).await.unwrap();
    let streams = || value(&get(&member, "/metrics"), "etcd_debugging_mvcc_watch_stream_total");
    assert_eq!(streams(), 0.0);
    let request = create_watch(WatchCreateRequest { key: "k".into(), ..Default::default() });
    let mut watch = member.client().watch(request).await.unwrap();
    watch.next(PATIENCE).await.unwrap();
    assert_eq!(streams(), 1.0);
    drop(watch);
    let deadline = Instant::now() + PATIENCE;
    while streams() != 0.0 {
        assert!(Instant::now() < deadline, "the stream is counted still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
