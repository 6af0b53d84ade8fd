//! Sequences of users: changes of users and roles, logins, and requests in the names of several callers.

use skiff_test_support::Rng;
use skiff_test_support::pb::authpb::{Permission, UserAddOptions};
use skiff_test_support::pb::etcdserverpb::*;

use crate::call::Call;
use crate::op::{NOBODY, Op, SLOTS, Step};

/// Steps of a sequence.
const STEPS: usize = 250;
const USERS: &[&str] = &["root", "root", "a", "b", "n", ""];
const ROLES: &[&str] = &["root", "r1", "r1", "r2", ""];
const PASSWORDS: &[&str] = &["p", "q"];
const KEYS: &[&str] = &["k1", "k2", "k2/x", "k3", "k4"];

type Range = (&'static str, &'static str);

/// None ends before it begins: whether etcd permits such a one, which holds no key, depends on the shape of
/// its tree of grants.
const RANGES: &[Range] = &[("k1", ""), ("k1", "k3"), ("k2/", "k20"), ("k3", ""), ("k3", "k9"), ("k", "\0")];
/// What roles are granted. No two begin with the same key: etcd finds only the first of those again.
const GRANTS: &[Range] = &[("k1", ""), ("k2", "k3"), ("k2/x", "k2/y"), ("k3", "\0"), ("k4", "k1"), ("", "")];

/// Makes a sequence; most of them begin with auth turned on.
pub(crate) fn sequence(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    if rng.chance(75) {
        steps.extend(guarded("k2", "k3").into_iter().map(Step::from));
    }
    while steps.len() < STEPS {
        // Root's slot and nobody's more often than the others.
        let caller = *rng.pick(&[0, 0, 0, 1, 2, 3, NOBODY]);
        let json = rng.chance(25);
        steps.push(Step { caller, json, op: op(rng) });
    }
    steps
}

/// Turns auth on: slot 0 is root's, slot 1 that of `a`, who may read and write from `key` to `end`, and
/// slot 2 that of `b`, who may read there.
pub(crate) fn guarded(key: &str, end: &str) -> Vec<Op> {
    let mut ops = vec![Op::Call(user_add("root", "p")), Op::Call(user_grant("root", "root"))];
    for (user, role, perm_type) in [("a", "r1", 2), ("b", "r2", 0)] {
        let perm = Permission { perm_type, key: key.to_owned().into(), range_end: end.to_owned().into() };
        let grant = AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) };
        ops.push(Op::Call(user_add(user, "p")));
        ops.push(Op::Call(Call::RoleAdd(AuthRoleAddRequest { name: role.into() })));
        ops.push(Op::Call(Call::RoleGrant(grant)));
        ops.push(Op::Call(user_grant(user, role)));
    }
    ops.push(Op::Call(Call::Enable(AuthEnableRequest {})));
    let users = ["root", "a", "b"].into_iter().enumerate();
    ops.extend(users.map(|(slot, name)| log_in(slot, name, "p")));
    ops
}

fn log_in(slot: usize, name: &str, password: &str) -> Op {
    Op::LogIn(slot, AuthenticateRequest { name: name.into(), password: password.into() })
}

fn user_add(name: &str, password: &str) -> Call {
    Call::UserAdd(AuthUserAddRequest {
        name: name.into(),
        password: password.into(),
        ..AuthUserAddRequest::default()
    })
}

