//! What `skiff etcd` runs with: the settings, typed and checked.

mod auth;
mod bootstrap;
mod endpoint;
mod features;
mod limits;
mod listen;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use auth::AuthOptions;
pub(crate) use bootstrap::Bootstrap;
pub(crate) use endpoint::{Endpoint, Scheme};
pub(crate) use features::CorruptionChecks;
pub(crate) use limits::{AutoCompaction, Limits};
pub(crate) use listen::Listen;

use bootstrap::bootstrap;
use limits::{auto_compaction, limits, positive};
use listen::{advertised, check_tls, listen, local_address};

use crate::cli::Settings;
use crate::logging::LogOptions;
use crate::otlp::TracingOptions;
use crate::tls::TlsOptions;

/// Longest election time-out, in milliseconds, as with etcd.
const MAX_ELECTION_MS: i64 = 50_000;
/// Shortest interval of progress reports, as with etcd.
pub(crate) const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Everything `skiff etcd` runs with.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// This member's name.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data_dir: PathBuf,
    /// Its log, if not with its data; absolute.
    pub(crate) wal_dir: Option<PathBuf>,
    /// Its listeners.
    pub(crate) listen: Listen,
    /// Its client URLs, as clients reach them.
    pub(crate) advertise_client: Vec<Endpoint>,
    /// Its peer URLs, as peers reach them.
    pub(crate) advertise_peer: Vec<Endpoint>,
    /// The cluster at the start.
    pub(crate) bootstrap: Bootstrap,
    /// Heartbeat interval.
    pub(crate) heartbeat: Duration,
    /// Election time-out.
    pub(crate) election: Duration,
    /// Ask before an election.
    pub(crate) pre_vote: bool,
    /// Refuse membership changes that endanger the quorum.
    pub(crate) strict_reconfig: bool,
    /// Entries after which the state is made durable; 0 for any number.
    pub(crate) snapshot_entries: u64,
    /// Entries kept for those who lag.
    pub(crate) catchup_entries: u64,
    /// Limits.
    pub(crate) limits: Limits,
    /// Compaction on its own.
    pub(crate) auto_compaction: AutoCompaction,
    /// Interval of progress reports.
    pub(crate) progress_interval: Duration,
    /// Log requests that take longer.
    pub(crate) warn_request: Duration,
    /// Log applying that takes longer.
    pub(crate) warn_apply: Duration,
    /// When members' data are compared.
    pub(crate) corruption_checks: CorruptionChecks,
    /// Histograms per call.
    pub(crate) extensive_metrics: bool,
    /// Serve profiles of the process.
    pub(crate) enable_pprof: bool,
    /// Address to connect to peers from.
    pub(crate) local_address: Option<IpAddr>,
    /// Host names HTTP clients may use; empty or "*" for any.
    pub(crate) host_whitelist: Vec<String>,
    /// Origins browsers may call from; empty or "*" for any.
    pub(crate) cors: Vec<String>,
    /// Serve the JSON gateway.
    pub(crate) gateway: bool,
    /// TLS of the client port.
    pub(crate) client_tls: TlsOptions,
    /// TLS between peers.
    pub(crate) peer_tls: TlsOptions,
    /// Users and tokens.
    pub(crate) auth: AuthOptions,
    /// Spans of requests, if they are sent anywhere.
    pub(crate) tracing: Option<TracingOptions>,
    /// Logs.
    pub(crate) log: LogOptions,
    /// What to tell once there is a logger.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// Types and checks the settings.
    ///
    /// # Errors
    /// A sentence for the user, naming the flag.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Config, String> {
        let mut warnings = settings.warnings.clone();
        let corruption_checks = features::corruption_checks(settings, &mut warnings)?;
        let name = settings.text("name").to_owned();
        if name.is_empty() {
            return Err("--name must not be empty".to_owned());
        }
        let client_tls = TlsOptions::for_clients(settings)?;
        let peer_tls = TlsOptions::for_peers(settings)?;
        let listen = listen(settings)?;
        let (advertise_client, advertise_peer) = advertised(settings)?;
        let bootstrap = bootstrap(settings, &name, &advertise_peer)?;
        check_tls("client", &listen.client, &client_tls, &mut warnings)?;
        check_tls("client", &listen.client_http, &client_tls, &mut warnings)?;
        check_tls("peer", &listen.peer, &peer_tls, &mut warnings)?;
        let (heartbeat, election) = times(settings)?;
        let auth = AuthOptions::from_settings(settings, &mut warnings)?;
        let local_address = local_address(settings, &advertise_peer)?;
        Ok(Config {
            data_dir: match settings.text("data-dir") {
                "" => {
                    warnings.push(format!("--data-dir is not given: using {name}.etcd"));
                    PathBuf::from(format!("{name}.etcd"))
                }
                path => PathBuf::from(path),
            },
            wal_dir: wal_dir(settings)?,
            listen,
            advertise_client,
            advertise_peer,
            bootstrap,
            heartbeat,
            election,
            pre_vote: settings.bool("pre-vote"),
            strict_reconfig: settings.bool("strict-reconfig-check"),
            snapshot_entries: match settings.given("snapshot-count") {
                true => positive(settings, "snapshot-count")?,
                false => 0,
            },
            catchup_entries: positive(settings, "snapshot-catchup-entries")?,
            limits: limits(settings)?,
            auto_compaction: auto_compaction(settings)?,
            progress_interval: settings.duration("watch-progress-notify-interval").max(MIN_PROGRESS_INTERVAL),
            warn_request: settings.duration("warning-unary-request-duration"),
            warn_apply: settings.duration("warning-apply-duration"),
            corruption_checks,
            extensive_metrics: settings.text("metrics") == "extensive",
            enable_pprof: settings.bool("enable-pprof"),
            local_address,
            host_whitelist: settings.list("host-whitelist"),
            cors: settings.list("cors"),
            gateway: settings.bool("enable-grpc-gateway"),
            client_tls,
            peer_tls,
            auth,
            tracing: tracing(settings)?,
            log: LogOptions::from_settings(settings)?,
            warnings,
            name,
        })
    }
}

