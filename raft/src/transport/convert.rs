//! Between openraft's requests and the messages on the wire.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::Status;

use super::pb;
use crate::codec::{decode_entry, decode_log_id, decode_vote, encode_log_id, encode_payload, encode_vote};
use crate::pb::skiff::raft::v1 as log;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// A message that lacks a part or contradicts itself.
pub(crate) fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!("malformed peer message: {what}"))
}

/// Terms and indexes from a peer stay below this: no cluster ever gets there,
/// and whoever counts on from one does not overflow.
const BEYOND: u64 = 1 << 62;

fn vote(message: Option<log::Vote>) -> Result<Vote, Status> {
    let message = message.ok_or_else(|| malformed("no vote"))?;
    if message.term >= BEYOND {
        return Err(malformed("an impossible term"));
    }
    Ok(decode_vote(message))
}

fn position(message: log::LogId) -> Result<LogId, Status> {
    if message.term >= BEYOND || message.index >= BEYOND {
        return Err(malformed("an impossible position"));
    }
    Ok(decode_log_id(message))
}

fn any_position(message: Option<log::LogId>) -> Result<Option<LogId>, Status> {
    message.map(position).transpose()
}

fn entry(entry: Entry) -> pb::Entry {
    let (kind, payload) = encode_payload(&entry.payload);
    pb::Entry { log_id: Some(encode_log_id(&entry.log_id)), kind: kind.into(), payload }
}

/// An append request as messages of at most about `max_bytes` of payload each,
/// which the follower takes as consecutive requests. Never empty.
pub(crate) fn append_messages(
    request: AppendEntriesRequest<TypeConfig>,
    max_bytes: usize,
) -> Vec<pb::AppendRequest> {
    let empty = |prev: Option<LogId>| pb::AppendRequest {
        vote: Some(encode_vote(&request.vote)),
        prev_log_id: prev.as_ref().map(encode_log_id),
        entries: Vec::new(),
        leader_commit: request.leader_commit.as_ref().map(encode_log_id),
    };
    let mut messages = Vec::with_capacity(1);
    let mut message = empty(request.prev_log_id);
    let mut bytes = 0;
    for item in request.entries {
        let at = item.log_id;
        let item = entry(item);
        bytes += item.payload.len();
        message.entries.push(item);
        if bytes >= max_bytes {
            messages.push(std::mem::replace(&mut message, empty(Some(at))));
            bytes = 0;
        }
    }
    if messages.is_empty() || !message.entries.is_empty() {
        messages.push(message);
    }
    messages
}

/// The position after the last entry of a request: what a success confirms.
pub(crate) fn last_log_id(message: &pb::AppendRequest) -> Option<LogId> {
    let last = message.entries.last().and_then(|entry| entry.log_id);
    last.or(message.prev_log_id).map(decode_log_id)
}

pub(crate) fn append_request(message: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let prev = any_position(message.prev_log_id)?;
    let first = prev.map_or(0, |at| at.index + 1);
    let mut entries = Vec::with_capacity(message.entries.len());
    for (expected, entry) in (first..).zip(message.entries) {
        let at = position(entry.log_id.ok_or_else(|| malformed("an entry without a position"))?)?;
        if at.index != expected {
            return Err(malformed("entries are not consecutive"));
        }
        let kind = u8::try_from(entry.kind).map_err(|_| malformed("an entry of an unknown kind"))?;
        let entry = decode_entry(at, kind, entry.payload).map_err(|error| malformed(&error.to_string()))?;
        entries.push(entry);
    }
    Ok(AppendEntriesRequest {
        vote: vote(message.vote)?,
        prev_log_id: prev,
        entries,
        leader_commit: any_position(message.leader_commit)?,
    })
}

