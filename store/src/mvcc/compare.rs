//! The conditions of a transaction: pure, shared by every store.

use std::cmp::Ordering;

use crate::pb::etcdserverpb::Compare;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::mvccpb::KeyValue;

/// True where the condition holds for every pair in `pairs`, which are all
/// pairs of the condition's range.
///
/// A key that is not there compares as one with zeros for numbers; its value
/// compares with nothing, so a condition on it fails.
pub fn holds(compare: &Compare, pairs: &[KeyValue]) -> bool {
    if pairs.is_empty() {
        return target(compare) != Some(CompareTarget::Value) && holds_for(compare, &KeyValue::default());
    }
    pairs.iter().all(|kv| holds_for(compare, kv))
}

/// True where the condition needs the values of its keys.
pub fn needs_value(compare: &Compare) -> bool {
    target(compare) == Some(CompareTarget::Value)
}

fn target(compare: &Compare) -> Option<CompareTarget> {
    CompareTarget::try_from(compare.target).ok()
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let operand = compare.target_union.as_ref();
    // An operand of another target counts as that target's zero value, an
    // unknown target as equal: as etcd evaluates them.
    let ordering = match target(compare) {
        Some(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(&[]),
        },
        Some(CompareTarget::Version) => match operand {
            Some(TargetUnion::Version(version)) => kv.version.cmp(version),
            _ => kv.version.cmp(&0),
        },
        Some(CompareTarget::Create) => match operand {
            Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
            _ => kv.create_revision.cmp(&0),
        },
        Some(CompareTarget::Mod) => match operand {
            Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
            _ => kv.mod_revision.cmp(&0),
        },
        Some(CompareTarget::Lease) => match operand {
            Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
            _ => kv.lease.cmp(&0),
        },
        None => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Err(_) => true,
    }
}
