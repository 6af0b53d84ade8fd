//! What `skiff kine` runs with: the settings, typed and checked.

use std::path::PathBuf;
use std::time::Duration;

use skiff_sql::db::PoolOptions;
use skiff_sql::endpoint::{Endpoint as Datastore, TlsFiles};

use super::compaction::Plan;
use super::upstream;
use crate::cli::{Settings, value};
use crate::config::{Endpoint, MIN_PROGRESS_INTERVAL};
use crate::logging::LogOptions;
use crate::tls::TlsOptions;

/// The socket where `unix://` names none.
const DEFAULT_SOCKET: &str = "kine.sock";

/// Smallest batch of a compaction, as with kine.
const MIN_BATCH: i64 = 100;

/// A store's tasks keep three connections, and others need one now and then.
const LEAST_CONNECTIONS: usize = 8;

/// Everything `skiff kine` runs with.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// Where clients connect.
    pub(super) listen: Endpoint,
    /// Where metrics are served, if anywhere.
    pub(super) metrics: Option<Endpoint>,
    /// Serve profiles there.
    pub(super) profiling: bool,
    /// TLS of the ports.
    pub(super) tls: TlsOptions,
    /// Where the data is.
    pub(super) datastore: Datastore,
    /// Limits of the connections to it.
    pub(super) pool: PoolOptions,
    /// Repair an older table.
    pub(super) migrate_schema: bool,
    /// Where the replica is kept, if not in memory.
    pub(super) replica_dir: Option<PathBuf>,
    /// Interval of progress reports.
    pub(super) progress_interval: Duration,
    /// Compactions of its own.
    pub(super) compaction: Option<Plan>,
    /// Revisions a step of a compaction looks at.
    pub(super) compaction_batch: i64,
    /// Logs.
    pub(super) log: LogOptions,
    /// What to tell once there is a logger.
    pub(super) warnings: Vec<String>,
}

impl Config {
    /// Types and checks the settings.
    ///
    /// # Errors
    /// A sentence for the user, naming the flag.
    pub(super) fn from_settings(settings: &Settings) -> Result<Config, String> {
        let tls = TlsOptions::for_kine(settings)?;
        let listen = address(settings, "listen-address", tls.enabled())?;
        let metrics_tls = tls.enabled() && !settings.bool("metrics-ignore-tls-config");
        let metrics = match settings.text("metrics-bind-address") {
            "" | "0" => None,
            _ => Some(address(settings, "metrics-bind-address", metrics_tls)?),
        };
        let datastore = Datastore::parse(settings.text("endpoint"), database_tls(settings))
            .map_err(|problem| format!("--endpoint: {problem}"))?;
        if let Datastore::Etcd(etcd) = &datastore {
            upstream::check(etcd)?;
        }
        let batch = settings.int("compact-batch-size");
        if batch < MIN_BATCH {
            return Err(format!("--compact-batch-size must be at least {MIN_BATCH}"));
        }
        Ok(Config {
            listen,
            metrics,
            profiling: settings.bool("metrics-enable-profiling"),
            tls,
            datastore,
            pool: pool(settings)?,
            migrate_schema: migration(settings)?,
            replica_dir: path(settings, "replica-dir"),
            progress_interval: settings.duration("watch-progress-notify-interval").max(MIN_PROGRESS_INTERVAL),
            compaction: Plan::from_settings(settings)?,
            compaction_batch: batch,
            log: LogOptions::for_kine(settings.text("log-format") == "json", settings.bool("debug")),
            warnings: settings.warnings.clone(),
        })
    }
}

