//! `--force-new-cluster`: one member goes on alone, with all its data, after
//! the others are lost for good.
//!
//! As in etcd, the cluster and the member keep their ids. The log is kept to
//! its end: what the lost majority acknowledged may be committed without this
//! member having heard of it, so nothing of it is given up (etcd drops what its
//! own record does not call committed). One entry is appended, the membership
//! of this member alone, by which it elects itself and commits the rest.
//!
//! Safe at any crash: the entry is there or not, and a second run finds out.
//! Who else ever was a member is written down as removed, so that whoever comes
//! back is told so and ends. That it was done is written down too: the flag
//! left in a service file must not throw out members that joined since. A start
//! without the flag arms it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage};
use skiff_store::error::{Error, Result};

use super::NodeConfig;
use crate::log_store::LogStore;
use crate::metadata::Metadata;
use crate::types::{Entry, LogId, MemberNode, Membership, Payload, StoredMembership, Vote, log_id};

/// Does what the flag asks for, once; call it before the log runs.
///
/// # Errors
/// Where the log cannot be read or written.
pub(super) async fn apply(
    config: &NodeConfig,
    metadata: &mut Metadata,
    member_dir: &Path,
    log: &mut LogStore,
    state: (Option<LogId>, &StoredMembership),
) -> Result<()> {
    if !config.force_new_cluster {
        if metadata.forced {
            metadata.forced = false;
            metadata.save(member_dir)?;
        }
        return Ok(());
    }
    if metadata.forced {
        tracing::warn!(
            "--force-new-cluster was done at an earlier start and is not done again; remove the flag. To do it \
             once more, start once without it first"
        );
        return Ok(());
    }
    if state.0.is_none() && log.wal().last().is_none() {
        tracing::warn!("--force-new-cluster has no effect: there are no data yet");
        return Ok(());
    }
    let others = leave_all(log, state, metadata.member_id, &config.advertise_peer_urls).await?;
    tracing::warn!(
        removed = others.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(","),
        "forced a new cluster of this member alone"
    );
    metadata.removed.extend(others);
    metadata.forced = true;
    metadata.save(member_dir)
}

/// Appends the membership of `own` alone, unless it is there; answers all
/// others that were members.
async fn leave_all(
    log: &mut LogStore,
    (applied, state): (Option<LogId>, &StoredMembership),
    own: u64,
    urls: &[String],
) -> Result<BTreeSet<u64>> {
    let (last, mut others) = memberships(log, state).await?;
    others.remove(&own);
    let voters = BTreeSet::from([own]);
    let alone = last.nodes().all(|(id, _)| *id == own) && last.voter_ids().eq([own]);
    if alone {
        return Ok(others);
    }
    let node = last
        .get_node(&own)
        .cloned()
        .unwrap_or_else(|| MemberNode { peer_urls: urls.to_vec(), ..Default::default() });
    let nodes = BTreeMap::from([(own, MemberNode { wanted_voter: true, ..node })]);
    let sole = Membership::new(vec![voters], nodes).map_err(|e| Error::Other(e.to_string()))?;
    append(log, applied, own, sole).await?;
    Ok(others)
}

/// The last membership, and everybody in it or in one that is still known.
async fn memberships(log: &LogStore, state: &StoredMembership) -> Result<(Membership, BTreeSet<u64>)> {
    let mut last = state.membership().clone();
    let mut known: BTreeSet<u64> = state.nodes().map(|(id, _)| *id).collect();
    let mut range = log.wal().range();
    while !range.is_empty() {
        let entries = log.read_some(range.clone()).await.map_err(failed("read the log"))?;
        let Some(end) = entries.last().map(|entry| entry.log_id.index) else { break };
        range.start = end + 1;
        for entry in entries {
            if let Payload::Membership(membership) = entry.payload {
                known.extend(membership.nodes().map(|(id, _)| *id));
                if Some(entry.log_id) > *state.log_id() {
                    last = membership;
                }
            }
        }
    }
    Ok((last, known))
}

/// Appends a membership as the leader of a new term would.
async fn append(log: &mut LogStore, applied: Option<LogId>, own: u64, membership: Membership) -> Result<()> {
    let written = log.get_log_state().await.map_err(failed("read the log"))?.last_log_id;
    if let Some(applied) = applied.filter(|at| Some(*at) > written) {
        // The state came as a snapshot, and the log has not followed yet.
        log.purge(applied).await.map_err(failed("cut the log"))?;
    }
    let last = written.max(applied);
    let vote = log.read_vote().await.map_err(failed("read the vote"))?;
    let seen = vote.map_or(0, |vote| vote.leader_id().term);
    let term = last.map_or(0, |at| at.committed_leader_id().term).max(seen) + 1;
    log.save_vote(&Vote::new_committed(term, own)).await.map_err(failed("write the vote"))?;
    let log_id = log_id(term, last.map_or(0, |at| at.index + 1));
    let entry = Entry { log_id, payload: Payload::Membership(membership) };
    log.append_durably(entry).await.map_err(failed("write the log"))
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Storage(format!("force a new cluster: {what}: {error}"))
}
