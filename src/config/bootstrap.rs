//! The cluster a member starts with.

use std::collections::BTreeMap;

use super::Endpoint;
use crate::cli::Settings;

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

/// What the flags for a start say.
pub(super) fn bootstrap(
    settings: &Settings,
    name: &str,
    advertise_peer: &[Endpoint],
) -> Result<Bootstrap, String> {
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