fn user_grant(user: &str, role: &str) -> Call {
    Call::UserGrant(AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn op(rng: &mut Rng) -> Op {
    match rng.weighted(&[60, 40, 135, 8]) {
        0 => Op::Call(change(rng)),
        1 => {
            let slot = rng.below(SLOTS as u64) as usize;
            log_in(slot, rng.pick::<&str>(USERS), rng.pick::<&str>(PASSWORDS))
        }
        2 => request(rng),
        _ => maintenance(rng),
    }
}

/// A change of users and roles, or a question about them.
fn change(rng: &mut Rng) -> Call {
    let (user, role) = (*rng.pick(USERS), *rng.pick(ROLES));
    let (name, password) = (user.to_owned(), (*rng.pick(PASSWORDS)).to_owned());
    match rng.weighted(&[6, 1, 4, 8, 3, 2, 2, 3, 12, 3, 6, 4, 2, 1, 14, 3]) {
        0 => Call::Enable(AuthEnableRequest {}),
        1 => Call::Disable(AuthDisableRequest {}),
        2 => Call::AuthStatus(AuthStatusRequest {}),
        3 => {
            let options = (user == "n").then_some(UserAddOptions { no_password: true });
            Call::UserAdd(AuthUserAddRequest { name, password, options, ..Default::default() })
        }
        4 => Call::UserGet(AuthUserGetRequest { name }),
        5 => Call::UserList(AuthUserListRequest {}),
        6 => Call::UserDelete(AuthUserDeleteRequest { name }),
        7 => Call::Password(AuthUserChangePasswordRequest { name, password, ..Default::default() }),
        8 => user_grant(user, role),
        9 => Call::UserRevoke(AuthUserRevokeRoleRequest { name, role: role.into() }),
        10 => Call::RoleAdd(AuthRoleAddRequest { name: role.into() }),
        11 => Call::RoleGet(AuthRoleGetRequest { role: role.into() }),
        12 => Call::RoleList(AuthRoleListRequest {}),
        13 => Call::RoleDelete(AuthRoleDeleteRequest { role: role.into() }),
        14 => {
            let (key, range_end) = *rng.pick(GRANTS);
            let perm_type = rng.between(0, 2) as i32;
            let perm = Some(Permission { perm_type, key: key.into(), range_end: range_end.into() });
            Call::RoleGrant(AuthRoleGrantPermissionRequest { name: role.into(), perm })
        }
        _ => {
            let (key, range_end) = *rng.pick(GRANTS);
            let (key, range_end) = (key.into(), range_end.into());
            Call::RoleRevoke(AuthRoleRevokePermissionRequest { role: role.into(), key, range_end })
        }
    }
}

/// A request that permissions are about.
fn request(rng: &mut Rng) -> Op {
    match rng.weighted(&[30, 25, 10, 20, 2, 6, 5, 4, 4, 4, 3]) {
        0 => Op::Put(put(rng)),
        1 => Op::Range(range(rng)),
        2 => Op::Delete(delete(rng)),
        3 => Op::Txn(txn(rng, 0)),
        4 => Op::Compact(CompactionRequest { revision: rng.between(1, 3), physical: false }),
        5 => {
            // etcd 3.5 asks a watch without an end for its first key only.
            let closed: Vec<_> = RANGES.iter().filter(|range| range.1 != "\0").collect();
            let (key, range_end) = **rng.pick(&closed);
            let (key, range_end) = (key.into(), range_end.into());
            Op::Peek(WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() })
        }
        6 => Op::Grant(LeaseGrantRequest { id: rng.between(5, 7), ttl: 10_000 }),
        7 => Op::Revoke(LeaseRevokeRequest { id: rng.between(5, 8) }),
        8 => Op::TimeToLive(LeaseTimeToLiveRequest { id: rng.between(5, 8), keys: rng.chance(60) }),
        9 => Op::KeepAlive(vec![rng.between(5, 8)]),
        _ => Op::Leases,
    }
}

fn maintenance(rng: &mut Rng) -> Op {
    match rng.below(7) {
        0 => Op::Alarm(AlarmRequest::default()),
        // Of no kind, so that it changes nothing.
        1 => Op::Alarm(AlarmRequest { action: 1, ..AlarmRequest::default() }),
        2 => Op::Members(MemberListRequest::default()),
        3 => Op::Status,
        4 => Op::Defragment,
        5 => Op::HashKv(HashKvRequest::default()),
        _ => Op::MoveLeader(MoveLeaderRequest { target_id: 4242 }),
    }
}

/// A key, or more of them.
fn interval(rng: &mut Rng) -> Range {
    if rng.chance(60) { (*rng.pick(KEYS), "") } else { *rng.pick(RANGES) }
}

fn range(rng: &mut Rng) -> RangeRequest {
    let (key, range_end) = interval(rng);
    let serializable = rng.chance(20);
    RangeRequest { key: key.into(), range_end: range_end.into(), serializable, ..Default::default() }
}

fn put(rng: &mut Rng) -> PutRequest {
    PutRequest {
        key: (*rng.pick(KEYS)).into(),
        value: "v".into(),
        lease: if rng.chance(20) { rng.between(5, 7) } else { 0 },
        prev_kv: rng.chance(30),
        ..Default::default()
    }
}

fn delete(rng: &mut Rng) -> DeleteRangeRequest {
    let (key, range_end) = interval(rng);
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: rng.chance(40) }
}

fn txn(rng: &mut Rng, depth: usize) -> TxnRequest {
    let mut request = TxnRequest::default();
    for _ in 0..rng.below(2) {
        let key = (*rng.pick(KEYS)).into();
        let target_union = Some(compare::TargetUnion::Version(0));
        request.compare.push(Compare { key, target_union, ..Default::default() });
    }
    for branch in [&mut request.success, &mut request.failure] {
        // One operation a branch: two puts of a key would be another sequence's mistake.
        let inner = match rng.below(if depth < 2 { 5 } else { 3 }) {
            0 => request_op::Request::RequestPut(put(rng)),
            1 => request_op::Request::RequestRange(range(rng)),
            2 => request_op::Request::RequestDeleteRange(delete(rng)),
            3 => request_op::Request::RequestTxn(txn(rng, depth + 1)),
            _ => continue,
        };
        branch.push(RequestOp { request: Some(inner) });
    }
    request
}
