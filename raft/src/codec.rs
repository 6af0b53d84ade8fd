//! Entries, votes and positions as bytes, the same on disk and between peers.
//!
//! A payload is a kind, whose numbers are frozen, and bytes. The bytes of
//! commands are the proposal's own: neither the log nor a peer re-encodes them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use skiff_store::error::{Error, Result};

use crate::pb::skiff::raft::v1 as pb;
use crate::types::{
    Entry, LogId, MemberNode, Membership, Payload, Proposal, SnapshotMeta, StoredMembership, Vote, log_id,
};

/// An entry without content, by which a new leader commits its predecessors' entries.
pub const KIND_BLANK: u8 = 0;
/// Client commands: an encoded `skiff.v1.CommandBatch`.
pub const KIND_COMMANDS: u8 = 1;
/// A membership: an encoded `skiff.raft.v1.Membership`.
pub const KIND_MEMBERSHIP: u8 = 2;

const POSITION_VERSION: u32 = 1;

/// The kind and the bytes of a payload. Does not copy commands.
pub fn encode_payload(payload: &Payload) -> (u8, Bytes) {
    match payload {
        Payload::Blank => (KIND_BLANK, Bytes::new()),
        Payload::Normal(proposal) => (KIND_COMMANDS, proposal.encoded().clone()),
        Payload::Membership(m) => (KIND_MEMBERSHIP, encode_membership(m).encode_to_vec().into()),
    }
}

/// The payload of a kind and bytes. Commands are decoded when applied.
///
/// # Errors
/// [`Error::Corruption`] for bytes that are no membership;
/// [`Error::Storage`] for a kind this version does not know.
pub fn decode_payload(kind: u8, bytes: Bytes) -> Result<Payload> {
    match kind {
        KIND_BLANK => Ok(Payload::Blank),
        KIND_COMMANDS => Ok(Payload::Normal(Proposal::from_encoded(bytes))),
        KIND_MEMBERSHIP => {
            let message = pb::Membership::decode(bytes).map_err(corrupt("membership"))?;
            Ok(Payload::Membership(decode_membership(message)?))
        }
        other => Err(Error::Storage(format!(
            "log entry of kind {other} is not known to this version: it was written by a newer one"
        ))),
    }
}

/// An entry from its parts.
///
/// # Errors
/// As [`decode_payload`].
pub fn decode_entry(at: LogId, kind: u8, bytes: Bytes) -> Result<Entry> {
    Ok(Entry { log_id: at, payload: decode_payload(kind, bytes)? })
}

/// A place as a message.
pub fn encode_log_id(at: &LogId) -> pb::LogId {
    pb::LogId { term: at.committed_leader_id().term, index: at.index }
}

/// A place from a message.
pub fn decode_log_id(message: pb::LogId) -> LogId {
    log_id(message.term, message.index)
}

/// A vote as a message.
pub fn encode_vote(vote: &Vote) -> pb::Vote {
    let leader = vote.leader_id();
    pb::Vote { term: leader.term, member: leader.voted_for, committed: vote.is_committed() }
}

/// A vote from a message.
pub fn decode_vote(message: pb::Vote) -> Vote {
    if message.committed {
        Vote::new_committed(message.term, message.member)
    } else {
        Vote::new(message.term, message.member)
    }
}

/// A membership as a message.
pub fn encode_membership(membership: &Membership) -> pb::Membership {
    let voters = membership
        .get_joint_config()
        .iter()
        .map(|set| pb::Voters { ids: set.iter().copied().collect() })
        .collect();
    let members = membership
        .nodes()
        .map(|(id, node)| pb::Member {
            id: *id,
            peer_urls: node.peer_urls.clone(),
            wanted_voter: node.wanted_voter,
        })
        .collect();
    pb::Membership { voters, members }
}

/// A membership from a message.
///
/// # Errors
/// [`Error::Corruption`] where it contradicts itself.
pub fn decode_membership(message: pb::Membership) -> Result<Membership> {
    let members: BTreeMap<u64, MemberNode> = message
        .members
        .into_iter()
        .map(|m| (m.id, MemberNode { peer_urls: m.peer_urls, wanted_voter: m.wanted_voter }))
        .collect();
    if message.voters.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    let voters: Vec<BTreeSet<u64>> =
        message.voters.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    Membership::new(voters, members).map_err(corrupt("membership"))
}

