//! Counts applied commands, by the names etcd's metrics have for them.

use skiff_store::ApiError;
use skiff_store::error::Error;
use skiff_store::mvcc::{Entry, EntryOutcome};
use skiff_store::pb::skiff::v1::auth_change::Change;
use skiff_store::pb::skiff::v1::command::Op;

use crate::metrics::Tally;

/// Counts the commands of entries, by what came of them.
pub(super) fn tally(entries: &[Entry], outcomes: &[EntryOutcome]) -> Tally {
    let mut tally = Tally::new();
    for (entry, outcome) in entries.iter().zip(outcomes) {
        for (command, reply) in entry.commands.iter().zip(&outcome.replies) {
            // What was compacted away already is no failure, as with etcd.
            let success = matches!(reply, Ok(_) | Err(Error::Api(ApiError::Compacted)));
            *tally.entry((name(command.op.as_ref()), success)).or_default() += 1;
        }
    }
    tally
}

fn name(op: Option<&Op>) -> &'static str {
    match op {
        Some(Op::Put(_)) => "Put",
        Some(Op::DeleteRange(_)) => "DeleteRange",
        Some(Op::Txn(_)) => "Txn",
        Some(Op::Compact(_)) => "Compaction",
        Some(Op::LeaseGrant(_)) => "LeaseGrant",
        Some(Op::LeaseRevoke(_)) => "LeaseRevoke",
        Some(Op::LeaseCheckpoint(_)) => "LeaseCheckpoint",
        Some(Op::Alarm(_)) => "Alarm",
        Some(Op::MemberPublish(_)) => "ClusterMemberAttrSet",
        Some(Op::ClusterVersion(_)) => "ClusterVersionSet",
        Some(Op::Downgrade(_)) => "DowngradeInfoSet",
        Some(Op::Adopt(_)) => "Adopt",
        Some(Op::Authenticate(_)) => "Authenticate",
        Some(Op::Auth(change)) => change.change.as_ref().map_or("unknown", auth_name),
        None => "unknown",
    }
}

fn auth_name(change: &Change) -> &'static str {
    match change {
        Change::Enable(_) => "AuthEnable",
        Change::Disable(_) => "AuthDisable",
        Change::UserAdd(_) => "AuthUserAdd",
        Change::UserDelete(_) => "AuthUserDelete",
        Change::UserPassword(_) => "AuthUserChangePassword",
        Change::UserGrant(_) => "AuthUserGrantRole",
        Change::UserRevoke(_) => "AuthUserRevokeRole",
        Change::RoleAdd(_) => "AuthRoleAdd",
        Change::RoleDelete(_) => "AuthRoleDelete",
        Change::RoleGrant(_) => "AuthRoleGrantPermission",
        Change::RoleRevoke(_) => "AuthRoleRevokePermission",
    }
}
