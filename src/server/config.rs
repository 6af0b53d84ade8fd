//! What `skiff server` runs with: the settings, typed and checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use skiff_control_plane::files;
use skiff_control_plane::join::ServerUrl;
use skiff_control_plane::join::critical;
use skiff_control_plane::layout::Layout;
use skiff_sql::endpoint::{Endpoint as Datastore, TlsFiles};
use skiff_token::{Bootstrap, Credentials, Password, Token};

use super::address;
use crate::cli::Settings;
use crate::config::Endpoint;
use crate::logging::LogOptions;

/// Flags whose values must be the same on every server, and whose order in lists
/// does not count.
const CRITICAL: &[&str] = &[
    "service-node-port-range",
    "cluster-domain",
    "flannel-backend",
    "flannel-ipv6-masq",
    "flannel-external-ip",
    "egress-selector-mode",
    "disable-cloud-controller",
    "disable-kube-proxy",
    "disable-network-policy",
    "disable-helm-controller",
    "embedded-registry",
];
const CRITICAL_LISTS: &[&str] = &["cluster-cidr", "service-cidr", "cluster-dns", "disable"];

/// What can be left out.
const PACKAGED: [&str; 6] =
    ["coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"];

/// Everything `skiff server` runs with.
pub(super) struct Config {
    /// Where its files are.
    pub(super) layout: Layout,
    /// The node's name.
    pub(super) node: String,
    /// Append this machine's id to it.
    pub(super) with_node_id: bool,
    /// The node's addresses; empty to find out.
    pub(super) node_ips: Vec<IpAddr>,
    /// Its addresses outside of its network.
    pub(super) external_ips: Vec<IpAddr>,
    /// The supervisor's port.
    pub(super) listen: Endpoint,
    /// Where it is reached, if not at the node's address.
    pub(super) advertise: Option<IpAddr>,
    /// The port it is reached at.
    pub(super) advertise_port: u16,
    /// More names in its certificate.
    pub(super) names: Vec<String>,
    /// The servers' token.
    pub(super) token: Option<Token>,
    /// The agents' secret.
    pub(super) agent_token: Option<String>,
    /// The server to join.
    pub(super) server: Option<ServerUrl>,
    /// A database instead of a store of its own.
    pub(super) datastore: Option<Datastore>,
    /// What must be the same on every server.
    pub(super) settings: critical::Settings,
    /// Flags for the store.
    pub(super) etcd_args: Vec<String>,
    /// Serve the store's metrics to others.
    pub(super) expose_metrics: bool,
    /// Serve the supervisor's.
    pub(super) metrics: bool,
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
        contradictions(settings)?;
        let data_dir = PathBuf::from(settings.text("data-dir"));
        let data_dir = std::path::absolute(&data_dir).map_err(|e| format!("--data-dir: {e}"))?;
        let layout = Layout::new(&data_dir);
        let server = match settings.text("server") {
            "" => None,
            text => Some(ServerUrl::parse(text).map_err(|problem| format!("--server: {problem}"))?),
        };
        let token = token(settings)?;
        if server.is_some() && token.is_none() && !layout.token().exists() {
            return Err(
                "--server needs --token or --token-file: the token stands in server/token of that server"
                    .to_owned(),
            );
        }
        let agent_token = secret(settings, "agent-token")?.map(|token| password_of(&token));
        let port = port(settings, "https-listen-port")?;
        Ok(Config {
            node: address::node_name(settings.text("node-name"))?,
            with_node_id: settings.bool("with-node-id"),
            node_ips: addresses(settings, "node-ip")?,
            external_ips: addresses(settings, "node-external-ip")?,
            listen: listen(settings, port)?,
            advertise: addresses(settings, "advertise-address")?.first().copied(),
            advertise_port: match settings.int("advertise-port") {
                0 => port,
                _ => self::port(settings, "advertise-port")?,
            },
            names: settings.list("tls-san"),
            settings: critical(settings, agent_token.as_deref())?,
            datastore: datastore(settings, &layout)?,
            etcd_args: settings.strings("etcd-arg"),
            expose_metrics: settings.bool("etcd-expose-metrics"),
            metrics: settings.bool("supervisor-metrics"),
            log: LogOptions::for_server(
                settings.bool("debug") || settings.int("v") >= 4,
                settings.text("log"),
                settings.bool("alsologtostderr"),
            ),
            warnings: settings.warnings.clone(),
            layout,
            token,
            agent_token,
            server,
        })
    }
}

