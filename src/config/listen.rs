//! Where the member listens, and where it is reached.

use std::net::IpAddr;
use std::time::Duration;

use super::{Endpoint, features};
use crate::cli::Settings;
use crate::tls::TlsOptions;

/// What `--grpc-keepalive-min-time 0` leaves in force with etcd: gRPC's default.
const GRPC_MIN_PING_INTERVAL: Duration = Duration::from_secs(5 * 60);

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

/// What the listening flags say.
pub(super) fn listen(settings: &Settings) -> Result<Listen, String> {
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

/// The URLs clients, and peers, reach this member by.
pub(super) fn advertised(settings: &Settings) -> Result<(Vec<Endpoint>, Vec<Endpoint>), String> {
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
pub(super) fn local_address(
    settings: &Settings,
    advertise_peer: &[Endpoint],
) -> Result<Option<IpAddr>, String> {
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

/// HTTPS needs a certificate; a certificate without HTTPS is worth a word.
pub(super) fn check_tls(
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