fn path(settings: &Settings, flag: &str) -> Option<PathBuf> {
    Some(settings.text(flag)).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn database_tls(settings: &Settings) -> TlsFiles {
    TlsFiles {
        ca_file: path(settings, "ca-file"),
        cert_file: path(settings, "cert-file"),
        key_file: path(settings, "key-file"),
        skip_verify: settings.bool("skip-verify"),
    }
}

/// An address as kine takes it: `host:port`, `tcp://host:port`, `unix://path`;
/// and, as elsewhere here, with the scheme of a URL.
fn address(settings: &Settings, flag: &str, tls: bool) -> Result<Endpoint, String> {
    let text = settings.text(flag);
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    let unix = match scheme {
        "unix" | "unixs" => true,
        "tcp" | "http" | "https" => false,
        _ => return Err(format!("--{flag}: {text:?} is neither host:port nor unix://path")),
    };
    if scheme.ends_with('s') && !tls {
        return Err(format!("--{flag}: {text} needs --server-cert-file and --server-key-file"));
    }
    let url = match (unix, tls, rest) {
        (true, false, "") => format!("unix://{DEFAULT_SOCKET}"),
        (true, true, "") => format!("unixs://{DEFAULT_SOCKET}"),
        (true, false, path) => format!("unix://{path}"),
        (true, true, path) => format!("unixs://{path}"),
        (false, false, host) => format!("http://{host}"),
        (false, true, host) => format!("https://{host}"),
    };
    let endpoint = Endpoint::parse(&url).map_err(|problem| format!("--{flag}: {problem}"))?;
    match endpoint.bindable() {
        true => Ok(endpoint),
        false => Err(format!("--{flag}: {text} is no address of this host; give an IP address and a port")),
    }
}

fn pool(settings: &Settings) -> Result<PoolOptions, String> {
    let count = |flag: &str| match settings.int(flag) {
        n if n <= 0 => Ok(0),
        n => usize::try_from(n).map_err(|_| format!("--{flag} is too large")),
    };
    let default = PoolOptions::default();
    Ok(PoolOptions {
        max_idle: match settings.int("datastore-max-idle-connections") {
            0 => default.max_idle,
            _ => count("datastore-max-idle-connections")?,
        },
        max_open: match count("datastore-max-open-connections")? {
            0 => 0,
            few => few.max(LEAST_CONNECTIONS),
        },
        max_lifetime: settings.duration("datastore-connection-max-lifetime"),
        max_idle_time: settings.duration("datastore-connection-max-idle-time"),
        slow_info: settings.duration("slow-sql-threshold"),
        slow_warning: settings.duration("slow-sql-warning-threshold"),
        ..default
    })
}

/// kine's variable holds the number of the first migration to run; what needs
/// to run is found here, so that any number asks for it.
fn migration(settings: &Settings) -> Result<bool, String> {
    let text = settings.text("schema-migration");
    match (value::int(text), value::bool(text)) {
        _ if text.is_empty() => Ok(false),
        (_, Ok(false)) if text != "0" => Ok(false),
        (Ok(_), _) | (_, Ok(true)) => Ok(true),
        _ => Err(format!("--schema-migration: {text:?} is neither true or false nor a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Request;
    use crate::cli::kine::KINE;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        match Settings::parse_for(&KINE, arguments.iter().map(|a| (*a).to_owned()), []) {
            Ok(Request::Run(settings)) => Config::from_settings(&settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_kines() {
        let config = config(&[]).expect("the defaults");
        assert_eq!(config.listen.to_string(), "http://0.0.0.0:2379");
        assert_eq!(config.metrics.expect("metrics").to_string(), "http://:8080");
        assert_eq!(config.datastore.to_string(), "sqlite://./db/state.db");
        assert_eq!(config.progress_interval, Duration::from_secs(5));
        assert_eq!(config.pool, PoolOptions::default());
        assert!(config.compaction.is_none() && !config.migrate_schema);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn addresses_are_read_as_kine_reads_them() {
        let tls = ["--server-cert-file=c", "--server-key-file=k"];
        let cases: [(&str, &[&str], Option<&str>); 10] = [
            ("127.0.0.1:0", &[], Some("http://127.0.0.1:0")),
            (":2379", &[], Some("http://:2379")),
            ("tcp://[::1]:1", &[], Some("http://[::1]:1")),
            ("unix://", &[], Some("unix://kine.sock")),
            ("unix:///run/x", &tls, Some("unixs:///run/x")),
            ("127.0.0.1:1", &tls, Some("https://127.0.0.1:1")),
            ("https://127.0.0.1:1", &[], None),
            ("example.com:1", &[], None),
            ("127.0.0.1", &[], None),
            ("ftp://127.0.0.1:1", &[], None),
        ];
        for (text, more, expected) in cases {
            let flag = format!("--listen-address={text}");
            let arguments: Vec<&str> = std::iter::once(flag.as_str()).chain(more.iter().copied()).collect();
            let read = config(&arguments).ok().map(|config| config.listen.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        let metrics =
            |arguments: &[&str]| config(arguments).expect("good").metrics.map(|url| url.to_string());
        assert_eq!(metrics(&["--metrics-bind-address=0"]), None);
        assert_eq!(metrics(&tls).as_deref(), Some("https://:8080"));
        let plain = [tls[0], tls[1], "--metrics-ignore-tls-config"];
        assert_eq!(metrics(&plain).as_deref(), Some("http://:8080"));
    }

    #[test]
    fn numbers_below_zero_mean_what_they_mean_to_kine() {
        let config = config(&["--datastore-max-idle-connections=-1", "--datastore-max-open-connections=-1"]);
        let pool = config.expect("good").pool;
        assert_eq!((pool.max_idle, pool.max_open), (0, 0));
    }

    #[test]
    fn a_migration_is_asked_for_by_word_or_number() {
        for (text, expected) in
            [("", Some(false)), ("0", Some(true)), ("2", Some(true)), ("false", Some(false)), ("x", None)]
        {
            let read = config(&[&format!("--schema-migration={text}")]).ok().map(|c| c.migrate_schema);
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_password() {
        for wrong in [
            "--endpoint=postgres://u:hunter2@h:port/",
            "--endpoint=https://etcd:2379",
            "--compact-batch-size=99",
            "--compact-interval-jitter=100",
            "--server-cert-file=c",
            "--trusted-ca-file=ca",
            "--cert-file=c",
        ] {
            let error = config(&[wrong]).expect_err(wrong);
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", config(&["--endpoint=postgres://u:hunter2@h/"]).expect("good"));
        assert!(!shown.contains("hunter2"));
    }
}
