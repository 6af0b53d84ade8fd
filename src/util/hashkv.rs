//! `hashkv`: what members compare.

use serde_json::json;
use skiff_raft::offline::MemberState;
use skiff_store::api::{Read, ReadReply};
use skiff_store::pb::etcdserverpb::{HashKvRequest, HashKvResponse};

use super::Problem;
use super::arguments::Arguments;
use super::output;
use super::source::Source;

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let revision = arguments.count("rev")?;
    let source = Source::of(arguments)?;
    let hash = hash(&source, &source.state()?, revision)?;
    let answer = json!({
        "hash": hash.hash, "hashRevision": hash.hash_revision, "compactRevision": hash.compact_revision,
    });
    let simple = format!("{}, {}, {}\n", hash.hash, hash.hash_revision, hash.compact_revision);
    let columns =
        [("HASH", "hash"), ("HASH REVISION", "hashRevision"), ("COMPACT REVISION", "compactRevision")];
    output::answer(arguments, answer.as_object().unwrap_or(&Default::default()), &simple, &columns)
}

/// The hash of the key space at a revision; 0 for the newest.
pub(super) fn hash(source: &Source, state: &MemberState, revision: i64) -> Result<HashKvResponse, String> {
    match state.mvcc.read(None, &Read::HashKv(HashKvRequest { revision })) {
        Ok(ReadReply::HashKv(hash)) => Ok(hash),
        Ok(_) => Err("the store answers something else".to_owned()),
        Err(error) => Err(source.explain(error)),
    }
}