/// Settings that cannot be together, as with K3s.
fn contradictions(settings: &Settings) -> Result<(), String> {
    let endpoint = !settings.text("datastore-endpoint").is_empty();
    if endpoint && (settings.bool("disable-apiserver") || settings.bool("disable-etcd")) {
        return Err(
            "--disable-apiserver and --disable-etcd cannot be used with --datastore-endpoint".to_owned()
        );
    }
    if endpoint && !settings.text("server").is_empty() {
        return Err("--server cannot be used with --datastore-endpoint: servers of one database find each other by it"
            .to_owned());
    }
    if endpoint && settings.bool("cluster-init") {
        return Err("--cluster-init cannot be used with --datastore-endpoint: the database is the cluster's"
            .to_owned());
    }
    Ok(())
}

/// A secret from its flag or from its file.
pub(crate) fn secret(settings: &Settings, flag: &str) -> Result<Option<Token>, String> {
    let file_flag = format!("{flag}-file");
    let (inline, file) = (settings.text(flag), settings.text(&file_flag));
    let text = match (inline, file) {
        ("", "") => return Ok(None),
        (_, "") => inline.to_owned(),
        ("", path) => files::read_line(Path::new(path))
            .map_err(|e| format!("--{file_flag}: {e}"))?
            .ok_or_else(|| format!("--{file_flag}: {path} is not there"))?,
        _ => return Err(format!("give either --{flag} or --{file_flag}")),
    };
    text.parse().map(Some).map_err(|problem| format!("--{flag}: {problem}"))
}

fn token(settings: &Settings) -> Result<Option<Token>, String> {
    let token = secret(settings, "token")?;
    match &token {
        Some(Token { credentials: Credentials::Bootstrap(_), .. }) => Err(
            "--token has the form of a bootstrap token, which lets agents join for a while: servers need the one in \
             server/token of a server, or one of another form to begin with"
                .to_owned(),
        ),
        _ => Ok(token),
    }
}

/// The secret in a token.
pub(super) fn password_of(token: &Token) -> String {
    match &token.credentials {
        Credentials::Password(Password { password, .. }) => password.clone(),
        Credentials::Bootstrap(Bootstrap { id, secret }) => format!("{id}.{secret}"),
    }
}

pub(crate) fn addresses(settings: &Settings, flag: &str) -> Result<Vec<IpAddr>, String> {
    let parse = |text: &String| text.parse().map_err(|_| format!("--{flag}: {text:?} is no IP address"));
    settings.list(flag).iter().map(parse).collect()
}

pub(crate) fn port(settings: &Settings, flag: &str) -> Result<u16, String> {
    u16::try_from(settings.int(flag))
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("--{flag} is no port"))
}

fn listen(settings: &Settings, port: u16) -> Result<Endpoint, String> {
    let text = settings.text("bind-address");
    let address: IpAddr = text.parse().map_err(|_| format!("--bind-address: {text:?} is no IP address"))?;
    let shown = std::net::SocketAddr::new(address, port);
    Endpoint::parse(&format!("https://{shown}")).map_err(|problem| format!("--bind-address: {problem}"))
}

fn critical(settings: &Settings, agent_token: Option<&str>) -> Result<critical::Settings, String> {
    let disabled = settings.list("disable");
    if let Some(unknown) = disabled.iter().find(|name| !PACKAGED.contains(&name.as_str())) {
        return Err(format!(
            "--disable: there is no component {unknown:?}; there are {}",
            PACKAGED.join(", ")
        ));
    }
    let mut critical = critical::Settings::default();
    for flag in CRITICAL {
        critical.set(flag, settings.text(flag));
    }
    for flag in CRITICAL_LISTS {
        critical.set_list(flag, &settings.list(flag));
    }
    critical.set_agent_token(agent_token);
    Ok(critical)
}

