//! What a node does by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};
use skiff_store::pb::skiff::v1::{Command, command::Op};
use tokio::time::MissedTickBehavior;

use super::core::{Core, End};
use super::{corruption, membership};
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{MemberStatus, request::Ask};
use crate::peer::CallError;
use crate::types::{MemberNode, StoredMembership};

/// How often the leader's signs of life are looked at.
const OBSERVE_TICK: Duration = Duration::from_millis(50);
/// Pause before publishing is tried again.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);
/// Pause before a note of who left is written again, as on a full disk.
const REMEMBER_PAUSE: Duration = Duration::from_secs(2);
/// Entries purged at once: openraft's batch.
const HELD_SLACK: u64 = 256;
/// How often replaced states are looked for.
const SWEEP_TICK: Duration = Duration::from_secs(10);

impl Core {
    /// This member leads and has applied everything from before its term: it
    /// may keep time and decide.
    pub(crate) fn sets_time(&self) -> bool {
        let applied = self.shared.applied();
        applied.is_some_and(|at| at.committed_leader_id().term == self.term())
    }
}

/// Follows who leads; starts and stops the keeping of time.
pub(crate) async fn observe(core: Arc<Core>) {
    let mut metrics = core.raft().server_metrics();
    let mut tick = tokio::time::interval(OBSERVE_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follows = None;
    loop {
        let leader = look(&core, &mut follows);
        let before = core.leader.send_replace(leader);
        if leader != before {
            tracing::info!(leader = format!("{leader:x}"), term = core.term(), "leader changed");
            if leader != 0 {
                METRICS.leader_changes.inc();
            }
        }
        METRICS.has_leader.set((leader != 0).into());
        METRICS.is_leader.set((leader == core.member_id).into());
        METRICS.is_learner.set(core.learner.load(Ordering::Relaxed).into());
        if leader == core.member_id && core.sets_time() {
            core.lessor.promote(core.term(), core.config.election_timeout);
        } else if leader != core.member_id && core.lessor.term().is_some() {
            core.lessor.demote();
        }
        let wake = async {
            tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                _ = tick.tick() => true,
            }
        };
        match core.until_stop(wake).await {
            Some(true) => {}
            Some(false) => return core.end(End::Failed("the log has stopped".into())),
            None => return,
        }
    }
}

/// Who leads, as far as this member can tell: a leader that is silent for an
/// election timeout, or that has lost its quorum for as long, is none.
fn look(core: &Core, follows: &mut Option<(u64, u64)>) -> u64 {
    let metrics = core.raft().metrics();
    let metrics = metrics.borrow_watched();
    let term = metrics.vote.leader_id().term;
    core.term.store(term, Ordering::Release);
    METRICS.proposals_committed.set(metrics.cluster_committed.map_or(0, |at| at.index as i64));
    if let Err(fatal) = &metrics.running_state {
        core.end(End::Failed(fatal.to_string()));
        return 0;
    }
    let membership = metrics.membership_config.membership();
    let known = membership.get_node(&core.member_id).is_some();
    core.learner.store(known && !membership::votes(membership, core.member_id), Ordering::Relaxed);
    let Some(leader) = metrics.current_leader else { return 0 };
    if *follows != Some((term, leader)) {
        *follows = Some((term, leader));
        core.hear();
    }
    let alive = if leader == core.member_id {
        let alone = membership.voter_ids().all(|id| id == core.member_id);
        let acked = metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < core.config.election_timeout);
        // A fresh leader has until then to hear from its quorum.
        metrics.state == ServerState::Leader
            && (alone || acked || core.silence() < core.config.election_timeout)
    } else {
        core.silence() < core.config.election_timeout
    };
    if alive { leader } else { 0 }
}

/// Follows the applied membership: tells the transport, remembers who left,
/// ends the node if it is the one. `before` are the members in the state when
/// it was opened: a removal may be applied before this looks for the first time.
pub(crate) async fn follow_membership(core: Arc<Core>, mut before: BTreeSet<u64>) {
    let mut applied = core.shared.watch_membership();
    let mut written = true;
    loop {
        let now = applied.borrow_and_update().clone();
        let ids = note(&core, &now);
        let left: BTreeSet<u64> = before.difference(&ids).copied().collect();
        if !left.is_empty() || !written {
            written = remember(&core, &left);
        }
        if left.contains(&core.member_id) {
            tracing::error!("the member has been permanently removed from the cluster");
            return core.end(End::Removed);
        }
        before = ids;
        let changed = async {
            if written {
                return applied.changed().await.is_ok();
            }
            match tokio::time::timeout(REMEMBER_PAUSE, applied.changed()).await {
                Ok(changed) => changed.is_ok(),
                Err(_) => true,
            }
        };
        if core.until_stop(changed).await != Some(true) {
            return;
        }
    }
}

fn note(core: &Core, membership: &StoredMembership) -> BTreeSet<u64> {
    let nodes: Vec<(u64, MemberNode)> = membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
    core.peers.set_members(&nodes);
    nodes.into_iter().map(|(id, _)| id).collect()
}

/// Answers whether it is written down.
fn remember(core: &Core, left: &BTreeSet<u64>) -> bool {
    let mut metadata = core.metadata.lock();
    metadata.removed.extend(left);
    let saved = metadata.save(&core.config.data_dir.join("member"));
    if let Err(error) = &saved {
        tracing::error!(%error, "cannot write down which members left; trying again");
    }
    saved.is_ok()
}