/// The log's directory, absolute, as it is written down.
fn wal_dir(settings: &Settings) -> Result<Option<PathBuf>, String> {
    let text = settings.text("wal-dir");
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('\n') {
        return Err("--wal-dir must not contain a line break".to_owned());
    }
    let absolute = |text: &str| std::path::absolute(text).map_err(|e| format!("--wal-dir={text}: {e}"));
    let dir = absolute(text)?;
    if !settings.text("data-dir").is_empty() && dir == absolute(settings.text("data-dir"))? {
        return Err("--wal-dir and --data-dir must be different directories".to_owned());
    }
    Ok(Some(dir))
}

/// A whole, where sampling rates are counted.
const MILLION: u32 = 1_000_000;

fn tracing(settings: &Settings) -> Result<Option<TracingOptions>, String> {
    if !settings.bool("enable-distributed-tracing") {
        return Ok(None);
    }
    let wrong = |problem: &str| format!("distributed tracing configuration is not valid: ({problem})");
    let rate = settings.int("distributed-tracing-sampling-rate");
    if rate < 0 {
        return Err(wrong("tracing sampling rate must be positive"));
    }
    let per_million = u32::try_from(rate)
        .ok()
        .filter(|rate| *rate <= MILLION)
        .ok_or_else(|| wrong("tracing sampling rate must be less than 1000000"))?;
    Ok(Some(TracingOptions {
        address: settings.text("distributed-tracing-address").to_owned(),
        service_name: settings.text("distributed-tracing-service-name").to_owned(),
        instance_id: settings.text("distributed-tracing-instance-id").to_owned(),
        per_million,
    }))
}

fn times(settings: &Settings) -> Result<(Duration, Duration), String> {
    let (heartbeat, election) = (settings.int("heartbeat-interval"), settings.int("election-timeout"));
    if heartbeat <= 0 {
        return Err(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"));
    }
    if election <= 0 {
        return Err(format!("--election-timeout must be >0 (set to {election}ms)"));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > MAX_ELECTION_MS {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        ));
    }
    Ok((Duration::from_millis(heartbeat.unsigned_abs()), Duration::from_millis(election.unsigned_abs())))
}

#[cfg(test)]
mod tests;
