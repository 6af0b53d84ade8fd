//! What `skiff etcd` runs with: the settings, typed and checked.

mod auth;
mod endpoint;
mod features;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use auth::AuthOptions;
pub(crate) use endpoint::{Endpoint, Scheme};
pub(crate) use features::CorruptionChecks;

use crate::cli::Settings;
use crate::logging::LogOptions;
use crate::otlp::TracingOptions;
use crate::tls::TlsOptions;

/// Longest election time-out, in milliseconds, as with etcd.
const MAX_ELECTION_MS: i64 = 50_000;
/// Shortest interval of progress reports, as with etcd.
pub(crate) const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// What `--grpc-keepalive-min-time 0` leaves in force with etcd: gRPC's default.
const GRPC_MIN_PING_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What to keep when compacting on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoCompaction {
    /// Everything.
    Off,
    /// What was current within this time.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

/// Where the listeners are.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// For clients: gRPC, and HTTP unless `client_http` names other places.
    pub(crate) client: Vec<Endpoint>,
    /// For HTTP alone.
    pub(crate) client_http: Vec<Endpoint>,
    /// For metrics and health alone.
    pub(crate) metrics: Vec<Endpoint>,
    /// For peers.
    pub(crate) peer: Vec<Endpoint>,
    /// Set SO_REUSEPORT.
    pub(crate) reuse_port: bool,
    /// Shortest time a client must leave between two pings.
    pub(crate) min_ping_interval: Duration,
    /// Time between pings to silent clients; zero for none.
    pub(crate) keepalive_interval: Duration,
    /// Time a client has to answer one.
    pub(crate) keepalive_timeout: Duration,
    /// Most concurrent streams on a connection.
    pub(crate) max_concurrent_streams: u32,
}

/// The cluster at the start.
#[derive(Debug, Clone)]
pub(crate) struct Bootstrap {
    /// Peer URLs by member name.
    pub(crate) members: BTreeMap<String, Vec<Endpoint>>,
    /// Tells clusters of equal members apart.
    pub(crate) token: String,
    /// Join instead of starting.
    pub(crate) existing: bool,
    /// Go on alone, with this member's data.
    pub(crate) force_new: bool,
}

/// Limits.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Quota of the state, in bytes; 0 for 2 GiB, negative for none.
    pub(crate) quota_bytes: i64,
    /// Largest request, in bytes.
    pub(crate) max_request_bytes: usize,
    /// Most operations in a transaction.
    pub(crate) max_txn_ops: usize,
    /// Most learners.
    pub(crate) max_learners: usize,
    /// Revisions a compaction step looks at.
    pub(crate) compaction_batch: usize,
    /// Pause between compaction steps.
    pub(crate) compaction_sleep: Duration,
}

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

