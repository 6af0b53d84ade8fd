//! Replies and errors between members as messages.

use skiff_store::api::WriteReply;
use skiff_store::error::{ApiError, Error, NodeError, Result};

use crate::pb::skiff::raft::v1 as pb;
use crate::pb::skiff::raft::v1::error::Kind;
use crate::pb::skiff::raft::v1::write_reply::Reply;

/// An error as a message.
pub(crate) fn encode_error(error: &Error) -> pb::Error {
    let (kind, text) = match error {
        Error::Api(e) => (Kind::Api, e.text().to_string()),
        Error::Node(e) => (Kind::Node, e.text().to_string()),
        Error::Corruption(text) => (Kind::Corruption, text.clone()),
        Error::Storage(text) => (Kind::Storage, text.clone()),
        other => (Kind::Other, other.to_string()),
    };
    pb::Error { kind: kind.into(), text }
}

/// An error from a message. One this version does not know keeps its text.
pub(crate) fn decode_error(message: pb::Error) -> Error {
    let known_api = || ApiError::ALL.iter().find(|e| e.text() == message.text).copied();
    let known_node = || NodeError::ALL.iter().find(|e| e.text() == message.text).copied();
    match message.kind() {
        Kind::Api => known_api().map_or_else(|| Error::Other(message.text.clone()), Error::Api),
        Kind::Node => known_node().map_or_else(|| Error::Other(message.text.clone()), Error::Node),
        Kind::Corruption => Error::Corruption(message.text),
        Kind::Storage => Error::Storage(message.text),
        Kind::Other => Error::Other(message.text),
    }
}

/// The outcome of a command as a message.
pub(crate) fn encode_write_reply(reply: Result<WriteReply>) -> pb::WriteReply {
    let reply = match reply {
        Ok(WriteReply::Put(r)) => Reply::Put(r),
        Ok(WriteReply::DeleteRange(r)) => Reply::DeleteRange(r),
        Ok(WriteReply::Txn(r)) => Reply::Txn(r),
        Ok(WriteReply::Compact(r)) => Reply::Compact(r),
        Ok(WriteReply::LeaseGrant(r)) => Reply::LeaseGrant(r),
        Ok(WriteReply::LeaseRevoke(r)) => Reply::LeaseRevoke(r),
        Ok(WriteReply::Alarm(r)) => Reply::Alarm(r),
        Ok(WriteReply::Authenticate(r)) => Reply::Authenticate(r),
        Ok(WriteReply::Done(revision)) => Reply::Done(revision),
        Ok(other) => Reply::Error(encode_error(&Error::Other(format!("unexpected answer {other:?}")))),
        Err(e) => Reply::Error(encode_error(&e)),
    };
    pb::WriteReply { reply: Some(reply) }
}

/// The outcome of a command from a message.
pub(crate) fn decode_write_reply(message: pb::WriteReply) -> Result<WriteReply> {
    Ok(match message.reply {
        Some(Reply::Put(r)) => WriteReply::Put(r),
        Some(Reply::DeleteRange(r)) => WriteReply::DeleteRange(r),
        Some(Reply::Txn(r)) => WriteReply::Txn(r),
        Some(Reply::Compact(r)) => WriteReply::Compact(r),
        Some(Reply::LeaseGrant(r)) => WriteReply::LeaseGrant(r),
        Some(Reply::LeaseRevoke(r)) => WriteReply::LeaseRevoke(r),
        Some(Reply::Alarm(r)) => WriteReply::Alarm(r),
        Some(Reply::Authenticate(r)) => WriteReply::Authenticate(r),
        Some(Reply::Done(revision)) => WriteReply::Done(revision),
        Some(Reply::Error(e)) => return Err(decode_error(e)),
        None => return Err(Error::Other("a peer answered a write without a reply".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_round_trip() {
        let api = ApiError::ALL.iter().map(|e| Error::Api(*e));
        let node = NodeError::ALL.iter().map(|e| Error::Node(*e));
        let rest = [Error::Corruption("a".into()), Error::Storage("b".into()), Error::Other("c".into())];
        for error in api.chain(node).chain(rest) {
            let back = decode_error(encode_error(&error));
            assert_eq!(format!("{error:?}"), format!("{back:?}"));
        }
    }
}
