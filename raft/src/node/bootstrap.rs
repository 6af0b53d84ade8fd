//! Who this member is: from its data directory, or, at the first start, from
//! the initial cluster or the running one.

use std::collections::BTreeMap;
use std::time::Duration;

use skiff_store::error::{Error, Result};

use super::config::{InitialState, NodeConfig};
use super::log_place;
use crate::disk::Disk;
use crate::identity;
use crate::metadata::Metadata;
use crate::pb::skiff::raft::v1::{ClusterInfo, ClusterInfoReply, reply::Answer, request::Ask};
use crate::peer::{PeerClient, Request};
use crate::types::MemberNode;

/// How long one peer may take to describe its cluster.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who this member is, and what to do to start.
pub(crate) struct Bootstrap {
    pub(crate) metadata: Metadata,
    /// The members to initialize the log with; none if it has one, or gets it.
    pub(crate) initial: Option<BTreeMap<u64, MemberNode>>,
}

/// Finds out who this member is, and writes it down.
pub(super) async fn bootstrap(
    config: &NodeConfig,
    peers: &dyn PeerClient,
    disk: &dyn Disk,
) -> Result<Bootstrap> {
    let dir = config.data_dir.join("member");
    let failed = |e: std::io::Error| Error::Storage(format!("{}: {e}", dir.display()));
    create_private(&dir).map_err(failed)?;
    if let Some(metadata) = Metadata::load(&dir)? {
        if metadata.removed.contains(&metadata.member_id) {
            return Err(Error::Other(
                "the member has been permanently removed from the cluster; its data directory must be \
                 removed before it can join again under a new id"
                    .into(),
            ));
        }
        // Of use only if the process died before the log was initialized.
        let initial = match config.initial_state {
            InitialState::New => new_members(config).ok().filter(|m| m.contains_key(&metadata.member_id)),
            InitialState::Existing => None,
        };
        return Ok(Bootstrap { metadata, initial });
    }
    if dir.join("wal").exists() || dir.join("state").exists() {
        return Err(Error::Corruption(format!(
            "{}: metadata is missing beside a log or state",
            dir.display()
        )));
    }
    log_place::check_vacant(config, disk)?;
    let bootstrap = match config.initial_state {
        InitialState::New => {
            let bootstrap = new(config)?;
            refuse_second_life(config, peers, bootstrap.metadata.member_id).await?;
            bootstrap
        }
        InitialState::Existing => existing(config, peers).await?,
    };
    bootstrap.metadata.save(&dir)?;
    Ok(bootstrap)
}

fn new_members(config: &NodeConfig) -> Result<BTreeMap<u64, MemberNode>> {
    let members = identity::initial_members(&config.initial_cluster, &config.initial_cluster_token);
    if members.len() != config.initial_cluster.len() {
        return Err(Error::Other("two members of the initial cluster have the same peer URLs".into()));
    }
    Ok(members
        .into_iter()
        .map(|(id, peer_urls)| (id, MemberNode { peer_urls, wanted_voter: true }))
        .collect())
}

/// A member of a new cluster, by its settings alone.
pub(crate) fn new(config: &NodeConfig) -> Result<Bootstrap> {
    let members = new_members(config)?;
    let own = config.initial_cluster.iter().find(|(name, _)| *name == config.name);
    let Some((_, urls)) = own else {
        return Err(Error::Other(format!(
            "couldn't find local name {:?} in the initial cluster configuration",
            config.name
        )));
    };
    let metadata = Metadata {
        cluster_id: identity::cluster_id(members.keys().copied()),
        member_id: identity::member_id(urls, &config.initial_cluster_token, None),
        removed: Default::default(),
        forced: false,
        log_dir: config.wal_dir.clone(),
    };
    Ok(Bootstrap { metadata, initial: Some(members) })
}

/// Refuses to begin anew as a member the others know as started: an id stands
/// for one log, and a member that lost its log could take back what it has
/// promised. As in etcd, the member must be removed and added again.
async fn refuse_second_life(config: &NodeConfig, peers: &dyn PeerClient, own: u64) -> Result<()> {
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    let asked = others.flat_map(|(_, urls)| urls).map(|url| {
        let ask = Ask::ClusterInfo(ClusterInfo { linearizable: false });
        peers.call_url(url, Request { ask: Some(ask) }, PATIENCE)
    });
    for reply in futures::future::join_all(asked).await {
        let Ok(Some(Answer::ClusterInfo(info))) = reply.map(|reply| reply.answer) else { continue };
        if info.removed.contains(&own) {
            return Err(Error::Other("the member has been permanently removed from the cluster".into()));
        }
        if info.members.iter().any(|member| member.id == own && !member.name.is_empty()) {
            return Err(Error::Other(format!("member {own:x} has already been bootstrapped")));
        }
    }
    Ok(())
}

async fn existing(config: &NodeConfig, peers: &dyn PeerClient) -> Result<Bootstrap> {
    let info = ask_anyone(config, peers).await?;
    let own = sorted(&config.advertise_peer_urls);
    let member = info.members.iter().find(|member| sorted(&member.peer_ur_ls) == own);
    let Some(member) = member else {
        return Err(Error::Other(format!(
            "the running cluster has no member with the peer URLs {}: add it first",
            own.join(",")
        )));
    };
    let metadata = Metadata {
        cluster_id: info.cluster_id,
        member_id: member.id,
        removed: info.removed.into_iter().collect(),
        forced: false,
        log_dir: config.wal_dir.clone(),
    };
    Ok(Bootstrap { metadata, initial: None })
}

/// Asks the other members of the initial cluster, in turn, until one answers.
async fn ask_anyone(config: &NodeConfig, peers: &dyn PeerClient) -> Result<ClusterInfoReply> {
    let own = sorted(&config.advertise_peer_urls);
    let mut last = "no other member is listed in the initial cluster".to_string();
    // A leader may just be missing: the cluster's members are asked twice.
    for linearizable in [true, false] {
        for (name, urls) in &config.initial_cluster {
            if *name == config.name || sorted(urls) == own {
                continue;
            }
            for url in urls {
                let ask = Ask::ClusterInfo(ClusterInfo { linearizable });
                match peers.call_url(url, Request { ask: Some(ask) }, PATIENCE).await {
                    Ok(reply) => match reply.answer {
                        Some(Answer::ClusterInfo(info)) => return Ok(info),
                        other => last = format!("{url}: {other:?}"),
                    },
                    Err(error) => last = format!("{url}: {error}"),
                }
            }
        }
    }
    Err(Error::Other(format!("cannot fetch cluster info from peer urls: {last}")))
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

/// Creates a directory only its owner can read: it holds every secret.
pub(crate) fn create_private(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
