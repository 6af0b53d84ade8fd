//! The flags of `skiff etcd`: the one table that parsing, environment, config
//! file, `--help` and `docs/etcd-flags.md` are made from.
//!
//! Every default stands here and nowhere else.

use super::flag::{Effect, Flag, Group, Kind, Table};

const BASE: Flag = Flag {
    name: "",
    kind: Kind::Text,
    default: "",
    group: Group::Member,
    help: "",
    aliases: &[],
    file_key: None,
    effect: Effect::Applies,
};

/// Builds a flag that applies.
pub(super) const fn on(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, group, help, ..BASE }
}

/// Builds a flag that is accepted without effect.
pub(super) const fn off(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, group: Group::Compatibility, help: why, effect: Effect::Ignored(why), ..BASE }
}

impl Flag {
    pub(super) const fn or(self, aliases: &'static [&'static str]) -> Flag {
        Flag { aliases, ..self }
    }

    const fn file(self, key: &'static str) -> Flag {
        Flag { file_key: Some(key), ..self }
    }

    const fn ignored(self, why: &'static str) -> Flag {
        Flag { effect: Effect::Ignored(why), ..self }
    }
}

const NO_BBOLT: &str = "the state is kept in RocksDB, not in bbolt";
const NO_DISCOVERY: &str = "discovery is not offered; list the members in --initial-cluster";
const NO_V2: &str = "the v2 API and its proxy are not offered";

use Group::{Auth, Cluster, Features, Limits, Logging, Member, Security, Unsafe};
use Kind::{Bool, Choice, Duration, Int, List, Text};

/// The flags of `skiff etcd`.
pub(crate) static ETCD: Table = Table { command: "skiff etcd", prefix: "ETCD_", flags: FLAGS };