pub(crate) fn append_reply(result: StreamAppendResult<TypeConfig>) -> pb::AppendReply {
    use pb::append_reply::Result as Wire;
    let result = match result {
        Ok(at) => Wire::Matched(pb::Matched { log_id: at.as_ref().map(encode_log_id) }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(encode_log_id(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(encode_vote(&vote)),
    };
    pb::AppendReply { result: Some(result) }
}

/// The answer to a single request, which names the positions it is about.
pub(crate) fn single_append_result(
    response: AppendEntriesResponse<TypeConfig>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    Ok(match response {
        AppendEntriesResponse::Success => Ok(last),
        AppendEntriesResponse::PartialSuccess(at) => Ok(at),
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
        AppendEntriesResponse::Conflict => {
            let at = prev.ok_or_else(|| Status::internal("conflict before the first entry"))?;
            Err(StreamAppendError::Conflict(at))
        }
    })
}

/// Reads a reply and checks that it speaks of the request it answers: a leader
/// that believed anything else would count entries as stored that are not.
pub(crate) fn append_result(
    reply: pb::AppendReply,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use pb::append_reply::Result as Wire;
    match reply.result.ok_or_else(|| malformed("an append reply without a result"))? {
        Wire::Matched(matched) => {
            let at = any_position(matched.log_id)?;
            let answers = at >= prev && at <= last;
            if answers { Ok(Ok(at)) } else { Err(malformed("a match outside of what was sent")) }
        }
        Wire::Conflict(at) => {
            let at = position(at)?;
            let answers = Some(at) == prev;
            if answers {
                Ok(Err(StreamAppendError::Conflict(at)))
            } else {
                Err(malformed("a conflict outside of what was sent"))
            }
        }
        Wire::HigherVote(higher) => Ok(Err(StreamAppendError::HigherVote(vote(Some(higher))?))),
    }
}

pub(crate) fn vote_message(request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(encode_vote(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(encode_log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request(message: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let mut request = VoteRequest::new(vote(message.vote)?, any_position(message.last_log_id)?);
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(crate) fn vote_reply(response: VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(encode_vote(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(encode_log_id),
    }
}

pub(crate) fn vote_response(reply: pb::VoteReply) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse::new(vote(reply.vote)?, any_position(reply.last_log_id)?, reply.granted))
}

pub(crate) fn transfer_message(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from_leader: Some(encode_vote(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(encode_log_id),
    }
}

pub(crate) fn transfer_request(
    message: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    let last = any_position(message.last_log_id)?;
    Ok(TransferLeaderRequest::new(vote(message.from_leader)?, message.to, last))
}

pub(crate) fn transfer_reply(response: TransferLeaderResponse<TypeConfig>) -> pb::TransferLeaderReply {
    use pb::transfer_leader_reply::Refusal;
    let refusal = response.err().map(|error| match error {
        TransferLeaderError::VoteChanged { expected, actual } => Refusal::VoteChanged(pb::VoteChanged {
            expected: Some(encode_vote(&expected)),
            actual: Some(encode_vote(&actual)),
        }),
        TransferLeaderError::LogNotFlushed { expected, actual } => {
            Refusal::LogNotFlushed(pb::LogNotFlushed {
                expected: expected.as_ref().map(encode_log_id),
                actual: actual.as_ref().map(encode_log_id),
            })
        }
    });
    pb::TransferLeaderReply { refusal }
}

pub(crate) fn transfer_response(
    reply: pb::TransferLeaderReply,
) -> Result<TransferLeaderResponse<TypeConfig>, Status> {
    use pb::transfer_leader_reply::Refusal;
    Ok(match reply.refusal {
        None => Ok(()),
        Some(Refusal::VoteChanged(changed)) => Err(TransferLeaderError::VoteChanged {
            expected: vote(changed.expected)?,
            actual: vote(changed.actual)?,
        }),
        Some(Refusal::LogNotFlushed(behind)) => Err(TransferLeaderError::LogNotFlushed {
            expected: any_position(behind.expected)?,
            actual: any_position(behind.actual)?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Payload, Proposal, log_id};

    fn request(prev: u64, sizes: &[usize]) -> AppendEntriesRequest<TypeConfig> {
        let entries = sizes.iter().zip(prev + 1..).map(|(size, index)| Entry {
            log_id: log_id(3, index),
            payload: Payload::Normal(Proposal::from_encoded(vec![index as u8; *size].into())),
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 9),
            prev_log_id: Some(log_id(2, prev)),
            entries: entries.collect(),
            leader_commit: Some(log_id(2, prev)),
        }
    }

    proptest! {
        #[test]
        fn split_requests_are_consecutive_and_complete(
            sizes in proptest::collection::vec(0usize..400, 0..20),
            max in 1usize..600,
        ) {
            let original = request(5, &sizes);
            let messages = append_messages(original.clone(), max);
            prop_assert!(!messages.is_empty());
            let mut prev = original.prev_log_id;
            let mut entries = Vec::new();
            for message in messages {
                let bytes: usize = message.entries.iter().map(|entry| entry.payload.len()).sum();
                prop_assert!(bytes < max + 400);
                let last = last_log_id(&message);
                let part = append_request(message).unwrap();
                prop_assert_eq!(part.prev_log_id, prev);
                prop_assert_eq!(&part.vote, &original.vote);
                prop_assert_eq!(&part.leader_commit, &original.leader_commit);
                prev = last;
                entries.extend(part.entries);
            }
            prop_assert_eq!(entries, original.entries);
        }
    }

    /// Reads bytes as every message a peer sends or answers with.
    fn read_all(bytes: &[u8]) {
        use prost::Message;
        let place = |index| Some(log_id(3, index));
        pb::AppendRequest::decode(bytes).map(append_request).ok();
        pb::AppendReply::decode(bytes).map(|reply| append_result(reply, place(5), place(7))).ok();
        pb::VoteRequest::decode(bytes).map(vote_request).ok();
        pb::VoteReply::decode(bytes).map(vote_response).ok();
        pb::TransferLeaderRequest::decode(bytes).map(transfer_request).ok();
        pb::TransferLeaderReply::decode(bytes).map(transfer_response).ok();
        log::Request::decode(bytes).ok();
        log::Reply::decode(bytes).ok();
        log::Position::decode(bytes)
            .map(|position| crate::codec::decode_position(position.encode_to_vec().into()))
            .ok();
    }

    proptest! {
        #[test]
        fn strange_messages_never_panic(
            sizes in proptest::collection::vec(0usize..20, 0..4),
            numbers in proptest::array::uniform4(proptest::prop_oneof![Just(u64::MAX), Just(0), Just(1 << 62), any::<u64>()]),
            seed: u64,
            other: Vec<u8>,
        ) {
            use prost::Message;
            use skiff_store::conformance::fuzz::mutated;
            let [term, index, other_term, other_index] = numbers;
            let mut message = append_messages(request(5, &sizes), 1 << 20).remove(0);
            read_all(&mutated(&message.encode_to_vec(), seed));
            message.prev_log_id = Some(log::LogId { term, index });
            message.leader_commit = Some(log::LogId { term: other_term, index: other_index });
            message.vote = Some(log::Vote { term, member: index, committed: true });
            read_all(&message.encode_to_vec());
            if let Ok(request) = append_request(message) {
                prop_assert!(request.vote.leader_id().term < BEYOND);
                prop_assert!(request.prev_log_id.is_none_or(|at| at.index < BEYOND));
            }
            read_all(&other);
        }
    }

    /// A vote for the last term of all would have stopped every election: the
    /// next term is one more.
    #[test]
    fn impossible_terms_and_positions_are_refused() {
        let vote = log::Vote { term: u64::MAX, member: 1, committed: false };
        assert!(vote_request(pb::VoteRequest { vote: Some(vote), ..Default::default() }).is_err());
        let mut message = append_messages(request(5, &[]), 1 << 20).remove(0);
        message.prev_log_id = Some(log::LogId { term: 1, index: u64::MAX });
        assert!(append_request(message).is_err());
    }

    #[test]
    fn payload_bytes_are_not_copied() {
        let payload = bytes::Bytes::from(vec![7; 1000]);
        let mut original = request(0, &[]);
        let proposal = Proposal::from_encoded(payload.clone());
        original.entries.push(Entry { log_id: log_id(3, 1), payload: Payload::Normal(proposal) });
        let message = append_messages(original, 1 << 20).remove(0);
        assert_eq!(message.entries[0].payload.as_ptr(), payload.as_ptr());
    }

    #[test]
    fn gaps_and_missing_parts_are_refused() {
        let mut message = append_messages(request(5, &[1, 1]), 1 << 20).remove(0);
        message.entries[1].log_id = Some(encode_log_id(&log_id(3, 9)));
        assert!(append_request(message).is_err());
        assert!(append_request(pb::AppendRequest::default()).is_err());
        assert!(vote_request(pb::VoteRequest::default()).is_err());
        assert!(vote_response(pb::VoteReply::default()).is_err());
        assert!(transfer_request(pb::TransferLeaderRequest::default()).is_err());
    }

    #[test]
    fn replies_about_other_positions_are_refused() {
        let (prev, last) = (Some(log_id(2, 5)), Some(log_id(3, 7)));
        for at in [Some(log_id(2, 5)), Some(log_id(3, 6)), last] {
            assert_eq!(append_result(append_reply(Ok(at)), prev, last).unwrap(), Ok(at));
        }
        for at in [None, Some(log_id(1, 4)), Some(log_id(3, 8))] {
            assert!(append_result(append_reply(Ok(at)), prev, last).is_err());
        }
        let conflict = |at| append_reply(Err(StreamAppendError::Conflict(at)));
        assert!(append_result(conflict(log_id(2, 5)), prev, last).is_ok());
        assert!(append_result(conflict(log_id(3, 7)), prev, last).is_err());
        assert!(append_result(pb::AppendReply::default(), prev, last).is_err());
    }
}
