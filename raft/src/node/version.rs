//! The cluster's version: the lowest of its members', decided by the leader.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::pb::skiff::v1::{Command, command::Op};

use super::core::Core;
use crate::pb::skiff::raft::v1::{MemberStatus, reply::Answer, request::Ask};

/// How often the members' versions are looked at.
const TICK: Duration = Duration::from_secs(5);
/// How long to wait for a member's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Major and minor of "3.6.0", "3.6" or "v3.6.0"; `None` if it is no version.
pub(crate) fn parse(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    match parts.next() {
        Some(patch) => patch.split('-').next()?.parse::<u32>().ok()?,
        None => 0,
    };
    parts.next().is_none().then_some((major, minor))
}

/// Decides the version while this member leads; at once when it begins to.
pub(crate) async fn run(core: Arc<Core>) {
    let mut leader = core.watch_leader();
    loop {
        if core.is_leader() && core.sets_time() {
            decide(&core).await;
        }
        let pause =
            if core.shared.mvcc.cluster_version().is_empty() { Duration::from_millis(100) } else { TICK };
        let next = tokio::time::timeout(pause, leader.changed());
        if core.until_stop(next).await.is_none() {
            return;
        }
    }
}

async fn decide(core: &Arc<Core>) {
    let Some(mut lowest) = parse(&core.config.version) else { return };
    let others: Vec<u64> = core.membership().voter_ids().filter(|id| *id != core.member_id).collect();
    let asked = others.into_iter().map(|id| core.call(id, Ask::MemberStatus(MemberStatus {}), PATIENCE));
    let current = core.shared.mvcc.cluster_version();
    for answer in futures::future::join_all(asked).await {
        match answer {
            Ok(Answer::MemberStatus(status)) => match parse(&status.version) {
                Some(version) => lowest = lowest.min(version),
                None => return,
            },
            // Unknown: wait for it, unless a version was decided before.
            _ if current.is_empty() => {}
            _ => return,
        }
    }
    let downgrading = core.shared.mvcc.downgrade().is_some_and(|info| info.enabled);
    let decided = format!("{}.{}.0", lowest.0, lowest.1);
    let raises = current.is_empty() || parse(&current).is_some_and(|now| now < lowest);
    if decided == current || !(raises || downgrading) {
        return;
    }
    tracing::info!(version = decided, "setting the cluster version");
    let command = Command::from(Op::ClusterVersion(decided));
    if let Err(error) = core.execute(command).await {
        tracing::debug!(%error, "cannot set the cluster version yet");
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse("3.6.0"), Some((3, 6)));
        assert_eq!(parse("3.5"), Some((3, 5)));
        assert_eq!(parse("v3.7.0-alpha.1"), None);
        assert_eq!(parse("v3.7.0-rc1"), Some((3, 7)));
        assert_eq!(parse("three"), None);
        assert_eq!(parse(""), None);
    }
}