#[rustfmt::skip] // one line a flag reads better than eight
const FLAGS: &[Flag] = &[
    on(Member, "name", Text, "default", "Human-readable name of this member."),
    on(Member, "data-dir", Text, "", "Directory of this member's data; ${name}.etcd if not given."),
    on(Member, "wal-dir", Text, "", "Directory of the log, if it shall not lie in the data directory; to change it, stop the member and move the files."),
    on(Member, "listen-client-urls", List, "http://localhost:2379", "URLs to take client requests on: gRPC and HTTP."),
    on(Member, "listen-client-http-urls", List, "", "URLs for HTTP alone; --listen-client-urls then take gRPC alone."),
    on(Member, "enable-grpc-gateway", Bool, "true", "Serve every call as JSON over HTTP too, below /v3/."),
    on(Member, "listen-peer-urls", List, "http://localhost:2380", "URLs to take other members' traffic on."),
    on(Member, "snapshot-count", Int, "10000", "If given: applied log entries after which the state is made durable and the log cut; in any case after 64 MiB or five minutes."),
    on(Member, "snapshot-catchup-entries", Int, "5000", "Entries kept for members that lag a little.")
        .or(&["experimental-snapshot-catchup-entries"]),
    on(Member, "heartbeat-interval", Int, "100", "Milliseconds between two heartbeats of the leader."),
    on(Member, "election-timeout", Int, "1000", "Milliseconds without a heartbeat before an election; at least five heartbeats."),
    on(Member, "socket-reuse-port", Bool, "false", "Let several sockets listen on one port."),
    on(Member, "socket-reuse-address", Bool, "false", "Listen although old connections to the port linger."),
    on(Member, "grpc-keepalive-min-time", Duration, "5s", "Shortest time a client must leave between two pings; who pings more often is let go. 0 for gRPC's five minutes."),
    on(Member, "grpc-keepalive-interval", Duration, "2h", "Time between pings to a silent client; 0 for none."),
    on(Member, "grpc-keepalive-timeout", Duration, "20s", "Time a client has to answer a ping."),
    on(Member, "config-file", Text, "", "YAML file to read all settings from; flags and environment are then ignored."),

    on(Cluster, "initial-advertise-peer-urls", List, "http://localhost:2380", "This member's peer URLs, as the other members reach them."),
    on(Cluster, "initial-cluster", Text, "default=http://localhost:2380", "All members at the start: name=peer-url, separated by commas."),
    on(Cluster, "initial-cluster-state", Choice(&["new", "existing"]), "new", "\"new\" to start a cluster, \"existing\" to join one."),
    on(Cluster, "initial-cluster-token", Text, "etcd-cluster", "Tells clusters apart that start with the same member list."),
    on(Cluster, "set-member-localaddr", Bool, "false", "Connect to peers from the first advertised peer address that is not the loopback's.")
        .or(&["experimental-set-member-localaddr"]),
    on(Cluster, "advertise-client-urls", List, "http://localhost:2379", "This member's client URLs, as clients reach them."),
    on(Cluster, "strict-reconfig-check", Bool, "true", "Refuse membership changes that would lose the quorum."),
    on(Cluster, "pre-vote", Bool, "true", "Ask before an election whether it could be won."),
    on(Cluster, "max-learners", Int, "1", "Learners the cluster may have at a time.").or(&["experimental-max-learners"]),

    on(Limits, "quota-backend-bytes", Int, "0", "Bytes of state after which writes are refused (alarm NOSPACE); 0 for 2 GiB, negative for none."),
    on(Limits, "max-request-bytes", Int, "1572864", "Largest client request, in bytes."),
    on(Limits, "max-txn-ops", Int, "128", "Most operations in a transaction."),
    on(Limits, "max-concurrent-streams", Int, "4294967295", "Most concurrent requests on one connection."),
    on(Limits, "auto-compaction-mode", Choice(&["periodic", "revision"]), "periodic", "What --auto-compaction-retention counts."),
    on(Limits, "auto-compaction-retention", Text, "0", "History to keep: a duration or hours (periodic), a number (revision); 0 to keep all."),
    on(Limits, "compaction-batch-limit", Int, "1000", "Revisions a step of a compaction looks at.")
        .or(&["experimental-compaction-batch-limit"]),
    on(Limits, "compaction-sleep-interval", Duration, "10ms", "Pause between two steps of a compaction.")
        .or(&["experimental-compaction-sleep-interval"]),
    on(Limits, "watch-progress-notify-interval", Duration, "10m0s", "Time between progress reports to idle watchers that want them.")
        .or(&["experimental-watch-progress-notify-interval"]),

    on(Security, "cert-file", Text, "", "Certificate (PEM) of the client port.").file("client-transport-security.cert-file"),
    on(Security, "key-file", Text, "", "Its private key (PEM).").file("client-transport-security.key-file"),
    on(Security, "client-cert-auth", Bool, "false", "Clients must show a certificate.").file("client-transport-security.client-cert-auth"),
    on(Security, "trusted-ca-file", Text, "", "Authorities (PEM) for clients' certificates.").file("client-transport-security.trusted-ca-file"),
    on(Security, "client-crl-file", Text, "", "Revoked client certificates (PEM or DER).").file("client-transport-security.client-crl-file"),
    on(Security, "client-cert-allowed-hostname", List, "", "Host names one of which a client's certificate must bear.")
        .file("client-transport-security.allowed-hostname"),
    on(Security, "auto-tls", Bool, "false", "Make a self-signed certificate for the client port.").file("client-transport-security.auto-tls"),
    on(Security, "peer-cert-file", Text, "", "Certificate (PEM) of the peer port, shown to peers in both directions.")
        .file("peer-transport-security.cert-file"),
    on(Security, "peer-key-file", Text, "", "Its private key (PEM).").file("peer-transport-security.key-file"),
    on(Security, "peer-client-cert-auth", Bool, "false", "Peers must show a certificate.").file("peer-transport-security.client-cert-auth"),
    on(Security, "peer-trusted-ca-file", Text, "", "Authorities (PEM) for peers' certificates.").file("peer-transport-security.trusted-ca-file"),
    on(Security, "peer-client-cert-file", Text, "", "Certificate to show to peers, if not --peer-cert-file.")
        .file("peer-transport-security.client-cert-file"),
    on(Security, "peer-client-key-file", Text, "", "Its private key.").file("peer-transport-security.client-key-file"),
    on(Security, "peer-crl-file", Text, "", "Revoked peer certificates (PEM or DER).").file("peer-transport-security.client-crl-file"),
    on(Security, "peer-cert-allowed-cn", List, "", "Common names one of which a peer's certificate must bear.")
        .file("peer-transport-security.allowed-cn"),
    on(Security, "peer-cert-allowed-hostname", List, "", "Host names one of which a peer's certificate must bear.")
        .file("peer-transport-security.allowed-hostname"),
    on(Security, "peer-skip-client-san-verification", Bool, "false", "Let peers come from other addresses than their certificates say.")
        .or(&["experimental-peer-skip-client-san-verification"]).file("peer-transport-security.skip-client-san-verification"),
    on(Security, "peer-auto-tls", Bool, "false", "Make a self-signed certificate for the peer port.").file("peer-transport-security.auto-tls"),
    on(Security, "self-signed-cert-validity", Int, "1", "Years the certificates of --auto-tls are valid."),
    on(Security, "tls-min-version", Choice(&["", "TLS1.2", "TLS1.3"]), "TLS1.2", "Lowest TLS version."),
    on(Security, "tls-max-version", Choice(&["", "TLS1.2", "TLS1.3"]), "", "Highest TLS version; empty for the newest."),
    on(Security, "cipher-suites", List, "", "TLS 1.2 cipher suites, by their IANA names; empty for all that are safe."),
    on(Security, "host-whitelist", List, "*", "Host names HTTP clients may address this server by."),
    on(Security, "cors", List, "*", "Origins browsers may call from."),

    on(Auth, "auth-token", Text, "simple", "Kind of the tokens: simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m."),
    on(Auth, "auth-token-ttl", Int, "300", "Seconds a simple token lives after its last use."),
    on(Auth, "bcrypt-cost", Int, "10", "Cost of hashing passwords, 4 to 31."),

    on(Logging, "log-level", Choice(&["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]), "info", "Least severe level to log."),
    on(Logging, "log-format", Choice(&["json", "console"]), "json", "Shape of a log line."),
    on(Logging, "log-outputs", List, "default", "Where to log: stderr, stdout, files, or systemd/journal; \"default\" is stderr."),
    on(Logging, "enable-log-rotation", Bool, "false", "Replace the file of --log-outputs when it has grown."),
    on(Logging, "log-rotation-config-json", Text, r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When to: megabytes, days to keep, files to keep (0 for no limit), local time in names, gzip."),
    on(Logging, "warning-unary-request-duration", Duration, "300ms", "Requests that take longer are logged.")
        .or(&["experimental-warning-unary-request-duration"]),
    on(Logging, "warning-apply-duration", Duration, "100ms", "Applying that takes longer is logged.")
        .or(&["experimental-warning-apply-duration"]),
    on(Logging, "metrics", Choice(&["basic", "extensive"]), "basic", "\"extensive\" adds histograms per call."),
    on(Logging, "listen-metrics-urls", List, "", "More URLs for /metrics and /health alone."),
    on(Logging, "enable-pprof", Bool, "false", "Serve profiles of the process at /debug/pprof/ of the client port."),
    on(Logging, "enable-distributed-tracing", Bool, "false", "Send spans of requests to an OpenTelemetry collector.")
        .or(&["experimental-enable-distributed-tracing"]),
    on(Logging, "distributed-tracing-address", Text, "localhost:4317", "Where the collector is: host:port (OTLP over gRPC, not encrypted).")
        .or(&["experimental-distributed-tracing-address"]),
    on(Logging, "distributed-tracing-service-name", Text, "etcd", "Name of the service in traces; the same on all members.")
        .or(&["experimental-distributed-tracing-service-name"]),
    on(Logging, "distributed-tracing-instance-id", Text, "", "Tells this member apart in traces.")
        .or(&["experimental-distributed-tracing-instance-id"]),
    on(Logging, "distributed-tracing-sampling-rate", Int, "0", "Of a million requests that belong to no trace, so many begin one.")
        .or(&["experimental-distributed-tracing-sampling-rate"]),

    on(Features, "feature-gates", Text, "", "Features to switch: Name=true, separated by commas."),
    on(Features, "corrupt-check-time", Duration, "0s", "Time between comparisons of the members' hashes; 0 for none.")
        .or(&["experimental-corrupt-check-time"]),
    on(Features, "compact-hash-check-time", Duration, "1m0s", "Time between comparisons of hashes at compactions.")
        .or(&["experimental-compact-hash-check-time"]),
    on(Features, "experimental-initial-corrupt-check", Bool, "false", "Compare hashes with the peers before serving (now the feature gate InitialCorruptCheck)."),
    on(Features, "experimental-compact-hash-check-enabled", Bool, "false", "Compare hashes at compactions (now the feature gate CompactHashCheck)."),
    on(Features, "experimental-enable-lease-checkpoint", Bool, "false", "Replicate the remaining times of leases (now a feature gate).")
        .ignored("remaining times of leases are always replicated"),
    on(Features, "experimental-enable-lease-checkpoint-persist", Bool, "false", "Keep them over restarts (now a feature gate).")
        .ignored("remaining times of leases are always kept"),

    on(Unsafe, "force-new-cluster", Bool, "false", "Start a one-member cluster from this member's data, once, after all others are lost; they can never come back."),
    on(Unsafe, "unsafe-no-fsync", Bool, "false", "Lose acknowledged writes when the machine fails.")
        .ignored("acknowledged writes are always on the disk"),

    off("initial-election-tick-advance", Bool, "true", "the first election starts as soon as it may"),
    off("max-snapshots", Int, "5", "old snapshots are removed as soon as nothing needs them"),
    off("max-wals", Int, "5", "log segments are removed or reused as soon as nothing needs them"),
    off("memory-mlock", Bool, "false", "memory is not locked").or(&["experimental-memory-mlock"]),
    off("backend-bbolt-freelist-type", Text, "map", NO_BBOLT).or(&["experimental-backend-bbolt-freelist-type"]),
    off("backend-batch-interval", Duration, "0s", NO_BBOLT),
    off("backend-batch-limit", Int, "0", NO_BBOLT),
    off("bootstrap-defrag-threshold-megabytes", Int, "0", NO_BBOLT).or(&["experimental-bootstrap-defrag-threshold-megabytes"]),
    off("experimental-txn-mode-write-with-shared-buffer", Bool, "true", NO_BBOLT),
    off("experimental-stop-grpc-service-on-defrag", Bool, "false", "defragmentation does not stop requests"),
    off("raft-read-timeout", Duration, "5s", "peers have their own time-outs"),
    off("raft-write-timeout", Duration, "5s", "peers have their own time-outs"),
    off("downgrade-check-time", Duration, "5s", "downgrades are checked as they come").or(&["experimental-downgrade-check-time"]),
    off("wait-cluster-ready-timeout", Duration, "5s", "readiness is reported when a leader is known").or(&["experimental-wait-cluster-ready-timeout"]),
    off("client-cert-file", Text, "", "the JSON gateway does not go through the client port").file("client-transport-security.client-cert-file"),
    off("client-key-file", Text, "", "the JSON gateway does not go through the client port").file("client-transport-security.client-key-file"),
    off("discovery", Text, "", NO_DISCOVERY),
    off("discovery-fallback", Text, "", NO_DISCOVERY),
    off("discovery-proxy", Text, "", NO_DISCOVERY),
    off("discovery-srv", Text, "", NO_DISCOVERY),
    off("discovery-srv-name", Text, "", NO_DISCOVERY),
    off("discovery-token", Text, "", NO_DISCOVERY),
    off("discovery-endpoints", Text, "", NO_DISCOVERY),
    off("discovery-dial-timeout", Duration, "2s", NO_DISCOVERY),
    off("discovery-request-timeout", Duration, "5s", NO_DISCOVERY),
    off("discovery-keepalive-time", Duration, "2s", NO_DISCOVERY),
    off("discovery-keepalive-timeout", Duration, "6s", NO_DISCOVERY),
    off("discovery-insecure-transport", Bool, "true", NO_DISCOVERY),
    off("discovery-insecure-skip-tls-verify", Bool, "false", NO_DISCOVERY),
    off("discovery-cert", Text, "", NO_DISCOVERY),
    off("discovery-key", Text, "", NO_DISCOVERY),
    off("discovery-cacert", Text, "", NO_DISCOVERY),
    off("discovery-user", Text, "", NO_DISCOVERY),
    off("discovery-password", Text, "", NO_DISCOVERY),
    off("logger", Text, "zap", "there is one logger"),
    off("log-package-levels", Text, "", "there is one log level"),
    off("enable-v2", Bool, "false", NO_V2),
    off("experimental-enable-v2v3", Text, "", NO_V2),
    off("v2-deprecation", Text, "write-only", NO_V2),
    off("proxy", Text, "off", NO_V2),
    off("proxy-failure-wait", Int, "5000", NO_V2),
    off("proxy-refresh-interval", Int, "30000", NO_V2),
    off("proxy-dial-timeout", Int, "1000", NO_V2),
    off("proxy-write-timeout", Int, "5000", NO_V2),
    off("proxy-read-timeout", Int, "0", NO_V2),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::agent::AGENT;
    use super::super::kine::KINE;
    use super::super::server::SERVER;
    use super::super::upkeep::{CERTIFICATE, TOKEN};
    use super::super::value;
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        for table in [&ETCD, &KINE, &SERVER, &AGENT, &TOKEN, &CERTIFICATE] {
            let mut seen = HashSet::new();
            for flag in table.flags {
                for name in std::iter::once(&flag.name).chain(flag.aliases) {
                    assert!(seen.insert(*name), "{name} twice");
                    assert!(
                        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                        "{name}"
                    );
                }
                assert!(!flag.help.is_empty(), "{} has no help", flag.name);
            }
        }
    }

    #[test]
    fn defaults_parse_as_their_kind() {
        for flag in [&ETCD, &KINE, &SERVER, &AGENT, &TOKEN, &CERTIFICATE].iter().flat_map(|table| table.flags)
        {
            value::check(flag.kind, flag.default).unwrap_or_else(|e| panic!("{}: {e}", flag.name));
        }
    }

    #[test]
    fn experimental_spellings_are_found() {
        assert_eq!(ETCD.find("experimental-max-learners").map(|f| f.name), Some("max-learners"));
        assert_eq!(ETCD.find("experimental-pre-vote").map(|f| f.name), Some("pre-vote"));
        assert!(ETCD.find("no-such-flag").is_none());
    }
}
