//! Servers that join, and which there are.
//!
//! A server's name is kept for it by a record, from before it is added until it
//! is no member any more. `instance` tells the same server that asks again from
//! another one of its name.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{ApiError, Error, NodeError};

use super::access::ServerAccess;
use super::body::Json;
use super::{Refusal, Supervisor, certificates};
use crate::bootstrap::Bundle;
use crate::records::{Change, Record, Records};

/// Where the records stand, by the nodes' names.
const PREFIX: &str = "/skiff/server/";
/// A name that was kept for a server which was not added then is free again.
const ABANDONED: Duration = Duration::from_secs(30);
/// Most URLs of a member.
const MAX_URLS: usize = 8;

/// What a server that wants to join says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberRequest {
    /// The node's name.
    pub node: String,
    /// The name of its store: it stays the same however often it asks.
    pub instance: String,
    /// Where its store is reached by the others.
    pub peer_urls: Vec<String>,
    /// Where its supervisor is reached: host and port.
    pub address: String,
}

/// A member of the store, as one that joins must know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinedMember {
    /// Its name; empty until it has started.
    pub name: String,
    /// Where it is reached.
    pub peer_urls: Vec<String>,
}

/// The answer to one that may join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberReply {
    /// All members, the new one among them.
    pub members: Vec<JoinedMember>,
}

/// What is kept of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// Which server of that name.
    pub instance: String,
    /// Its id in the store; 0 until it is added, and over a database.
    pub id: u64,
    /// Where its supervisor is reached.
    pub address: String,
    /// When it was written, in seconds since 1970.
    pub written: u64,
}

impl Member {
    fn read(record: &Record) -> Result<Member, Refusal> {
        serde_json::from_slice(&record.value)
            .map_err(|e| Refusal::internal(format!("the record of a server is damaged: {e}")))
    }

