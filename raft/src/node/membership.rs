//! Changes of the membership, as the leader makes them.
//!
//! Every change is one log entry that moves at most one voter. A member that
//! is added as a voter starts as one that only receives, and gets its vote by
//! itself once it has caught up: an added member that never starts stops
//! nobody. The checks, and their errors, are etcd's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant, Precondition};
use skiff_store::error::{ApiError, Error, NodeError, Result};
use skiff_store::pb::etcdserverpb as pb;

use super::core::{Core, is_voter};
use crate::identity;
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{MemberChange, MemberChangeReply, member_change::Change};
use crate::types::{MemberNode, Membership, StoredMembership, TypeConfig};

/// Pause before a change is tried again while another one is under way.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A learner this far into the leader's log is in sync, in percent: etcd's rule.
const IN_SYNC_PERCENT: u64 = 90;
/// How often wanted voters are looked at.
const PROMOTE_TICK: Duration = Duration::from_millis(100);
/// A wanted voter is promoted once it lags by no more entries than this.
const PROMOTE_LAG: u64 = 64;

/// Makes a change, as the leader.
///
/// # Errors
/// etcd's; [`NodeError::NotLeader`] where this member does not lead.
pub(crate) async fn change(core: &Arc<Core>, change: MemberChange) -> Result<MemberChangeReply> {
    if !core.is_leader() {
        return Err(NodeError::NotLeader.into());
    }
    let _one_at_a_time = core.changing.lock().await;
    core.reads.barrier(core).await?;
    let (added, index) = match change.change {
        Some(Change::Add(request)) => add(core, request.peer_ur_ls, request.is_learner).await?,
        Some(Change::Remove(request)) => (None, remove(core, request.id).await?),
        Some(Change::Update(request)) => (None, update(core, request.id, request.peer_ur_ls).await?),
        Some(Change::Promote(request)) => (None, counted(promote(core, request.id).await)?),
        None => return Err(Error::Other("a membership change without a change".into())),
    };
    let members = core.members();
    let added = added.and_then(|id| members.iter().find(|member| member.id == id).cloned());
    Ok(MemberChangeReply { added, members, index })
}

async fn add(core: &Arc<Core>, mut urls: Vec<String>, learner: bool) -> Result<(Option<u64>, u64)> {
    urls.sort();
    let now = core.clock.since_epoch();
    let id = identity::member_id(&urls, &core.config.initial_cluster_token, Some(now));
    let membership = core.membership();
    check_urls(&membership, None, &urls)?;
    if membership.get_node(&id).is_some() || core.metadata.lock().removed.contains(&id) {
        return Err(ApiError::MemberExists.into());
    }
    let members = core.members();
    if learner {
        let learners = members.iter().filter(|member| member.is_learner).count();
        if learners >= core.config.max_learners {
            return Err(ApiError::TooManyLearners.into());
        }
    } else if core.config.strict_reconfig {
        ready_to_add(&members)?;
        if !all_connected(core) {
            return Err(NodeError::UnhealthyCluster.into());
        }
    }
    let node = MemberNode { peer_urls: urls, wanted_voter: !learner };
    let index = append(core, |_, nodes| {
        nodes.insert(id, node.clone());
    })
    .await?;
    Ok((Some(id), index))
}

async fn remove(core: &Arc<Core>, id: u64) -> Result<u64> {
    let members = core.members();
    let Some(member) = members.iter().find(|member| member.id == id) else {
        return Err(ApiError::MemberNotFound.into());
    };
    if core.config.strict_reconfig && !member.is_learner {
        ready_to_remove(&members, id)?;
        // A member that is down adds nothing to the quorum: it may go. Of the
        // others enough must be connected to go on without this one.
        let rest = members.iter().filter(|m| !m.is_learner && m.id != id);
        let connected = rest.clone().filter(|m| is_connected(core, m.id)).count();
        if is_connected(core, id) && connected < rest.count() / 2 + 1 {
            return Err(NodeError::UnhealthyCluster.into());
        }
    }
    append(core, |voters, nodes| {
        voters.remove(&id);
        nodes.remove(&id);
    })
    .await
}

async fn update(core: &Arc<Core>, id: u64, mut urls: Vec<String>) -> Result<u64> {
    urls.sort();
    let membership = core.membership();
    let Some(node) = membership.get_node(&id) else { return Err(ApiError::MemberNotFound.into()) };
    check_urls(&membership, Some(id), &urls)?;
    let node = MemberNode { peer_urls: urls, ..node.clone() };
    retried(core, || async {
        let nodes = BTreeMap::from([(id, node.clone())]);
        let change = ChangeMembers::SetNodes(nodes);
        core.raft().change_membership(change, true).await.map(|response| response.log_id.index)
    })
    .await
}

