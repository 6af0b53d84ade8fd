//! The leader's care for learners: those that have caught up get their vote, those
//! that make no progress are removed, so that others can join.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_raft::Node;
use skiff_store::{ApiError, Cluster, Error};
use tokio::time::Instant;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A learner that has got nothing new for this long is removed.
pub const STALLED: Duration = Duration::from_secs(5 * 60);

/// What is known of a learner.
#[derive(Debug, Clone, Copy)]
struct Progress {
    matched: Option<u64>,
    since: Instant,
}

/// Tells who makes no progress. Decides without doing.
#[derive(Debug, Default)]
pub struct Watch {
    seen: BTreeMap<u64, Progress>,
}

impl Watch {
    /// Takes in how far each learner has come; answers those that have stalled.
    pub fn step(&mut self, now: Instant, learners: &[(u64, Option<u64>)]) -> Vec<u64> {
        self.seen.retain(|id, _| learners.iter().any(|(learner, _)| learner == id));
        let mut stalled = Vec::new();
        for (id, matched) in learners {
            let progress = self.seen.entry(*id).or_insert(Progress { matched: *matched, since: now });
            if progress.matched != *matched {
                *progress = Progress { matched: *matched, since: now };
            } else if now.duration_since(progress.since) >= STALLED {
                stalled.push(*id);
            }
        }
        stalled
    }
}

/// Looks after learners until dropped; does something only while this member
/// leads.
pub async fn run(node: Arc<Node>) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(PAUSE).await;
        if !node.leads() {
            // Another leader counts anew.
            watch = Watch::default();
            continue;
        }
        let Ok(members) = node.members(false).await else { continue };
        let ids: Vec<u64> =
            members.iter().filter(|member| member.is_learner).map(|member| member.id).collect();
        for id in &ids {
            promote(&node, *id).await;
        }
        let learners: Vec<(u64, Option<u64>)> = ids.into_iter().map(|id| (id, node.replicated(id))).collect();
        for id in watch.step(Instant::now(), &learners) {
            let member = format!("{id:x}");
            match node.remove(id).await {
                Ok(_) => {
                    tracing::warn!(member, "a learner made no progress and was removed; it may join anew")
                }
                Err(error) => {
                    tracing::warn!(member, %error, "cannot remove a learner that makes no progress")
                }
            }
        }
    }
}

async fn promote(node: &Node, id: u64) {
    let member = format!("{id:x}");
    match node.promote(id).await {
        Ok(_) => tracing::info!(member, "a learner has caught up and has its vote now"),
        Err(Error::Api(ApiError::LearnerNotReady)) => {
            tracing::debug!(member, "a learner has not caught up yet")
        }
        Err(error) => tracing::debug!(member, %error, "cannot give a learner its vote yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_makes_no_progress_is_removed() {
        let start = Instant::now();
        let mut watch = Watch::default();
        let half = STALLED / 2;
        assert!(watch.step(start, &[(1, None), (2, Some(1)), (3, Some(5))]).is_empty());
        assert!(watch.step(start + half, &[(1, None), (2, Some(2)), (3, Some(5))]).is_empty());
        assert_eq!(watch.step(start + STALLED, &[(1, None), (2, Some(2)), (3, Some(5))]), [1, 3]);
        // One that joins anew begins anew.
        assert!(watch.step(start + STALLED, &[(2, Some(3))]).is_empty());
        assert!(watch.step(start + STALLED + half, &[(1, None), (2, Some(4))]).is_empty());
        assert_eq!(watch.step(start + 3 * STALLED, &[(1, None), (2, Some(5))]), [1]);
    }
}