fn endpoints(settings: &Settings, flag: &str) -> Result<Vec<Endpoint>, String> {
    let mut urls = Vec::new();
    for text in settings.list(flag) {
        let url = Endpoint::parse(&text)
            .map_err(|problem| format!("invalid value {text:?} for flag --{flag}: {problem}"))?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

fn bindable(settings: &Settings, flag: &str) -> Result<Vec<Endpoint>, String> {
    let urls = endpoints(settings, flag)?;
    match urls.iter().find(|url| !url.bindable()) {
        Some(url) => Err(format!("expected IP in URL for binding ({url}), given by --{flag}")),
        None => Ok(urls),
    }
}

fn listen(settings: &Settings) -> Result<Listen, String> {
    let listen = Listen {
        client: bindable(settings, "listen-client-urls")?,
        client_http: bindable(settings, "listen-client-http-urls")?,
        metrics: bindable(settings, "listen-metrics-urls")?,
        peer: bindable(settings, "listen-peer-urls")?,
        reuse_port: settings.bool("socket-reuse-port"),
        min_ping_interval: match settings.duration("grpc-keepalive-min-time") {
            Duration::ZERO => GRPC_MIN_PING_INTERVAL,
            interval => interval,
        },
        keepalive_interval: settings.duration("grpc-keepalive-interval"),
        keepalive_timeout: settings.duration("grpc-keepalive-timeout"),
        max_concurrent_streams: match settings.int("max-concurrent-streams") {
            0 => u32::MAX,
            n => u32::try_from(n).map_err(|_| "--max-concurrent-streams is out of range".to_owned())?,
        },
    };
    if listen.client.is_empty() {
        return Err("--listen-client-urls must not be empty".to_owned());
    }
    if let Some(url) = listen.client_http.iter().find(|url| listen.client.contains(url)) {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    if listen.peer.is_empty() {
        return Err("--listen-peer-urls must not be empty".to_owned());
    }
    Ok(listen)
}

fn advertised(settings: &Settings) -> Result<(Vec<Endpoint>, Vec<Endpoint>), String> {
    if settings.given("listen-client-urls") && !settings.given("advertise-client-urls") {
        return Err(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned()
        );
    }
    let client = endpoints(settings, "advertise-client-urls")?;
    let peer = endpoints(settings, "initial-advertise-peer-urls")?;
    if peer.is_empty() {
        return Err("--initial-advertise-peer-urls must not be empty".to_owned());
    }
    Ok((client, peer))
}

/// The address `--set-member-localaddr` asks for: the first one advertised that
/// others can see.
fn local_address(settings: &Settings, advertise_peer: &[Endpoint]) -> Result<Option<IpAddr>, String> {
    if !settings.bool("set-member-localaddr") && !features::enabled(settings, "SetMemberLocalAddr") {
        return Ok(None);
    }
    let usable = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified();
    match advertise_peer.iter().filter_map(Endpoint::ip).find(usable) {
        Some(address) => Ok(Some(address)),
        None => Err("--set-member-localaddr: unable to set member local address: \
                     --initial-advertise-peer-urls holds no address but the loopback's"
            .to_owned()),
    }
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

fn bootstrap(settings: &Settings, name: &str, advertise_peer: &[Endpoint]) -> Result<Bootstrap, String> {
    let given = settings.given("initial-cluster");
    let mut members: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    if !given && name != "default" {
        // As with etcd: the name alone is enough for a cluster of one.
        members.insert(name.to_owned(), advertise_peer.to_vec());
    } else {
        for part in settings.list("initial-cluster") {
            let malformed = || format!("--initial-cluster: {part:?} does not have the form name=peer-url");
            let (member, url) = part.split_once('=').ok_or_else(malformed)?;
            if member.is_empty() {
                return Err(malformed());
            }
            let url = Endpoint::parse(url).map_err(|problem| format!("--initial-cluster: {problem}"))?;
            members.entry(member.to_owned()).or_default().push(url);
        }
    }
    let bootstrap = Bootstrap {
        members,
        token: settings.text("initial-cluster-token").to_owned(),
        existing: settings.text("initial-cluster-state") == "existing",
        force_new: settings.bool("force-new-cluster"),
    };
    check_bootstrap(&bootstrap, name, advertise_peer)?;
    Ok(bootstrap)
}

fn check_bootstrap(bootstrap: &Bootstrap, name: &str, advertise_peer: &[Endpoint]) -> Result<(), String> {
    let Some(own) = bootstrap.members.get(name) else {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration (--initial-cluster)"
        ));
    };
    let mut owners: BTreeMap<&Endpoint, &str> = BTreeMap::new();
    for (member, urls) in &bootstrap.members {
        for url in urls {
            if let Some(other) = owners.insert(url, member) {
                return Err(format!("--initial-cluster has duplicate url: {url} of {other} and {member}"));
            }
        }
    }
    let text =
        |urls: &[Endpoint]| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
    for url in own {
        if !advertise_peer.contains(url) {
            return Err(format!(
                "--initial-cluster has {name}={url} but missing from --initial-advertise-peer-urls={}",
                advertise_peer.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            ));
        }
    }
    for url in advertise_peer {
        if !own.contains(url) {
            return Err(format!(
                "--initial-advertise-peer-urls has {url} but missing from --initial-cluster={}",
                text(own)
            ));
        }
    }
    Ok(())
}

/// HTTPS needs a certificate; a certificate without HTTPS is worth a word.
fn check_tls(
    whose: &str,
    urls: &[Endpoint],
    tls: &TlsOptions,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for url in urls {
        if url.scheme.tls() && !tls.enabled() {
            return Err(format!("TLS key/cert must be provided for {whose} url {url} with HTTPS scheme"));
        }
        if !url.scheme.tls() && tls.enabled() {
            warnings.push(format!(
                "the scheme of {whose} url {url} is not https: its certificate settings are ignored"
            ));
        }
    }
    Ok(())
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

fn positive(settings: &Settings, flag: &str) -> Result<u64, String> {
    u64::try_from(settings.int(flag))
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("--{flag} must be above zero"))
}

fn positive_size(settings: &Settings, flag: &str) -> Result<usize, String> {
    positive(settings, flag).and_then(|n| usize::try_from(n).map_err(|_| format!("--{flag} is too large")))
}

/// Largest client request that can be asked for: a log entry holds at least one
/// request and is at most 16 MiB.
const MAX_REQUEST_BYTES: usize = 12 << 20;

fn limits(settings: &Settings) -> Result<Limits, String> {
    let max_request_bytes = positive_size(settings, "max-request-bytes")?;
    if max_request_bytes > MAX_REQUEST_BYTES {
        return Err(format!(
            "--max-request-bytes is {max_request_bytes}, above the {MAX_REQUEST_BYTES} that one entry of the \
             log can hold"
        ));
    }
    Ok(Limits {
        quota_bytes: settings.int("quota-backend-bytes"),
        max_request_bytes,
        max_txn_ops: positive_size(settings, "max-txn-ops")?,
        max_learners: positive_size(settings, "max-learners")?,
        compaction_batch: positive_size(settings, "compaction-batch-limit")?,
        compaction_sleep: settings.duration("compaction-sleep-interval"),
    })
}

fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, String> {
    let text = settings.text("auto-compaction-retention");
    let wrong = |problem: String| format!("--auto-compaction-retention={text}: {problem}");
    let number = crate::cli::value::int(text);
    if number == Ok(0) || text.is_empty() {
        return Ok(AutoCompaction::Off);
    }
    match settings.text("auto-compaction-mode") {
        "revision" => match number {
            Ok(n) if n > 0 => Ok(AutoCompaction::Revision(n)),
            _ => Err(wrong("not a number of revisions".to_owned())),
        },
        _ => match number {
            Ok(hours) if hours > 0 => {
                Ok(AutoCompaction::Periodic(Duration::from_secs(hours.unsigned_abs().saturating_mul(3600))))
            }
            Ok(_) => Err(wrong("below zero".to_owned())),
            Err(_) => match crate::cli::value::duration(text).map_err(wrong)? {
                Duration::ZERO => Ok(AutoCompaction::Off),
                time => Ok(AutoCompaction::Periodic(time)),
            },
        },
    }
}

#[cfg(test)]
mod tests;
