//! Log entries and keys as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skiff_raft::types::{Entry, Membership, Payload};
use skiff_store::Result;
use skiff_store::mvcc::Version;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use skiff_store::pb::etcdserverpb::request_op::Request;
use skiff_store::pb::skiff::v1::Command;
use skiff_store::pb::skiff::v1::auth_change::Change;
use skiff_store::pb::skiff::v1::command::Op;

use super::status::hex;

/// Longest printed form of a value, in bytes; the base64 is always whole.
const SHOWN_BYTES: usize = 256;

/// Bytes, whole and as people read them.
fn bytes(bytes: &[u8]) -> Value {
    json!({"base64": STANDARD.encode(bytes), "text": text(bytes)})
}

fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.len() <= SHOWN_BYTES
        && !text.chars().any(char::is_control)
    {
        return text.to_owned();
    }
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

/// A version of a key.
pub(super) fn version(version: &Version) -> Value {
    let kv = &version.kv;
    if version.deleted {
        return json!({"key": bytes(&kv.key), "modRevision": kv.mod_revision, "deleted": true});
    }
    json!({
        "key": bytes(&kv.key),
        "value": bytes(&kv.value),
        "createRevision": kv.create_revision,
        "modRevision": kv.mod_revision,
        "version": kv.version,
        "lease": lease(kv.lease),
    })
}

/// A log entry.
///
/// # Errors
/// Its commands do not decode.
pub(super) fn entry(entry: &Entry) -> Result<Value> {
    let at = entry.log_id;
    let mut line = json!({"index": at.index, "term": at.committed_leader_id().term});
    match &entry.payload {
        Payload::Blank => line["kind"] = "blank".into(),
        Payload::Membership(members) => {
            line["kind"] = "membership".into();
            line["membership"] = membership(members);
        }
        Payload::Normal(proposal) => {
            line["kind"] = "commands".into();
            line["bytes"] = proposal.encoded().len().into();
            line["commands"] = proposal.commands()?.commands.iter().map(command).collect();
        }
    }
    Ok(line)
}

fn membership(membership: &Membership) -> Value {
    let voters =
        membership.get_joint_config().iter().map(|ids| ids.iter().map(|id| hex(*id)).collect::<Value>());
    let members = membership.nodes().map(
        |(id, node)| json!({"id": hex(*id), "peerURLs": node.peer_urls, "wantedVoter": node.wanted_voter}),
    );
    json!({"voters": voters.collect::<Value>(), "members": members.collect::<Value>()})
}

fn command(command: &Command) -> Value {
    let mut shown = op(command);
    if let Some(caller) = &command.caller
        && !caller.user.is_empty()
    {
        shown["user"] = json!(caller.user);
    }
    shown
}

fn op(command: &Command) -> Value {
    match &command.op {
        Some(Op::Put(request)) => put(request),
        Some(Op::DeleteRange(request)) => delete_range(request),
        Some(Op::Txn(request)) => txn(request),
        Some(Op::Compact(request)) => {
            json!({"op": "compact", "revision": request.revision, "physical": request.physical})
        }
        Some(Op::LeaseGrant(request)) => {
            json!({"op": "leaseGrant", "lease": lease(request.id), "ttl": request.ttl})
        }
        Some(Op::LeaseRevoke(request)) => {
            json!({"op": "leaseRevoke", "lease": lease(request.id), "expiredInTerm": request.expired_in_term})
        }
        Some(Op::LeaseCheckpoint(request)) => {
            let leases = request.checkpoints.iter();
            let leases = leases.map(|c| json!({"lease": lease(c.id), "remainingTTL": c.remaining_ttl}));
            json!({"op": "leaseCheckpoint", "leases": leases.collect::<Value>()})
        }
        Some(Op::Alarm(request)) => {
            let alarm = pb::AlarmType::try_from(request.alarm).map_or("unknown", |alarm| alarm.as_str_name());
            json!({"op": "alarm", "action": request.action, "member": hex(request.member_id), "alarm": alarm})
        }
        Some(Op::MemberPublish(member)) => json!({
            "op": "memberPublish", "member": hex(member.id), "name": member.name,
            "clientURLs": member.client_ur_ls,
        }),
        Some(Op::ClusterVersion(version)) => json!({"op": "clusterVersion", "version": version}),
        Some(Op::Downgrade(info)) => {
            json!({"op": "downgrade", "enabled": info.enabled, "targetVersion": info.target_version})
        }
        Some(Op::Adopt(adopt)) => {
            json!({"op": "adopt", "changes": adopt.changes.len(), "through": adopt.through})
        }
        Some(Op::Auth(request)) => match &request.change {
            Some(change) => auth(change),
            None => json!({"op": "none"}),
        },
        // Neither tokens nor hashes of passwords are shown.
        Some(Op::Authenticate(request)) => json!({"op": "authenticate", "name": request.user}),
        None => json!({"op": "none"}),
    }
}