/// A position (last applied entry and membership) as bytes.
pub fn encode_position(applied: Option<&LogId>, membership: &StoredMembership) -> Bytes {
    pb::Position {
        version: POSITION_VERSION,
        applied: applied.map(encode_log_id),
        membership_at: membership.log_id().as_ref().map(encode_log_id),
        membership: Some(encode_membership(membership.membership())),
    }
    .encode_to_vec()
    .into()
}

/// A position from bytes; empty bytes are the position before the first entry.
///
/// # Errors
/// [`Error::Corruption`] for bytes that are no position; [`Error::Storage`]
/// for a newer format.
pub fn decode_position(bytes: Bytes) -> Result<(Option<LogId>, StoredMembership)> {
    if bytes.is_empty() {
        return Ok((None, StoredMembership::default()));
    }
    let message = pb::Position::decode(bytes).map_err(corrupt("applied position"))?;
    if message.version > POSITION_VERSION {
        return Err(Error::Storage(format!(
            "applied position of format {} is not known to this version, which reads up to {}",
            message.version, POSITION_VERSION
        )));
    }
    let membership = decode_membership(message.membership.unwrap_or_default())?;
    let at = message.membership_at.map(decode_log_id);
    Ok((message.applied.map(decode_log_id), StoredMembership::new(at, membership)))
}

/// What a snapshot holds, as bytes.
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Bytes {
    encode_position(meta.last_log_id.as_ref(), &meta.last_membership)
}

/// What a snapshot holds, from bytes.
///
/// # Errors
/// As [`decode_position`].
pub fn decode_snapshot_meta(bytes: Bytes) -> Result<SnapshotMeta> {
    let (last_log_id, last_membership) = decode_position(bytes)?;
    Ok(SnapshotMeta { last_log_id, last_membership })
}

fn corrupt<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Corruption(format!("{what}: {e}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn membership(ids: &BTreeSet<u64>, learners: &BTreeSet<u64>) -> Membership {
        let nodes: BTreeMap<u64, MemberNode> = ids
            .union(learners)
            .map(|id| {
                (
                    *id,
                    MemberNode {
                        peer_urls: vec![format!("http://10.0.0.1:{id}")],
                        wanted_voter: id % 2 == 0,
                    },
                )
            })
            .collect();
        Membership::new(vec![ids.clone()], nodes).unwrap()
    }

    proptest! {
        #[test]
        fn positions_survive_the_round_trip(
            term in 0u64.., index in 0u64..,
            ids in proptest::collection::btree_set(1u64.., 1..8),
            learners in proptest::collection::btree_set(1u64.., 0..3),
        ) {
            let stored = StoredMembership::new(Some(log_id(term, index)), membership(&ids, &learners));
            let bytes = encode_position(Some(&log_id(term, index)), &stored);
            let (at, back) = decode_position(bytes).unwrap();
            prop_assert_eq!(at, Some(log_id(term, index)));
            prop_assert_eq!(back, stored);
        }

        #[test]
        fn votes_survive_the_round_trip(term in 0u64.., member in 0u64.., committed: bool) {
            let vote = if committed { Vote::new_committed(term, member) } else { Vote::new(term, member) };
            prop_assert_eq!(decode_vote(encode_vote(&vote)), vote);
        }

        #[test]
        fn strange_bytes_never_panic(kind: u8, bytes: Vec<u8>) {
            let _ = decode_payload(kind, bytes.clone().into());
            let _ = decode_position(bytes.into());
        }
    }

    #[test]
    fn a_newer_position_is_refused_by_name() {
        let bytes = pb::Position { version: 2, ..Default::default() }.encode_to_vec();
        let error = decode_position(bytes.into()).unwrap_err();
        assert!(matches!(error, Error::Storage(text) if text.contains("format 2")));
    }
}
