//! `status`: what a data directory or a snapshot holds.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use skiff_raft::offline::{MemberFiles, MemberState};
use skiff_store::Error;
use skiff_store::engine::Engine;
use skiff_store::etcd_snapshot::{EtcdSnapshot, is_etcd_snapshot};
use skiff_store::mvcc::stored_format;
use skiff_store::pb::etcdserverpb::AlarmType;

use super::Problem;
use super::arguments::Arguments;
use super::hashkv;
use super::output;
use super::source::{Place, Source, checksum, open_snapshot};

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let place = arguments.place()?;
    let source = Source::open(&place, arguments)?;
    let state = source.state()?;
    let mut answer = Map::new();
    answer.insert("path".into(), place.path().display().to_string().into());
    describe_store(&source, &state, &mut answer)?;
    if let Some(files) = &source.files {
        describe_member(&source, files, &state, &mut answer)?;
    }
    describe_members(&state, &mut answer);
    output::answer(arguments, &answer, &output::lines(&answer), &[])
}

/// As `etcdutl snapshot status`.
pub(super) fn snapshot(arguments: &Arguments) -> Result<(), Problem> {
    let path = PathBuf::from(arguments.word("a snapshot")?);
    let answer = match of_etcd(&path, arguments)? {
        Some(answer) => answer,
        None => {
            let source = Source::open(&Place::Snapshot(path), arguments)?;
            let mut answer = Map::new();
            describe_store(&source, &source.state()?, &mut answer)?;
            answer
        }
    };
    let text = |name: &str| answer.get(name).map(Value::to_string).unwrap_or_default();
    let hash = answer.get("hash").and_then(Value::as_u64).unwrap_or_default();
    let size = answer.get("totalSize").and_then(Value::as_u64).unwrap_or_default();
    let simple = format!("{hash:x}, {}, {}, {}\n", text("revision"), text("totalKey"), human(size));
    let columns =
        [("HASH", "hash"), ("REVISION", "revision"), ("TOTAL KEYS", "totalKey"), ("TOTAL SIZE", "totalSize")];
    output::answer(arguments, &answer, &simple, &columns)
}

/// What etcd's own tool says of a snapshot in etcd's format; `None` of another.
fn of_etcd(path: &Path, arguments: &Arguments) -> Result<Option<Map<String, Value>>, String> {
    let file = open_snapshot(path)?;
    let failed = |error: Error| format!("{}: {error}", path.display());
    if !is_etcd_snapshot(&file).map_err(failed)? {
        return Ok(None);
    }
    let snapshot = EtcdSnapshot::open(file, checksum(arguments)).map_err(failed)?;
    let summary = snapshot.summary().map_err(failed)?;
    let mut answer = Map::new();
    answer.insert("hash".into(), summary.hash.into());
    answer.insert("revision".into(), summary.revision.into());
    answer.insert("totalKey".into(), summary.total_key.into());
    answer.insert("totalSize".into(), summary.total_size.into());
    Ok(Some(answer))
}

fn describe_store(
    source: &Source,
    state: &MemberState,
    answer: &mut Map<String, Value>,
) -> Result<(), String> {
    let mvcc = &state.mvcc;
    let mut set = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    let format =
        stored_format(source.engine.as_ref() as &dyn Engine).map_err(|error| source.explain(error))?;
    set("hash", hashkv::hash(source, state, 0)?.hash.into());
    set("revision", mvcc.revision().into());
    set("totalKey", mvcc.key_count().into());
    set("totalSize", source.size.into());
    set("version", mvcc.cluster_version().into());
    set("format", format.into());
    set("compactRevision", mvcc.compact_revision().into());
    set("leases", mvcc.leases().len().into());
    let alarms = mvcc.alarms();
    let alarm = |kind: i32| {
        AlarmType::try_from(kind).map_or_else(|_| kind.to_string(), |kind| kind.as_str_name().to_owned())
    };
    set(
        "alarms",
        alarms.iter().map(|a| json!({"member": hex(a.member_id), "alarm": alarm(a.alarm)})).collect(),
    );
    set("raftAppliedIndex", state.applied.map_or(0, |id| id.index).into());
    set("raftAppliedTerm", state.applied.map_or(0, |id| id.committed_leader_id().term).into());
    Ok(())
}

fn describe_member(
    source: &Source,
    files: &MemberFiles,
    state: &MemberState,
    answer: &mut Map<String, Value>,
) -> Result<(), String> {
    let mut set = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    let vote = files.vote().map_err(|error| source.explain(error))?;
    let last = files.log.last().map_or(0, |id| id.index);
    let applied = state.applied.map_or(0, |id| id.index);
    set("clusterID", hex(files.metadata.cluster_id).into());
    set("memberID", hex(files.metadata.member_id).into());
    set("raftTerm", vote.map_or(0, |vote| vote.leader_id().term).into());
    set("raftIndex", last.into());
    set("raftUnconfirmed", last.saturating_sub(applied).into());
    set("stateAppliedIndex", state.on_disk.map_or(0, |id| id.index).into());
    set("logFirstIndex", files.log.range().start.into());
    set("logSize", files.log.disk_bytes().into());
    let removed: Value = files.metadata.removed.iter().map(|id| hex(*id)).collect();
    set("removedMembers", removed);
    Ok(())
}

fn describe_members(state: &MemberState, answer: &mut Map<String, Value>) {
    let membership = state.membership.membership();
    let known = state.mvcc.member_attributes();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let members = membership.nodes().map(|(id, node)| {
        let published = known.get(id);
        json!({
            "id": hex(*id),
            "name": published.map_or("", |member| &member.name),
            "peerURLs": node.peer_urls,
            "clientURLs": published.map(|member| &member.client_ur_ls[..]).unwrap_or_default(),
            "isLearner": !voters.contains(id),
        })
    });
    answer.insert("members".into(), members.collect());
}

/// An id as etcd writes it.
pub(super) fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// A size as people read it.
pub(super) fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}
