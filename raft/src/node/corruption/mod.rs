//! Do the members hold the same data? Compares their hashes, as etcd does.
//!
//! * [`initial`]: before serving; a member that differs from its peers refuses
//!   to start.
//! * [`periodic`]: the leader compares everybody's newest state, now and then.
//! * [`at_compactions`]: the leader compares the hashes that members keep of
//!   their last compactions, which are made at the same revision everywhere.
//!
//! What a mismatch means is decided in [`judge`], without I/O; it raises the
//! alarm CORRUPT, which refuses changes until an operator ends it.
//!
//! Not here: repair. Which member is right is for an operator to decide.

mod book;
mod judge;

use std::sync::Arc;
use std::time::Duration;

use skiff_store::api::{Read, ReadReply};
use skiff_store::error::{ApiError, Error, Result};
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, command::Op};

pub(crate) use self::book::HashBook;
use self::judge::Peer;
use super::core::Core;
use super::store::blocking;
use super::wire;
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{reply::Answer, request::Ask};
use crate::peer::{PeerClient, Request};
use crate::types::{MemberNode, StoredMembership};

/// Hashes this member's state at a revision; 0 for the newest.
pub(crate) async fn hash(mvcc: &Arc<Mvcc>, revision: i64) -> Result<pb::HashKvResponse> {
    let mvcc = mvcc.clone();
    let read = Read::HashKv(pb::HashKvRequest { revision });
    match blocking(move || mvcc.read(None, &read)).await? {
        ReadReply::HashKv(reply) => Ok(reply),
        other => Err(Error::Other(format!("the store answered a hash with {other:?}"))),
    }
}

/// Answers a peer: what was noted at a compaction, or a hash made now.
pub(crate) async fn answer(core: &Core, request: pb::HashKvRequest) -> Result<pb::HashKvResponse> {
    match core.hashes.find(request.revision) {
        Some(noted) => Ok(noted.response(core.shared.mvcc.revision())),
        None => hash(&core.shared.mvcc, request.revision).await,
    }
}

/// Notes the hash at the last compaction, once it is complete.
pub(crate) async fn note_compaction(core: &Core) {
    if !core.config.compact_hash_check {
        return;
    }
    let revision = core.shared.mvcc.compact_revision();
    if revision <= 0 || core.hashes.find(revision).is_some() {
        return;
    }
    let epoch = core.hashes.epoch();
    match hash(&core.shared.mvcc, revision).await {
        Ok(reply) => core.hashes.note(epoch, &reply),
        // The next compaction came meanwhile: it is noted in its turn.
        Err(Error::Api(ApiError::Compacted)) => {}
        Err(error) => tracing::warn!(%error, revision, "cannot hash what a compaction left"),
    }
}