fn datastore(settings: &Settings, layout: &Layout) -> Result<Option<Datastore>, String> {
    let path = |flag: &str| Some(settings.text(flag)).filter(|text| !text.is_empty()).map(PathBuf::from);
    let tls = TlsFiles {
        ca_file: path("datastore-cafile"),
        cert_file: path("datastore-certfile"),
        key_file: path("datastore-keyfile"),
        skip_verify: false,
    };
    let text = match settings.text("datastore-endpoint") {
        "" => return Ok(None),
        "sqlite" | "sqlite://" => format!("sqlite://{}", layout.sqlite().display()),
        text => text.to_owned(),
    };
    match Datastore::parse(&text, tls).map_err(|problem| format!("--datastore-endpoint: {problem}"))? {
        Datastore::Etcd(_) => Err(
            "--datastore-endpoint: an etcd elsewhere is not offered yet; leave it out for the servers' own store, \
             or give a database"
                .to_owned(),
        ),
        datastore => Ok(Some(datastore)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Request;
    use crate::cli::server::SERVER;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let settings = Settings::parse_layers(&SERVER, arguments.iter().map(|a| (*a).to_owned()), []);
        match settings {
            Ok(Request::Run(settings)) => Config::from_settings(&settings),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_defaults_are_k3ss() {
        let config = config(&["--node-name=N1"]).expect("the defaults");
        assert_eq!(config.listen.to_string(), "https://0.0.0.0:6443");
        assert_eq!((config.node.as_str(), config.advertise_port), ("n1", 6443));
        assert_eq!(config.layout.token(), Path::new("/var/lib/skiff/server/token"));
        assert!(config.datastore.is_none() && config.server.is_none() && config.token.is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_and_secrets_are_not_shown() {
        for (wrong, part) in [
            (vec!["--cluster-reset-restore-path=x"], "--cluster-reset-restore-path"),
            (vec!["--cluster-reset"], "--cluster-reset is refused"),
            (
                vec!["--disable-apiserver", "--datastore-endpoint=postgres://u:hunter2@h/d"],
                "--disable-apiserver",
            ),
            (vec!["--disable-etcd"], "--disable-etcd"),
            (vec!["--server=https://a", "--datastore-endpoint=postgres://u:hunter2@h/d"], "--server"),
            (vec!["--server=https://a", "--data-dir=/nonexistent"], "--token"),
            (vec!["--server=http://a", "--token=hunter2"], "--server"),
            (vec!["--token=abcdef.0123456789abcdef"], "bootstrap token"),
            (vec!["--token=hunter2 x"], "white space"),
            (vec!["--token=hunter2", "--token-file=x"], "either"),
            (vec!["--token-file=/nonexistent"], "--token-file"),
            (vec!["--node-ip=here"], "--node-ip"),
            (vec!["--bind-address=host"], "--bind-address"),
            (vec!["--https-listen-port=0"], "--https-listen-port"),
            (vec!["--disable=cordens"], "coredns"),
            (vec!["--node-name=a_b"], "--node-name"),
            (vec!["--datastore-endpoint=http://a:2379"], "not offered"),
            (vec!["--secrets-encryption"], "--secrets-encryption is refused"),
        ] {
            let error = config(&wrong).err().unwrap_or_else(|| panic!("{wrong:?} was taken"));
            assert!(error.contains(part), "{wrong:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn every_setting_that_must_be_the_same_is_compared() {
        let of = |arguments: &[&str]| config(arguments).expect("good").settings;
        let plain = of(&[]);
        for flag in CRITICAL.iter().chain(CRITICAL_LISTS) {
            let other = match *flag {
                "flannel-backend" => "host-gw",
                "egress-selector-mode" => "pod",
                "disable" => "traefik",
                "flannel-ipv6-masq" | "flannel-external-ip" | "embedded-registry" => "true",
                name if name.starts_with("disable-") => "true",
                _ => "other",
            };
            let differences = of(&[&format!("--{flag}={other}")]).differences(&plain);
            assert_eq!(differences.len(), 1, "{flag}");
            assert_eq!(differences[0].flag, *flag);
        }
    }
}
