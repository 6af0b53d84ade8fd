//! The store as a part of a server: `skiff etcd` with the server's own
//! certificates, at K3s's ports.

use std::net::{IpAddr, SocketAddr};

use skiff_control_plane::files;
use skiff_control_plane::layout::Layout;
use skiff_control_plane::pki::{Ca, Pki};
use skiff_control_plane::supervisor::JoinedMember;
use skiff_control_plane::token::random;

use crate::cli::{Request, Settings};
use crate::config::Config as EtcdConfig;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
const METRICS_PORT: u16 = 2381;

/// Where a store is.
pub(super) struct Place {
    /// Its name.
    pub(super) name: String,
    /// Its host's address.
    pub(super) address: IpAddr,
}

impl Place {
    /// Where clients reach it.
    pub(super) fn client_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, CLIENT_PORT))
    }

    /// Where peers reach it.
    pub(super) fn peer_url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, PEER_PORT))
    }
}

/// The name of this server's store: the node's and a random part, the same at
/// every start.
///
/// # Errors
/// A sentence: it can be neither read nor written.
pub(super) fn name(layout: &Layout, node: &str) -> Result<String, String> {
    if let Some(name) = files::read_line(&layout.member_name())?.filter(|name| !name.is_empty()) {
        return Ok(name);
    }
    let name = format!("{node}-{}", random::hex::<4>()?);
    files::write(&layout.member_name(), name.as_bytes())?;
    Ok(name)
}

/// The settings of the store. `members` are those of the cluster it joins.
///
/// # Errors
/// A sentence, naming --etcd-arg where that is wrong.
pub(super) fn settings(
    layout: &Layout,
    pki: &Pki,
    place: &Place,
    members: Option<&[JoinedMember]>,
    expose_metrics: bool,
    more: &[String],
) -> Result<EtcdConfig, String> {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let listen = |own: String, port| match place.address == local(port).ip() {
        true => own,
        false => format!("{own},https://{}", local(port)),
    };
    let metrics = match expose_metrics {
        true => {
            format!("http://{},http://{}", local(METRICS_PORT), SocketAddr::new(place.address, METRICS_PORT))
        }
        false => format!("http://{}", local(METRICS_PORT)),
    };
    let (state, cluster) = match members {
        Some(members) => ("existing", cluster_of(members)),
        None => ("new", format!("{}={}", place.name, place.peer_url())),
    };
    let file = |path: &str, ending: &str| pki.file(path, ending).display().to_string();
    let flags = [
        ("name", place.name.clone()),
        ("data-dir", layout.etcd().display().to_string()),
        ("listen-client-urls", listen(place.client_url(), CLIENT_PORT)),
        ("advertise-client-urls", place.client_url()),
        ("listen-peer-urls", listen(place.peer_url(), PEER_PORT)),
        ("initial-advertise-peer-urls", place.peer_url()),
        ("listen-metrics-urls", metrics),
        ("initial-cluster", cluster),
        ("initial-cluster-state", state.to_owned()),
        ("cert-file", file("etcd/server-client", "crt")),
        ("key-file", file("etcd/server-client", "key")),
        ("trusted-ca-file", file(Ca::EtcdServer.path(), "crt")),
        ("client-cert-auth", "true".to_owned()),
        ("peer-cert-file", file("etcd/peer-server-client", "crt")),
        ("peer-key-file", file("etcd/peer-server-client", "key")),
        ("peer-trusted-ca-file", file(Ca::EtcdPeer.path(), "crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        // That authority certifies nobody but servers, which may come from any of
        // their addresses, or through a gateway.
        ("peer-skip-client-san-verification", "true".to_owned()),
    ];
    let own = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let more = more.iter().map(|text| format!("--{}", text.trim_start_matches('-')));
    let wrong = |problem: String| match more.len() {
        0 => problem,
        _ => format!("the store's settings, --etcd-arg among them: {problem}"),
    };
    match Settings::parse(own.chain(more.clone()), []) {
        Ok(Request::Run(settings)) => EtcdConfig::from_settings(&settings).map_err(wrong),
        Ok(_) => Err("--etcd-arg must not ask for help or the version".to_owned()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn cluster_of(members: &[JoinedMember]) -> String {
    let mut parts = Vec::new();
    for (index, member) in members.iter().enumerate() {
        for url in &member.peer_urls {
            // One that has not started yet has no name.
            match member.name.as_str() {
                "" => parts.push(format!("unnamed-{index}={url}")),
                name => parts.push(format!("{name}={url}")),
            }
        }
    }
    parts.join(",")
}