async fn promote(core: &Arc<Core>, id: u64) -> Result<u64> {
    let members = core.members();
    let Some(member) = members.iter().find(|member| member.id == id) else {
        return Err(ApiError::MemberNotFound.into());
    };
    if !member.is_learner {
        return Err(ApiError::MemberNotLearner.into());
    }
    if core.config.strict_reconfig {
        ready_to_promote(&members, id)?;
    }
    if !in_sync(core, id) {
        return Err(ApiError::LearnerNotReady.into());
    }
    append(core, |voters, _| {
        voters.insert(id);
    })
    .await
}

/// Counts a promotion, or why there was none, in etcd's words: those of its
/// membership, for what its membership refuses.
fn counted(promoted: Result<u64>) -> Result<u64> {
    let reason = match &promoted {
        Ok(_) => {
            METRICS.learner_promote_successes.inc();
            return promoted;
        }
        // The leader has changed: that of now is asked again, and counts.
        Err(Error::Node(NodeError::NotLeader)) => return promoted,
        Err(Error::Api(ApiError::MemberNotFound)) => "membership: ID not found".to_owned(),
        Err(Error::Api(ApiError::MemberNotLearner)) => {
            "membership: can only promote a learner member".to_owned()
        }
        Err(Error::Api(error)) => error.to_string(),
        Err(Error::Node(error)) => error.to_string(),
        // Each would be a series of its own.
        Err(_) => "internal error".to_owned(),
    };
    METRICS.learner_promote_failures.with_label_values(&[reason]).inc();
    promoted
}

/// Gives a vote to members added as voters, once they have caught up.
pub(crate) async fn run(core: Arc<Core>) {
    let mut tick = tokio::time::interval(PROMOTE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while core.until_stop(tick.tick()).await.is_some() {
        if !core.is_leader() {
            continue;
        }
        let Some(id) = wanted(&core.membership()).find(|id| lag(&core, *id) <= Some(PROMOTE_LAG)) else {
            continue;
        };
        let Ok(_one_at_a_time) = core.changing.try_lock() else { continue };
        let promoted = append(&core, |voters, nodes| {
            if nodes.contains_key(&id) {
                voters.insert(id);
            }
        });
        match core.until_stop(promoted).await {
            Some(Ok(_)) => tracing::info!(member = format!("{id:x}"), "an added member has its vote now"),
            Some(Err(error)) => tracing::debug!(%error, "cannot give an added member its vote yet"),
            None => return,
        }
    }
}

fn wanted(membership: &Membership) -> impl Iterator<Item = u64> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let wanted: Vec<u64> = membership
        .nodes()
        .filter(|(id, node)| node.wanted_voter && !voters.contains(id))
        .map(|(id, _)| *id)
        .collect();
    wanted.into_iter()
}

/// Appends a membership derived from the current one; retried while another
/// change is under way, for as long as a request may take.
async fn append(
    core: &Arc<Core>,
    edit: impl Fn(&mut BTreeSet<u64>, &mut BTreeMap<u64, MemberNode>),
) -> Result<u64> {
    retried(core, || async {
        let current: StoredMembership = {
            let metrics = core.raft().server_metrics();
            let metrics = metrics.borrow_watched();
            (*metrics.membership_config).clone()
        };
        let mut voters: BTreeSet<u64> = current.membership().voter_ids().collect();
        let mut nodes: BTreeMap<u64, MemberNode> =
            current.membership().nodes().map(|(id, node)| (*id, node.clone())).collect();
        edit(&mut voters, &mut nodes);
        let proposed = match Membership::new(vec![voters], nodes) {
            Ok(proposed) => proposed,
            Err(e) => return Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e.into()))),
        };
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *current.log_id() };
        let blank = openraft::EntryPayload::Blank;
        core.raft().append_membership(proposed, blank, [unchanged]).await.map(|r| r.log_id.index)
    })
    .await
}