/// Compares this member's state with its peers' before it serves anybody.
///
/// # Errors
/// In etcd's words, where a peer holds something else at the same revision and
/// after the same compaction. Peers that do not answer, or are elsewhere, pass.
pub(crate) async fn initial(
    mvcc: &Arc<Mvcc>,
    own: u64,
    members: &StoredMembership,
    peers: &dyn PeerClient,
    patience: Duration,
) -> Result<()> {
    let here = hash(mvcc, 0).await?;
    let revision = here.hash_revision;
    tracing::info!(revision, "starting initial corruption check");
    let others = members.nodes().filter(|(id, _)| **id != own);
    let asked = others.map(|(id, node)| async move {
        let reply = ask(peers, *id, node, revision, patience).await;
        (*id, reply)
    });
    let mut differ = Vec::new();
    for (peer, reply) in futures::future::join_all(asked).await {
        match reply {
            Ok(reply) if reply.compact_revision != here.compact_revision => {
                tracing::warn!(peer = hex(peer), "found different compact revision values from remote peer");
            }
            Ok(reply) if reply.hash != here.hash => {
                tracing::error!(
                    peer = hex(peer),
                    revision,
                    own_hash = here.hash,
                    peer_hash = reply.hash,
                    "found different hash values from remote peer"
                );
                differ.push(peer);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(peer = hex(peer), %error, "cannot fetch hash from remote peer"),
        }
    }
    if !differ.is_empty() {
        return Err(Error::Other(format!(
            "{} found data inconsistency with peers (at revision {revision}, with {}): remove this member and \
             add it again with an empty data directory, or restore a snapshot",
            hex(own),
            differ.into_iter().map(hex).collect::<Vec<_>>().join(", ")
        )));
    }
    tracing::info!("initial corruption checking passed; no corruption");
    Ok(())
}

async fn ask(
    peers: &dyn PeerClient,
    id: u64,
    node: &MemberNode,
    revision: i64,
    patience: Duration,
) -> Result<pb::HashKvResponse> {
    let request = Request { ask: Some(Ask::HashKv(pb::HashKvRequest { revision })) };
    let reply = peers.call(id, node, request, patience).await.map_err(|e| Error::Other(e.to_string()))?;
    read_answer(reply.answer)
}

fn read_answer(answer: Option<Answer>) -> Result<pb::HashKvResponse> {
    match answer {
        Some(Answer::HashKv(reply)) => Ok(reply),
        Some(Answer::Error(error)) => Err(wire::decode_error(error)),
        _ => Err(Error::Other("a peer answered another question".into())),
    }
}

/// Asks all other members for their hash at a revision; answers those that
/// answered, and how many were asked.
async fn ask_all(core: &Arc<Core>, revision: i64) -> (Vec<Peer>, usize) {
    let membership = core.membership();
    let others: Vec<u64> = membership.nodes().map(|(id, _)| *id).filter(|id| *id != core.member_id).collect();
    let count = others.len();
    let asked = others.into_iter().map(|id| async move {
        let ask = Ask::HashKv(pb::HashKvRequest { revision });
        let answer = core.call(id, ask, core.config.request_timeout()).await;
        (id, answer.map_err(|e| Error::Other(e.to_string())).and_then(|answer| read_answer(Some(answer))))
    });
    let mut peers = Vec::new();
    for (id, reply) in futures::future::join_all(asked).await {
        match reply {
            Ok(reply) => peers.push(Peer::new(id, &reply)),
            Err(error) => tracing::debug!(peer = hex(id), revision, %error, "no hash from a peer"),
        }
    }
    (peers, count)
}

/// Compares the members' newest states every `corrupt_check_time`, while this
/// member leads.
pub(crate) async fn periodic(core: Arc<Core>) {
    let interval = core.config.corrupt_check_time;
    if interval.is_zero() {
        return;
    }
    while core.until_stop(tokio::time::sleep(interval)).await.is_some() {
        if !core.is_leader() {
            continue;
        }
        match core.until_stop(compare_newest(&core)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(%error, "failed to check hash KV"),
            None => return,
        }
    }
}

async fn compare_newest(core: &Arc<Core>) -> Result<()> {
    let before = hash(&core.shared.mvcc, 0).await?;
    let (peers, asked) = ask_all(core, before.hash_revision).await;
    // Whatever a peer had then, this member has applied after this.
    core.reads.barrier(core).await?;
    let after = hash(&core.shared.mvcc, 0).await?;
    METRICS.hash_checks.inc();
    tracing::debug!(
        revision = before.hash_revision,
        asked,
        answered = peers.len(),
        "compared the members' hashes"
    );
    if let Some((member, why)) = judge::newest(core.member_id, &before, &after, &peers) {
        tracing::error!(member = hex(member), why, revision = before.hash_revision, "found data corruption");
        raise(core, member).await;
    }
    Ok(())
}

/// Compares hashes kept at compactions every `compact_hash_check_time`, while
/// this member leads.
pub(crate) async fn at_compactions(core: Arc<Core>) {
    if !core.config.compact_hash_check {
        return;
    }
    let mut checked = 0;
    while core.until_stop(tokio::time::sleep(core.config.compact_hash_check_time)).await.is_some() {
        if !core.is_leader() {
            continue;
        }
        if core.until_stop(compare_compactions(&core, &mut checked)).await.is_none() {
            return;
        }
    }
}

/// From the newest compaction that was not compared yet with everybody, until
/// one could be.
async fn compare_compactions(core: &Arc<Core>, checked: &mut i64) {
    for noted in core.hashes.newer_than(*checked) {
        let (peers, asked) = ask_all(core, noted.revision).await;
        let same: Vec<Peer> =
            peers.into_iter().filter(|peer| peer.compact_revision == noted.compact_revision).collect();
        let complete = same.len() == asked;
        match judge::compaction(core.member_id, noted.hash, &same, asked + 1) {
            judge::Compaction::Same => {
                METRICS.hash_checks.inc();
                if complete {
                    *checked = noted.revision;
                    tracing::info!(revision = noted.revision, "successfully checked hash on whole cluster");
                    return;
                }
            }
            judge::Compaction::Differ(members) => {
                tracing::error!(
                    revision = noted.revision,
                    members = members.iter().copied().map(hex).collect::<Vec<_>>().join(","),
                    "detected compaction hash mismatch"
                );
                for member in members {
                    raise(core, member).await;
                }
                return;
            }
        }
    }
}

/// Raises CORRUPT for a member; 0 stands for the whole cluster.
async fn raise(core: &Arc<Core>, member: u64) {
    let alarm = pb::AlarmType::Corrupt as i32;
    if core.shared.mvcc.alarms().contains(&pb::AlarmMember { member_id: member, alarm }) {
        return;
    }
    let action = pb::alarm_request::AlarmAction::Activate as i32;
    let request = pb::AlarmRequest { action, member_id: member, alarm };
    if let Err(error) = core.propose(Command { caller: None, op: Some(Op::Alarm(request)) }).await {
        tracing::error!(%error, member = hex(member), "cannot raise the CORRUPT alarm; the next check tries again");
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}
