//! The asking side: all peers of this member.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use tonic::{Code, Status};

use super::faults::Faults;
use super::identity::{Identity, RefusalKind};
use super::link::{Lane, Link, describe};
use super::metrics::hex;
use super::options::TransportOptions;
use super::tls::PeerTls;
use super::url::PeerUrl;
use crate::pb::skiff::raft::v1::request::Ask;
use crate::peer::{CallError, PeerClient, Reply, Request};
use crate::types::MemberNode;

/// URLs of one member that are tried.
const MAX_URLS: usize = 16;

/// What a [`Transport`] is made of.
#[derive(Default)]
pub struct TransportConfig {
    /// Cluster of this member; 0 before it is known.
    pub cluster_id: u64,
    /// This member; 0 before it is known.
    pub member_id: u64,
    /// TLS for `https` URLs; without it they cannot be reached.
    pub tls: Option<Arc<dyn PeerTls>>,
    /// Limits and times.
    pub options: TransportOptions,
    /// Faults on the way; tests only.
    pub faults: Option<Arc<Faults>>,
}

/// Connections from this member to its peers, opened when they are needed.
///
/// Serves openraft as its network (for `Arc<Transport>`) and the node as its
/// [`PeerClient`].
pub struct Transport {
    cluster_id: u64,
    member_id: u64,
    tls: Option<Arc<dyn PeerTls>>,
    options: Arc<TransportOptions>,
    faults: Option<Arc<Faults>>,
    links: RwLock<HashMap<u64, Arc<Link>>>,
}

impl Transport {
    /// A transport without connections.
    pub fn new(config: TransportConfig) -> Arc<Self> {
        Arc::new(Transport {
            cluster_id: config.cluster_id,
            member_id: config.member_id,
            tls: config.tls,
            options: Arc::new(config.options),
            faults: config.faults,
            links: RwLock::default(),
        })
    }

    /// The members of the cluster as of now: peers that are no longer among
    /// them are forgotten, and new URLs are used from now on.
    pub fn set_members<'a>(&self, members: impl IntoIterator<Item = (u64, &'a MemberNode)>) {
        let members: HashMap<u64, &MemberNode> = members.into_iter().collect();
        self.links.write().retain(|id, _| members.contains_key(id));
        for (id, node) in members {
            if id != self.member_id {
                self.link(id, node);
            }
        }
    }

    /// True if the peer answered the last call made to it.
    pub fn is_active(&self, member: u64) -> bool {
        self.links.read().get(&member).is_some_and(|link| link.is_active())
    }

    /// The connections to a member, whose URLs are now those of `node`.
    pub(crate) fn link(&self, member: u64, node: &MemberNode) -> Arc<Link> {
        let known = self.links.read().get(&member).cloned();
        let same = |link: &Arc<Link>| {
            let urls = link.urls();
            urls.len() == node.peer_urls.len()
                && urls.iter().zip(&node.peer_urls).all(|(a, b)| a.to_string() == *b)
        };
        if let Some(link) = known.filter(same) {
            return link;
        }
        let urls = parse_urls(member, &node.peer_urls);
        let mut links = self.links.write();
        let link = links.entry(member).or_insert_with(|| Arc::new(self.new_link(member, urls.clone())));
        link.set_urls(urls);
        link.clone()
    }

    fn new_link(&self, member: u64, urls: Vec<PeerUrl>) -> Link {
        let identity = Identity::new(self.cluster_id, self.member_id, member);
        Link::new(identity, urls, self.tls.clone(), self.options.clone(), self.faults.clone())
    }

    async fn ask(&self, link: &Link, request: Request, timeout: Duration) -> Result<Reply, CallError> {
        let mut client = link.client(lane(&request));
        let reply = link.call(request, timeout, |request| async move { client.call(request).await }).await;
        reply.map_err(|status| call_error(&status))
    }
}

/// Questions a leader must answer fast do not queue behind clients' writes.
fn lane(request: &Request) -> Lane {
    match request.ask {
        Some(Ask::ReadIndex(_) | Ask::MemberStatus(_) | Ask::ClusterInfo(_)) => Lane::Control,
        _ => Lane::Forward,
    }
}

/// The usable URLs of a member. Membership holds what an operator wrote.
fn parse_urls(member: u64, urls: &[String]) -> Vec<PeerUrl> {
    let parse = |url: &String| match url.parse() {
        Ok(url) => Some(url),
        Err(error) => {
            tracing::warn!(peer = hex(member), %error, "ignoring a peer URL");
            None
        }
    };
    urls.iter().filter_map(parse).take(MAX_URLS).collect()
}

/// True if the call failed before anything was sent.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn call_error(status: &Status) -> CallError {
    let refusal = RefusalKind::of(status);
    if refusal == Some(RefusalKind::Removed) {
        CallError::Removed
    } else if refusal.is_some() {
        CallError::Refused(status.message().to_owned())
    } else if status.code() == Code::DeadlineExceeded {
        CallError::Timeout
    } else if never_sent(status) {
        CallError::Unreachable(describe(status))
    } else {
        CallError::Lost(describe(status))
    }
}

#[async_trait]
impl PeerClient for Transport {
    async fn call(
        &self,
        member: u64,
        node: &MemberNode,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        self.ask(&self.link(member, node), request, timeout).await
    }

    async fn call_url(&self, url: &str, request: Request, timeout: Duration) -> Result<Reply, CallError> {
        let url = url.parse::<PeerUrl>().map_err(|error| CallError::Unreachable(error.to_string()))?;
        self.ask(&self.new_link(0, vec![url]), request, timeout).await
    }

    fn set_members(&self, members: &[(u64, MemberNode)]) {
        Transport::set_members(self, members.iter().map(|(id, node)| (*id, node)));
    }

    fn is_active(&self, member: u64) -> bool {
        Transport::is_active(self, member)
    }
}
