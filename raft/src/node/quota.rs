//! Space: the quota, and what is left of the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skiff_store::error::{ApiError, Result};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, command::Op};

use super::core::Core;

/// What a pair takes beside its key and value.
const PAIR_OVERHEAD: i64 = 256;
/// What a lease takes.
const LEASE_OVERHEAD: i64 = 64;
/// How often the disk is looked at.
const DISK_TICK: Duration = Duration::from_secs(1);
/// The alarm raised by the disk ends once this many times the reserve is free.
const ROOM_AGAIN: u64 = 2;
/// What must stay free beside a received snapshot, as a part of the reserve:
/// opening it writes a little.
const BESIDE_SNAPSHOT: u64 = 4;

/// Refuses what would exceed the quota, and raises the alarm for all members.
/// Such an alarm is the operator's to end, as in etcd.
///
/// # Errors
/// [`ApiError::NoSpace`].
pub(crate) async fn check(core: &Arc<Core>, op: &Op) -> Result<()> {
    let Some(quota) = core.config.quota() else { return Ok(()) };
    let Some(cost) = cost(op) else { return Ok(()) };
    if core.shared.mvcc.bytes_in_use() + cost <= quota {
        return Ok(());
    }
    if !is_raised(core) {
        tracing::warn!(quota, "the quota is used up; raising the NOSPACE alarm");
        core.execute(alarm(core, pb::alarm_request::AlarmAction::Activate)).await?;
    }
    Err(ApiError::NoSpace.into())
}

/// Bytes a command may add; `None` for one that takes no space.
fn cost(op: &Op) -> Option<i64> {
    match op {
        Op::Put(request) => Some(put_cost(request)),
        Op::LeaseGrant(_) => Some(LEASE_OVERHEAD),
        Op::Txn(request) => {
            let (success, failure) = (ops_cost(&request.success), ops_cost(&request.failure));
            (success + failure > 0).then(|| success.max(failure))
        }
        _ => None,
    }
}

fn put_cost(request: &pb::PutRequest) -> i64 {
    PAIR_OVERHEAD + (request.key.len() + request.value.len()) as i64
}

/// As etcd, without the puts of nested transactions.
fn ops_cost(ops: &[pb::RequestOp]) -> i64 {
    use pb::request_op::Request;
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(request)) => put_cost(request),
            _ => 0,
        })
        .sum()
}

fn is_raised(core: &Core) -> bool {
    let this = pb::AlarmMember { member_id: core.member_id, alarm: pb::AlarmType::Nospace as i32 };
    core.shared.mvcc.alarms().contains(&this)
}

fn alarm(core: &Core, action: pb::alarm_request::AlarmAction) -> Command {
    let request = pb::AlarmRequest {
        action: action as i32,
        member_id: core.member_id,
        alarm: pb::AlarmType::Nospace as i32,
    };
    Command::from(Op::Alarm(request))
}

/// Raises NOSPACE while this member's disk is nearly full, and ends the alarm
/// it raised itself once there is room again.
pub(crate) async fn run(core: Arc<Core>, is_full: impl Fn() -> bool + Send + 'static) {
    use pb::alarm_request::AlarmAction;
    if core.config.disk_reserve == 0 {
        return;
    }
    let mut tick = tokio::time::interval(DISK_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut raised_here = false;
    // Entry of the last change made here. A full disk may keep this member from
    // applying it: until then its own state does not tell what was raised.
    let mut changed_at = 0;
    while core.until_stop(tick.tick()).await.is_some() {
        let full = is_full() || core.shared.is_stuck() || below_reserve(&core, 1);
        let known = core.shared.applied_index() >= changed_at;
        let action = if full && known && !is_raised(&core) {
            tracing::warn!("the disk is nearly full; raising the NOSPACE alarm");
            AlarmAction::Activate
        } else if raised_here && !full && !below_reserve(&core, ROOM_AGAIN) {
            tracing::info!("there is room on the disk again; ending the NOSPACE alarm");
            AlarmAction::Deactivate
        } else {
            continue;
        };
        // Also where the outcome stays unknown, the alarm is this task's to end.
        raised_here = true;
        match core.propose(alarm(&core, action)).await {
            Ok(index) => {
                changed_at = index;
                raised_here = action == AlarmAction::Activate;
            }
            Err(error) => tracing::warn!(%error, "cannot change the NOSPACE alarm; trying again"),
        }
    }
}

/// Fails where the disk has no room for a snapshot of so many bytes.
///
/// # Errors
/// `StorageFull`, with both numbers.
pub(crate) fn check_room(core: &Core, bytes: u64) -> std::io::Result<()> {
    let needed = bytes.saturating_add(core.config.disk_reserve / BESIDE_SNAPSHOT);
    match free(&core.config.data_dir.join("member")) {
        Some(free) if free < needed => Err(std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("no space left on device: it needs {needed} bytes, {free} are free"),
        )),
        _ => Ok(()),
    }
}

fn below_reserve(core: &Core, times: u64) -> bool {
    let low = |dir: &Path| free(dir).is_some_and(|free| free < core.config.disk_reserve * times);
    low(&core.config.data_dir.join("member")) || low(&core.log_dir)
}

/// Free bytes on the disk of a directory; unknown is not full.
fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