    fn text(&self) -> Result<Bytes, Error> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|e| Error::Other(e.to_string()))
    }

    fn age(&self) -> Duration {
        Duration::from_secs(now().saturating_sub(self.written))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Writes down that this server is there, as a part of the cluster.
///
/// # Errors
/// The store's.
pub async fn announce(
    records: &Records,
    node: &str,
    instance: &str,
    id: u64,
    address: &str,
) -> Result<(), Error> {
    let member = Member { instance: instance.to_owned(), id, address: address.to_owned(), written: now() };
    records.change(&[Change::Put(format!("{PREFIX}{node}"), member.text()?)]).await.map(drop)
}

/// The servers that take part, by their nodes' names.
pub(super) async fn registered(supervisor: &Supervisor) -> Result<BTreeMap<String, Member>, Refusal> {
    let records = supervisor.records.list(PREFIX).await.map_err(|e| Refusal::of_store(&e))?;
    let members = match &supervisor.cluster {
        Some(cluster) => Some(cluster.members(false).await.map_err(|e| Refusal::of_store(&e))?),
        None => None,
    };
    let mut registered = BTreeMap::new();
    for (node, record) in records {
        let member = Member::read(&record)?;
        let takes_part =
            members.as_ref().is_none_or(|all| all.iter().any(|m| m.id == member.id && !m.is_learner));
        if takes_part {
            registered.insert(node, member);
        }
    }
    Ok(registered)
}

/// Tells the store's members.
pub(super) async fn list(access: ServerAccess) -> Result<Json<MemberReply>, Refusal> {
    let cluster = access.supervisor.cluster.as_ref().ok_or_else(no_members)?;
    let members = cluster.members(true).await.map_err(|e| Refusal::of_store(&e))?;
    Ok(Json(reply(&members, &[], "")))
}

fn no_members() -> Refusal {
    Refusal::conflict(
        "the servers of this cluster keep their data in a database and have no members: start the new one with \
         the same --datastore-endpoint and --token, without --server",
    )
}

/// Gives what servers share.
pub(super) async fn bootstrap(access: ServerAccess) -> Result<Vec<u8>, Refusal> {
    let supervisor = &access.supervisor;
    let bundle = Bundle::of(&supervisor.pki, &supervisor.secrets.current()).map_err(Refusal::internal)?;
    bundle.text().map_err(Refusal::internal)
}

/// Adds a server's store as a learner. Asked again by the same server it answers
/// the same.
pub(super) async fn join(
    access: ServerAccess,
    Json(request): Json<MemberRequest>,
) -> Result<Json<MemberReply>, Refusal> {
    let supervisor = &access.supervisor;
    let cluster = supervisor.cluster.as_ref().ok_or_else(no_members)?;
    certificates::check_name(&request.node)?;
    check(&request)?;
    let members = cluster.members(true).await.map_err(|e| Refusal::of_store(&e))?;
    let key = format!("{PREFIX}{}", request.node);
    let records = &supervisor.records;
    let found = records.get(&key).await.map_err(|e| Refusal::of_store(&e))?;
    let known = found.as_ref().map(Member::read).transpose()?;
    if let Some(known) = &known {
        let joined = members.iter().find(|member| member.id == known.id);
        match joined {
            Some(joined) if known.instance == request.instance && joined.peer_ur_ls == request.peer_urls => {
                return Ok(Json(reply(&members, &request.peer_urls, &request.instance)));
            }
            Some(joined) => return Err(taken(&request, joined.id)),
            None if known.instance != request.instance && known.id == 0 && known.age() < ABANDONED => {
                return Err(Refusal::unavailable(format!(
                    "a server of the name {} is joining at this moment; if it is another one, choose another \
                     --node-name",
                    request.node
                )));
            }
            None => {}
        }
    }
    check_free(&members, &request)?;
    let member = Member {
        instance: request.instance.clone(),
        id: 0,
        address: request.address.clone(),
        written: now(),
    };
    keep_name(records, &key, found.as_ref(), &member).await?;
    match cluster.add(request.peer_urls.clone(), true).await {
        Ok((added, members)) => {
            let member = Member { id: added.id, ..member };
            let change = Change::Put(key, member.text().map_err(Refusal::internal)?);
            records.change(&[change]).await.map_err(|e| Refusal::of_store(&e))?;
            tracing::info!(
                node = request.node,
                member = format!("{:x}", added.id),
                "a server joins, as a learner"
            );
            Ok(Json(reply(&members, &request.peer_urls, &request.instance)))
        }
        Err(error) => Err(not_added(&request, &error)),
    }
}

/// Keeps the name for this server, unless another one was faster.
async fn keep_name(
    records: &Records,
    key: &str,
    found: Option<&Record>,
    member: &Member,
) -> Result<(), Refusal> {
    let text = member.text().map_err(Refusal::internal)?;
    let expected = Change::Expect(key.to_owned(), found.map_or(0, |record| record.revision));
    let kept = records.change(&[expected, Change::Put(key.to_owned(), text)]).await;
    match kept.map_err(|e| Refusal::of_store(&e))? {
        true => Ok(()),
        false => Err(Refusal::unavailable("another server of that name is joining at this moment")),
    }
}

fn check(request: &MemberRequest) -> Result<(), Refusal> {
    let sane = |text: &String| !text.is_empty() && text.len() <= 512 && !text.chars().any(char::is_control);
    let urls = &request.peer_urls;
    let good_urls = (1..=MAX_URLS).contains(&urls.len())
        && urls.iter().all(|url| sane(url) && url.starts_with("https://"));
    if !good_urls || !sane(&request.instance) || !sane(&request.address) {
        return Err(Refusal::bad_request("what the server says of itself is malformed"));
    }
    // As the store keeps them, so that they compare.
    if !urls.is_sorted() {
        return Err(Refusal::bad_request("the peer URLs must be sorted"));
    }
    Ok(())
}

/// A store of that address, or begun under that name without a record, is another
/// server's.
fn check_free(members: &[pb::Member], request: &MemberRequest) -> Result<(), Refusal> {
    let at =
        members.iter().find(|member| member.peer_ur_ls.iter().any(|url| request.peer_urls.contains(url)));
    match at {
        None => Ok(()),
        Some(member) => Err(Refusal::conflict(format!(
            "the cluster has a member at {} already ({:x}{}): if that server is gone for good, remove it with \
             `etcdctl member remove {:x}` on another server; else give this one its own --node-ip",
            request.peer_urls.join(", "),
            member.id,
            if member.name.is_empty() { String::new() } else { format!(", {}", member.name) },
            member.id,
        ))),
    }
}

fn taken(request: &MemberRequest, id: u64) -> Refusal {
    Refusal::conflict(format!(
        "the name {} is another server's: choose another --node-name; or, if that server is gone for good, remove \
         it with `etcdctl member remove {id:x}` on another server and start again",
        request.node
    ))
}

fn not_added(request: &MemberRequest, error: &Error) -> Refusal {
    match error {
        Error::Api(ApiError::TooManyLearners) => {
            Refusal::unavailable("another server is joining; this one is added after it")
        }
        Error::Api(ApiError::PeerUrlExists | ApiError::MemberExists) => {
            Refusal::unavailable(format!("a member at {} was added meanwhile", request.peer_urls.join(", ")))
        }
        Error::Node(NodeError::UnhealthyCluster) | Error::Api(ApiError::NotEnoughStartedMembers) => {
            Refusal::unavailable("not all members of the cluster are well; the server is added when they are")
        }
        error => Refusal::of_store(error),
    }
}

fn reply(members: &[pb::Member], own: &[String], instance: &str) -> MemberReply {
    let named = members.iter().map(|member| JoinedMember {
        name: if !own.is_empty() && member.peer_ur_ls == own {
            instance.to_owned()
        } else {
            member.name.clone()
        },
        peer_urls: member.peer_ur_ls.clone(),
    });
    MemberReply { members: named.collect() }
}
