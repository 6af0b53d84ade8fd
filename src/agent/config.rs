//! What `skiff agent` runs with: the settings, typed and checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use skiff_agent::ServerAddress;
use skiff_control_plane::join::ServerUrl;
use skiff_token::Token;

use crate::cli::Settings;
use crate::cli::agent::AGENT;
use crate::logging::LogOptions;
use crate::server::address;
use crate::server::config::{addresses, port, secret};

/// Where a node's password and id are with the default data folder: outside of it, so that
/// they outlive it.
const NODE_DIR: &str = "/etc/skiff/node";

/// Everything `skiff agent` runs with.
pub(super) struct Config {
    /// The server to join by, as it was given, and where that is.
    pub(super) url: ServerUrl,
    pub(super) server: ServerAddress,
    /// The right to join.
    pub(super) token: Token,
    /// The node's name.
    pub(super) node: String,
    /// Append this machine's id to it.
    pub(super) with_node_id: bool,
    /// The node's addresses; empty to find out.
    pub(super) node_ips: Vec<IpAddr>,
    /// The balancer's port.
    pub(super) balancer_port: u16,
    /// The agent's files.
    pub(super) dir: PathBuf,
    /// The node's password and id.
    pub(super) node_dir: PathBuf,
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
        let url = settings.text("server");
        if url.is_empty() {
            return Err("--server is missing: the URL of a server, such as https://server:6443".to_owned());
        }
        let token = secret(settings, "token")?.ok_or(
            "--token or --token-file is missing: the token stands in server/token or server/agent-token of a server",
        )?;
        let data_dir =
            std::path::absolute(settings.text("data-dir")).map_err(|e| format!("--data-dir: {e}"))?;
        let default = AGENT.find("data-dir").map_or("", |flag| flag.default);
        let node_dir = match data_dir == Path::new(default) {
            true => PathBuf::from(NODE_DIR),
            false => data_dir.join("node"),
        };
        Ok(Config {
            url: ServerUrl::parse(url).map_err(|problem| format!("--server: {problem}"))?,
            server: ServerAddress::from_url(url).map_err(|problem| format!("--server: {problem}"))?,
            token,
            node: address::node_name(settings.text("node-name"))?,
            with_node_id: settings.bool("with-node-id"),
            node_ips: addresses(settings, "node-ip")?,
            balancer_port: port(settings, "lb-server-port")?,
            dir: data_dir.join("agent"),
            node_dir,
            log: LogOptions::for_server(
                settings.bool("debug") || settings.int("v") >= 4,
                settings.text("log"),
                settings.bool("alsologtostderr"),
            ),
            warnings: settings.warnings.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Request;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = arguments.iter().map(|a| (*a).to_owned());
        match Settings::parse_layers(&AGENT, arguments, []) {
            Ok(Request::Run(settings)) => Config::from_settings(&settings),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_server_and_a_token_are_enough() {
        let config = config(&["--server=https://a", "--token=x", "--node-name=N1"]).expect("good");
        assert_eq!((config.server.to_string().as_str(), config.balancer_port), ("a:6443", 6444));
        assert_eq!(config.dir, Path::new("/var/lib/skiff/agent"));
        assert_eq!(config.node_dir, Path::new(NODE_DIR));
        let config =
            super::tests::config(&["--server=https://a", "--token=x", "--data-dir=/d"]).expect("good");
        assert_eq!(config.node_dir, Path::new("/d/node"));
    }

    #[test]
    fn what_cannot_be_is_refused_and_secrets_are_not_shown() {
        for (wrong, part) in [
            (vec!["--token=hunter2"], "--server"),
            (vec!["--server=https://a"], "--token"),
            (vec!["--server=http://a", "--token=hunter2"], "--server"),
            (vec!["--server=https://a", "--token=hunter2 x"], "white space"),
            (vec!["--server=https://a", "--token=hunter2", "--token-file=x"], "either"),
            (vec!["--server=https://a", "--token=hunter2", "--node-ip=here"], "--node-ip"),
            (vec!["--server=https://a", "--token=hunter2", "--lb-server-port=0"], "--lb-server-port"),
            (vec!["--server=https://a", "--token=hunter2", "--node-name=a_b"], "--node-name"),
        ] {
            let error = config(&wrong).err().unwrap_or_else(|| panic!("{wrong:?} was taken"));
            assert!(error.contains(part), "{wrong:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