fn auth(change: &Change) -> Value {
    match change {
        Change::Enable(_) => json!({"op": "authEnable"}),
        Change::Disable(_) => json!({"op": "authDisable"}),
        Change::UserAdd(request) => json!({"op": "userAdd", "name": request.name}),
        Change::UserDelete(request) => json!({"op": "userDelete", "name": request.name}),
        Change::UserPassword(request) => json!({"op": "userChangePassword", "name": request.name}),
        Change::UserGrant(request) => {
            json!({"op": "userGrantRole", "name": request.user, "role": request.role})
        }
        Change::UserRevoke(request) => {
            json!({"op": "userRevokeRole", "name": request.name, "role": request.role})
        }
        Change::RoleAdd(request) => json!({"op": "roleAdd", "role": request.name}),
        Change::RoleDelete(request) => json!({"op": "roleDelete", "role": request.role}),
        Change::RoleGrant(request) => {
            let granted = request.perm.as_ref();
            json!({
                "op": "roleGrantPermission", "role": request.name,
                "permission": granted.map(|granted| granted.perm_type().as_str_name()),
                "key": granted.map(|granted| bytes(&granted.key)),
                "rangeEnd": granted.map(|granted| bytes(&granted.range_end)),
            })
        }
        Change::RoleRevoke(request) => json!({
            "op": "roleRevokePermission", "role": request.role, "key": bytes(&request.key),
            "rangeEnd": bytes(&request.range_end),
        }),
    }
}

fn put(request: &pb::PutRequest) -> Value {
    json!({
        "op": "put", "key": bytes(&request.key), "value": bytes(&request.value), "lease": lease(request.lease),
        "ignoreValue": request.ignore_value, "ignoreLease": request.ignore_lease,
    })
}

fn delete_range(request: &pb::DeleteRangeRequest) -> Value {
    json!({"op": "deleteRange", "key": bytes(&request.key), "rangeEnd": bytes(&request.range_end)})
}

/// Nested as deep as the message, whose depth its decoder bounds.
fn txn(request: &pb::TxnRequest) -> Value {
    let branch = |operations: &[pb::RequestOp]| operations.iter().map(operation).collect::<Value>();
    json!({
        "op": "txn",
        "compare": request.compare.iter().map(compare).collect::<Value>(),
        "success": branch(&request.success),
        "failure": branch(&request.failure),
    })
}

fn operation(operation: &pb::RequestOp) -> Value {
    match &operation.request {
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => txn(request),
        Some(Request::RequestRange(request)) => json!({
            "op": "range", "key": bytes(&request.key), "rangeEnd": bytes(&request.range_end),
            "limit": request.limit, "revision": request.revision,
        }),
        None => json!({"op": "none"}),
    }
}

fn compare(compare: &pb::Compare) -> Value {
    let target = CompareTarget::try_from(compare.target).map_or("unknown", |target| target.as_str_name());
    let result = CompareResult::try_from(compare.result).map_or("unknown", |result| result.as_str_name());
    let with = match &compare.target_union {
        Some(TargetUnion::Value(value)) => bytes(value),
        Some(
            TargetUnion::Version(number)
            | TargetUnion::CreateRevision(number)
            | TargetUnion::ModRevision(number),
        ) => {
            json!(number)
        }
        Some(TargetUnion::Lease(id)) => lease(*id),
        None => Value::Null,
    };
    json!({
        "key": bytes(&compare.key), "rangeEnd": bytes(&compare.range_end),
        "target": target, "result": result, "with": with,
    })
}

/// A lease as etcdctl writes it; "0" for none.
fn lease(id: i64) -> Value {
    format!("{id:x}").into()
}

#[cfg(test)]
mod tests {
    use skiff_store::pb::skiff::v1::{AuthChange, Authenticate, UserAdd};

    use super::*;

    #[test]
    fn a_dump_shows_no_secret() {
        let add = UserAdd { name: "alice".into(), password_hash: "$2a$hash".into(), no_password: false };
        let change = AuthChange { change: Some(Change::UserAdd(add)) };
        let token =
            Authenticate { user: "alice".into(), token_prefix: "SecretPrefix".into(), auth_revision: 1 };
        for (op, name) in [(Op::Auth(change), "userAdd"), (Op::Authenticate(token), "authenticate")] {
            let shown = command(&Command::from(op)).to_string();
            assert!(shown.contains(name) && shown.contains("alice"), "{shown}");
            for secret in ["2a", "Secret", &STANDARD.encode("$2a$hash")[..]] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }

    #[test]
    fn bytes_are_whole_and_readable() {
        assert_eq!(bytes(b"a/b"), json!({"base64": "YS9i", "text": "a/b"}));
        assert_eq!(bytes(&[0, 0xff]), json!({"base64": "AP8=", "text": "\\x00\\xff"}));
        assert_eq!(text("ä".as_bytes()), "ä");
        assert!(text(&[b'x'; 5000]).len() < 300);
    }
}