/// Repeats a change that was refused before it was appended.
async fn retried<F>(core: &Arc<Core>, attempt: impl Fn() -> F) -> Result<u64>
where
    F: Future<Output = Result<u64, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
{
    let work = async {
        loop {
            let error = match attempt().await {
                Ok(index) => return Ok(index),
                Err(error) => error,
            };
            match error {
                RaftError::Fatal(_) => return Err(Error::from(NodeError::Stopped)),
                RaftError::APIError(ClientWriteError::ForwardToLeader(to)) if to.leader_id.is_some() => {
                    return Err(NodeError::NotLeader.into());
                }
                RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                    return Err(NodeError::LeaderChanged.into());
                }
                RaftError::APIError(ClientWriteError::ForwardToLeader(_))
                | RaftError::APIError(ClientWriteError::PreconditionFailed(_))
                | RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                )) => tokio::time::sleep(RETRY_PAUSE).await,
                RaftError::APIError(other) => return Err(Error::Other(other.to_string())),
            }
        }
    };
    match tokio::time::timeout(core.config.request_timeout(), work).await {
        Ok(done) => done,
        Err(_) => Err(core.timeout_error().into()),
    }
}

fn check_urls(membership: &Membership, except: Option<u64>, urls: &[String]) -> Result<()> {
    if urls.is_empty() {
        return Err(ApiError::BadMemberUrls.into());
    }
    let taken = membership
        .nodes()
        .filter(|(id, _)| Some(**id) != except)
        .any(|(_, node)| node.peer_urls.iter().any(|url| urls.contains(url)));
    if taken { Err(ApiError::PeerUrlExists.into()) } else { Ok(()) }
}

/// A member has started once it has published its name.
fn is_started(member: &pb::Member) -> bool {
    !member.name.is_empty()
}

fn ready_to_add(members: &[pb::Member]) -> Result<()> {
    let voters = members.iter().filter(|m| !m.is_learner);
    let started = voters.clone().filter(|m| is_started(m)).count();
    let count = voters.count() + 1;
    if (started == 1 && count == 2) || started > count / 2 {
        return Ok(());
    }
    Err(ApiError::NotEnoughStartedMembers.into())
}

fn ready_to_remove(members: &[pb::Member], id: u64) -> Result<()> {
    let rest = members.iter().filter(|m| !m.is_learner && m.id != id);
    let started = rest.clone().filter(|m| is_started(m)).count();
    let count = rest.count();
    if count == 1 && started == 0 || started < count / 2 + 1 {
        return Err(ApiError::NotEnoughStartedMembers.into());
    }
    Ok(())
}

fn ready_to_promote(members: &[pb::Member], id: u64) -> Result<()> {
    let voters = members.iter().filter(|m| !m.is_learner || m.id == id);
    let started = voters.clone().filter(|m| is_started(m) || m.id == id).count();
    if started < voters.count() / 2 + 1 {
        return Err(ApiError::NotEnoughStartedMembers.into());
    }
    Ok(())
}

/// The member answered lately; this one always has.
fn is_connected(core: &Core, id: u64) -> bool {
    if id == core.member_id {
        return true;
    }
    let metrics = core.raft().metrics();
    let metrics = metrics.borrow_watched();
    let heartbeats = metrics.heartbeat.as_ref();
    let answered = heartbeats.and_then(|all| all.get(&id).cloned().flatten());
    answered.is_some_and(|at| at.elapsed() <= 5 * core.config.election_timeout)
}

/// All voters that count for the quorum are connected.
fn all_connected(core: &Core) -> bool {
    core.membership().voter_ids().all(|id| is_connected(core, id))
}

/// Entries of the leader's log a member has not got; `None` if unknown.
fn lag(core: &Core, id: u64) -> Option<u64> {
    let metrics = core.raft().metrics();
    let metrics = metrics.borrow_watched();
    let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?.index;
    Some(metrics.last_log_index?.saturating_sub(matched))
}

/// The last entry of the leader's log a member has; `None` if unknown.
pub(super) fn matched(core: &Core, id: u64) -> Option<u64> {
    let metrics = core.raft().metrics();
    let metrics = metrics.borrow_watched();
    Some(metrics.replication.as_ref()?.get(&id)?.as_ref()?.index)
}

fn in_sync(core: &Core, id: u64) -> bool {
    let last = core.raft().metrics().borrow_watched().last_log_index;
    let (Some(matched), Some(last)) = (matched(core, id), last) else { return false };
    matched.saturating_mul(100) >= last.saturating_mul(IN_SYNC_PERCENT)
}

/// True for a member that votes, or will.
pub(crate) fn votes(membership: &Membership, id: u64) -> bool {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership.get_node(&id).is_some_and(|node| is_voter(id, node, &voters))
}
