//! The flags of `skiff kine`: kine's, with kine's defaults, and a few more.

use super::flag::{Flag, Group, Kind, Table};
use super::table::{off, on};

use Group::{Database, Limits, Logging, Security, Server};
use Kind::{Bool, Choice, Duration, Int, Text};

const NO_T4: &str = "the t4 driver (S3) is not offered";

/// The flags of `skiff kine`.
pub(crate) static KINE: Table = Table { command: "skiff kine", prefix: "KINE_", flags: FLAGS };

#[rustfmt::skip] // one line a flag reads better than eight
const FLAGS: &[Flag] = &[
    on(Server, "listen-address", Text, "0.0.0.0:2379", "Address to take clients' requests on: host:port, or unix://path for a socket of this user's alone."),
    on(Server, "watch-progress-notify-interval", Duration, "5s", "Time between progress reports to idle watchers that want them."),

    on(Database, "endpoint", Text, "", "Where the data is: sqlite://path, postgres://user:pw@host:port/db or mysql://user:pw@tcp(host:port)/db; empty for SQLite at ./db/state.db."),
    on(Database, "ca-file", Text, "", "Authorities (PEM) for the database's certificate."),
    on(Database, "cert-file", Text, "", "Certificate (PEM) to show to the database."),
    on(Database, "key-file", Text, "", "Its private key (PEM)."),
    on(Database, "skip-verify", Bool, "false", "Accept any certificate of the database."),
    on(Database, "schema-migration", Text, "", "Repair what is found wrong with an older kine's table instead of refusing it: true, or kine's number of the first migration to run."),
    on(Database, "replica-dir", Text, "", "Folder for this server's replica of the data, which is then not held in memory; its subfolder replica is emptied at each start."),
    on(Database, "datastore-max-idle-connections", Int, "20", "Idle connections to the database to keep; 0 for the default, below 0 for none."),
    on(Database, "datastore-max-open-connections", Int, "0", "Connections to the database at a time, at least 8; 0 or less for as many as is sensible."),
    on(Database, "datastore-connection-max-lifetime", Duration, "0s", "Age at which a connection is replaced; 0 for never."),
    on(Database, "datastore-connection-max-idle-time", Duration, "2m0s", "Time a connection may be idle; 0 for any.")
        .or(&["datastore-connection-max-idle-lifetime"]),
    on(Database, "slow-sql-threshold", Duration, "1s", "Statements that take longer are logged; 0 for none."),
    on(Database, "slow-sql-warning-threshold", Duration, "5s", "Those that take longer are logged as a warning; 0 for none."),

    on(Limits, "compact-interval", Duration, "0s", "Time between compactions of the server's own; 0 to leave them to the clients, as Kubernetes does them."),
    on(Limits, "compact-interval-jitter", Int, "0", "Percent by which the interval varies, so that servers do not all compact at once; below 100."),
    on(Limits, "compact-min-retain", Int, "1000", "Revisions that the server's own compactions keep."),
    on(Limits, "compact-batch-size", Int, "1000", "Revisions a step of a compaction looks at; at least 100."),

    on(Security, "server-cert-file", Text, "", "Certificate (PEM) of the client port."),
    on(Security, "server-key-file", Text, "", "Its private key (PEM)."),
    on(Security, "trusted-ca-file", Text, "", "Authorities (PEM); clients must then show a certificate by one of them."),

    on(Logging, "log-format", Choice(&["plain", "json"]), "plain", "Shape of a log line."),
    on(Logging, "debug", Bool, "false", "Log more."),
    on(Logging, "metrics-bind-address", Text, ":8080", "Address for /metrics and /health alone; 0 for none."),
    on(Logging, "metrics-enable-profiling", Bool, "false", "Serve profiles of the process at /debug/pprof/ of that address."),
    on(Logging, "metrics-ignore-tls-config", Bool, "false", "Serve metrics without TLS although the client port has it."),

    off("emulated-etcd-version", Text, "3.6.11", "the version told is that of the API that is served"),
    off("compact-timeout", Duration, "5s", "a step of a compaction that takes long is not given up, for it would only begin again; --compact-batch-size makes the steps smaller"),
    off("poll-batch-size", Int, "500", "nothing is polled row by row: other servers' changes are read from the log, 32 entries at a time, and rows of a kine beside us 500 at a time"),
    off("peer-bind-address", Text, "", NO_T4),
    off("peer-advertise-address", Text, "", NO_T4),
    off("s3-bucket", Text, "", NO_T4),
    off("s3-folder", Text, "", NO_T4),
    off("s3-endpoint", Text, "", NO_T4),
    off("s3-region", Text, "", NO_T4),
    off("s3-access-key", Text, "", NO_T4),
    off("s3-secret-key", Text, "", NO_T4),
    off("s3-session-token", Text, "", NO_T4),
    off("s3-profile", Text, "", NO_T4),
    off("s3-ca-bundle", Text, "", NO_T4),
];