/// Asks the others, while no leader talks to this member, whether it was
/// removed: the entry that removes a member need not reach it.
pub(crate) async fn ask_if_removed(core: Arc<Core>) {
    let mut tick = tokio::time::interval(core.config.election_timeout);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while core.until_stop(tick.tick()).await.is_some() {
        if core.leader() != 0 {
            continue;
        }
        let others: Vec<u64> =
            core.membership().nodes().map(|(id, _)| *id).filter(|id| *id != core.member_id).collect();
        let asked = others
            .into_iter()
            .map(|id| core.call(id, Ask::MemberStatus(MemberStatus {}), core.config.election_timeout));
        let Some(answers) = core.until_stop(futures::future::join_all(asked)).await else { return };
        if answers.iter().any(|answer| matches!(answer, Err(CallError::Removed))) {
            remember(&core, &BTreeSet::from([core.member_id]));
            tracing::error!("the member has been permanently removed from the cluster");
            return core.end(End::Removed);
        }
    }
}

/// Publishes this member's name and client URLs until they are in the state.
pub(crate) async fn publish(core: Arc<Core>) {
    let own = core.config.attributes(core.member_id);
    let mut leader = core.watch_leader();
    loop {
        let known = core.shared.mvcc.member_attributes().remove(&core.member_id);
        let same = |m: skiff_store::pb::etcdserverpb::Member| {
            m.name == own.name && m.client_ur_ls == own.client_ur_ls
        };
        if known.is_some_and(same) {
            core.published.send_replace(true);
            return;
        }
        let member = core.membership().get_node(&core.member_id).is_some();
        if member && core.leader() != 0 {
            let command = Command::from(Op::MemberPublish(own.clone()));
            match core.execute(command).await {
                Ok(_) => {
                    tracing::info!("published this member's attributes to the cluster");
                    core.published.send_replace(true);
                    return;
                }
                Err(error) => tracing::debug!(%error, "cannot publish yet"),
            }
        }
        // A new leader is told at once.
        let pause = tokio::time::timeout(PUBLISH_PAUSE, leader.changed());
        if core.until_stop(pause).await.is_none() {
            return;
        }
    }
}

/// Makes the state durable now and then, so that the log can be purged.
pub(crate) async fn flush(core: Arc<Core>) {
    let mut flushed = core.shared.applied_index();
    loop {
        let due = tokio::time::timeout(core.config.flush_interval, core.shared.flush.notified());
        if core.until_stop(due).await.is_none() {
            return;
        }
        let applied = core.shared.applied_index();
        if applied == flushed {
            continue;
        }
        flushed = applied;
        // "Building a snapshot" is flushing; openraft then purges the log.
        let _ = core.raft().trigger().snapshot().await;
        if core.until_stop(free_log(&core)).await.is_none() {
            return;
        }
        let mvcc = core.shared.mvcc.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || mvcc.save_index()).await {
            tracing::warn!(%error, "cannot save the index; the next start takes longer");
        }
    }
}

/// Lets another member lead where a lagging peer keeps this one's log from
/// being purged, and the log has grown too large.
async fn free_log(core: &Arc<Core>) {
    let purged = core.raft().metrics().borrow_watched().purged.map_or(0, |at| at.index);
    let durable = core.shared.durable().0.map_or(0, |at| at.index);
    // Purging waits for a little more than what is kept in any case.
    let held = durable.saturating_sub(purged) > 2 * core.config.catchup_entries + HELD_SLACK;
    if held && core.is_leader() && core.wal.disk_bytes() > core.config.log_limit_bytes {
        tracing::warn!(purged, durable, "a lagging peer holds the log back; another member shall lead");
        super::start::hand_over(core).await;
    }
}

/// Counts a step of a compaction.
fn count_compaction(begun: std::time::Instant, step: std::time::Instant, more: bool) {
    METRICS.compaction_pause.observe(step.elapsed().as_secs_f64() * 1e3);
    if !more {
        METRICS.compaction_total.observe(begun.elapsed().as_secs_f64() * 1e3);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        METRICS.compaction_last.set(now.as_secs() as i64);
    }
}

/// Compacts physically, step by step.
pub(crate) async fn compact(core: Arc<Core>) {
    let mut begun = None;
    loop {
        let mvcc = core.shared.mvcc.clone();
        let settled = mvcc.compacted_physically(mvcc.compact_revision());
        let step = std::time::Instant::now();
        let more = match tokio::task::spawn_blocking(move || mvcc.compact_step()).await {
            Ok(Ok(more)) => {
                if !settled {
                    count_compaction(*begun.get_or_insert(step), step, more);
                    begun = begun.filter(|_| more);
                }
                more
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "compaction failed; trying again");
                core.until_stop(tokio::time::sleep(Duration::from_secs(1))).await;
                true
            }
            Err(_) => return,
        };
        let next = async {
            if more {
                tokio::time::sleep(core.config.compaction_pause).await;
            } else {
                corruption::note_compaction(&core).await;
                core.shared.compaction.notified().await;
            }
        };
        if core.until_stop(next).await.is_none() {
            return;
        }
    }
}

/// Deletes states that snapshots replaced, once nobody reads them.
pub(crate) async fn sweep(core: Arc<Core>) {
    let mut tick = tokio::time::interval(SWEEP_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while core.until_stop(tick.tick()).await.is_some() {
        core.state_dir.sweep();
    }
}
