//! The same random changes of users and roles, logins, and requests in their names, sent to a real etcd
//! and to this project's server: every answer must be the same, error codes and texts included.
//!
//! `SKIFF_AUTH_SEED` (`random` for another one each time) and `SKIFF_AUTH_SEQUENCES` as in the differential
//! test of keys; a failure prints the steps that lead to it.

use std::fmt::Debug;
use std::time::Duration;

use skiff_test_support::pb::authpb::{Permission, UserAddOptions};
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::rpc::create_watch;
use skiff_test_support::{Client, Member, MemberOptions, Program, Rng, Scratch};
use tonic::Status;

/// Steps of a sequence, on a fresh pair of servers.
const STEPS: usize = 250;
/// Callers of a sequence: each logs in now and then, and keeps the token.
const SLOTS: usize = 4;
const USERS: &[&str] = &["root", "root", "a", "b", "n", ""];
const ROLES: &[&str] = &["root", "r1", "r1", "r2", ""];
const PASSWORDS: &[&str] = &["p", "q"];
const KEYS: &[&str] = &["k1", "k2", "k2/x", "k3", "k4"];
/// None ends before it begins: whether etcd permits such a one, which holds no key, depends on the shape of
/// its tree of grants.
const RANGES: &[(&str, &str)] =
    &[("k1", ""), ("k1", "k3"), ("k2/", "k20"), ("k3", ""), ("k3", "k9"), ("k", "\0")];
/// What roles are granted. No two begin with the same key: etcd finds only the first of those again.
const GRANTS: &[(&str, &str)] =
    &[("k1", ""), ("k2", "k3"), ("k2/x", "k2/y"), ("k3", "\0"), ("k4", "k1"), ("", "")];

/// One step; the first number is the slot of the caller, none for one without a token.
#[derive(Debug, Clone)]
enum Op {
    Enable,
    Disable,
    Status,
    UserAdd(AuthUserAddRequest),
    UserGet(&'static str),
    UserList,
    UserDelete(&'static str),
    Password(&'static str, &'static str),
    UserGrant(&'static str, &'static str),
    UserRevoke(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleGet(&'static str),
    RoleList,
    RoleDelete(&'static str),
    RoleGrant(&'static str, i32, (&'static str, &'static str)),
    RoleRevoke(&'static str, (&'static str, &'static str)),
    LogIn(usize, &'static str, &'static str),
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(i64),
    Watch((&'static str, &'static str)),
    Grant(i64),
    Revoke(i64),
    TimeToLive(i64, bool),
    KeepAlive(i64),
    Leases,
    AlarmList,
    AlarmRaise,
    Members,
    MemberStatus,
}

fn range(rng: &mut Rng) -> RangeRequest {
    let (key, range_end) = if rng.chance(60) { (*rng.pick(KEYS), "") } else { *rng.pick(RANGES) };
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
    let (key, range_end) = if rng.chance(60) { (*rng.pick(KEYS), "") } else { *rng.pick(RANGES) };
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
        // One operation a branch: two puts of a key would be another test's mistake.
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

fn op(rng: &mut Rng) -> Op {
    let (user, role, password) = (*rng.pick(USERS), *rng.pick(ROLES), *rng.pick(PASSWORDS));
    let weights = [
        6, 1, 4, 8, 3, 2, 2, 3, 12, 3, 6, 4, 2, 1, 14, 3, 40, 30, 25, 10, 20, 2, 6, 5, 4, 4, 4, 3, 2, 1, 2, 2,
    ];
    match rng.weighted(&weights) {
        0 => Op::Enable,
        1 => Op::Disable,
        2 => Op::Status,
        3 => Op::UserAdd(AuthUserAddRequest {
            name: user.into(),
            password: password.into(),
            options: (user == "n").then_some(UserAddOptions { no_password: true }),
            ..Default::default()
        }),
        4 => Op::UserGet(user),
        5 => Op::UserList,
        6 => Op::UserDelete(user),
        7 => Op::Password(user, password),
        8 => Op::UserGrant(user, role),
        9 => Op::UserRevoke(user, role),
        10 => Op::RoleAdd(role),
        11 => Op::RoleGet(role),
        12 => Op::RoleList,
        13 => Op::RoleDelete(role),
        14 => Op::RoleGrant(role, rng.between(0, 2) as i32, *rng.pick(GRANTS)),
        15 => Op::RoleRevoke(role, *rng.pick(GRANTS)),
        16 => Op::LogIn(rng.below(SLOTS as u64) as usize, user, password),
        17 => Op::Put(put(rng)),
        18 => Op::Range(range(rng)),
        19 => Op::Delete(delete(rng)),
        20 => Op::Txn(txn(rng, 0)),
        21 => Op::Compact(rng.between(1, 3)),
        22 => {
            // etcd 3.5 asks a watch without an end for its first key only.
            let closed: Vec<_> = RANGES.iter().filter(|range| range.1 != "\0").collect();
            Op::Watch(**rng.pick(&closed))
        }
        23 => Op::Grant(rng.between(5, 7)),
        24 => Op::Revoke(rng.between(5, 8)),
        25 => Op::TimeToLive(rng.between(5, 8), rng.chance(60)),
        26 => Op::KeepAlive(rng.between(5, 8)),
        27 => Op::Leases,
        28 => Op::AlarmList,
        29 => Op::AlarmRaise,
        30 => Op::Members,
        _ => Op::MemberStatus,
    }
}

/// What a sequence begins with, so that most of it runs with auth on.
fn beginning() -> Vec<Op> {
    let user =
        |name: &str| AuthUserAddRequest { name: name.into(), password: "p".into(), ..Default::default() };
    vec![
        Op::UserAdd(user("root")),
        Op::UserGrant("root", "root"),
        Op::UserAdd(user("a")),
        Op::RoleAdd("r1"),
        Op::RoleGrant("r1", 2, ("k2", "k3")),
        Op::UserGrant("a", "r1"),
        Op::Enable,
        Op::LogIn(0, "root", "p"),
        Op::LogIn(1, "a", "p"),
    ]
}

struct Side {
    member: Member,
    clients: Vec<Client>,
}

/// An answer without what belongs to its server.
fn shown<T: Debug>(answer: Result<T, Status>, strip: impl FnOnce(&mut T)) -> String {
    match answer {
        Ok(mut answer) => {
            strip(&mut answer);
            format!("{answer:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

/// Leaves of a header the revision.
fn revision(header: &mut Option<ResponseHeader>) {
    *header = header.map(|header| ResponseHeader { revision: header.revision, ..Default::default() });
}

impl Side {
    async fn start(program: Program, scratch: &Scratch, name: &str) -> Self {
        let mut options = MemberOptions::single(program, &scratch.path().join(name)).flag("--bcrypt-cost=4");
        if options.program.is_etcd() {
            options = options.flag("--unsafe-no-fsync").flag("--log-level=error");
        }
        let mut member = Member::new(options);
        member.start().expect("it starts");
        member.ready().await.expect("it answers");
        // The last one never logs in.
        let clients = vec![member.client(); SLOTS + 1];
        Self { member, clients }
    }

    async fn execute(&mut self, slot: usize, op: Op) -> String {
        let client = self.clients[slot].clone();
        macro_rules! unary {
            ($call:ident($request:expr)) => {
                shown(client.$call($request).await, |answer| revision(&mut answer.header))
            };
        }
        match op {
            Op::Enable => unary!(auth_enable(AuthEnableRequest {})),
            Op::Disable => unary!(auth_disable(AuthDisableRequest {})),
            Op::Status => unary!(auth_status(AuthStatusRequest {})),
            Op::UserAdd(request) => unary!(user_add(request)),
            Op::UserGet(name) => unary!(user_get(AuthUserGetRequest { name: name.into() })),
            Op::UserList => unary!(user_list(AuthUserListRequest {})),
            Op::UserDelete(name) => unary!(user_delete(AuthUserDeleteRequest { name: name.into() })),
            Op::Password(name, password) => unary!(user_change_password(AuthUserChangePasswordRequest {
                name: name.into(),
                password: password.into(),
                ..Default::default()
            })),
            Op::UserGrant(user, role) => {
                unary!(user_grant_role(AuthUserGrantRoleRequest { user: user.into(), role: role.into() }))
            }
            Op::UserRevoke(name, role) => {
                unary!(user_revoke_role(AuthUserRevokeRoleRequest { name: name.into(), role: role.into() }))
            }
            Op::RoleAdd(name) => unary!(role_add(AuthRoleAddRequest { name: name.into() })),
            Op::RoleGet(role) => unary!(role_get(AuthRoleGetRequest { role: role.into() })),
            Op::RoleList => unary!(role_list(AuthRoleListRequest {})),
            Op::RoleDelete(role) => unary!(role_delete(AuthRoleDeleteRequest { role: role.into() })),
            Op::RoleGrant(name, perm_type, (key, range_end)) => {
                let perm = Permission { perm_type, key: key.into(), range_end: range_end.into() };
                let request = AuthRoleGrantPermissionRequest { name: name.into(), perm: Some(perm) };
                unary!(role_grant_permission(request))
            }
            Op::RoleRevoke(role, (key, range_end)) => {
                unary!(role_revoke_permission(AuthRoleRevokePermissionRequest {
                    role: role.into(),
                    key: key.into(),
                    range_end: range_end.into(),
                }))
            }
            Op::LogIn(slot, name, password) => {
                let request = AuthenticateRequest { name: name.into(), password: password.into() };
                let answer = client.authenticate(request).await;
                if let Ok(answer) = &answer {
                    self.clients[slot] = self.member.client().with_token(&answer.token);
                }
                shown(answer, |answer| {
                    revision(&mut answer.header);
                    answer.token.clear();
                })
            }
            Op::Put(request) => unary!(put(request)),
            Op::Range(request) => unary!(range(request)),
            Op::Delete(request) => unary!(delete_range(request)),
            Op::Txn(request) => shown(client.txn(request).await, |answer| {
                revision(&mut answer.header);
                answer.responses.clear();
            }),
            Op::Compact(at) => unary!(compact(CompactionRequest { revision: at, physical: false })),
            Op::Watch((key, range_end)) => {
                let (key, range_end) = (key.into(), range_end.into());
                let create = WatchCreateRequest { key, range_end, ..Default::default() };
                let first = match client.watch(create_watch(create)).await {
                    Ok(mut stream) => stream.next(Duration::from_secs(15)).await,
                    Err(status) => Err(status),
                };
                shown(first, |answer| {
                    answer.iter_mut().for_each(|answer| revision(&mut answer.header));
                })
            }
            Op::Grant(id) => unary!(lease_grant(LeaseGrantRequest { id, ttl: 10_000 })),
            Op::Revoke(id) => unary!(lease_revoke(LeaseRevokeRequest { id })),
            Op::TimeToLive(id, keys) => {
                shown(client.lease_time_to_live(LeaseTimeToLiveRequest { id, keys }).await, |answer| {
                    revision(&mut answer.header);
                    answer.ttl = answer.ttl.signum();
                    answer.keys.sort();
                })
            }
            Op::KeepAlive(id) => {
                let first = match client.lease_keep_alive(LeaseKeepAliveRequest { id }).await {
                    Ok(mut stream) => stream.next(Duration::from_secs(15)).await,
                    Err(status) => Err(status),
                };
                shown(first, |answer| answer.iter_mut().for_each(|answer| revision(&mut answer.header)))
            }
            Op::Leases => shown(client.lease_leases(LeaseLeasesRequest {}).await, |answer| {
                revision(&mut answer.header);
                answer.leases.sort_by_key(|lease| lease.id);
            }),
            Op::AlarmList => unary!(alarm(AlarmRequest::default())),
            // Of no kind, so that it changes nothing.
            Op::AlarmRaise => unary!(alarm(AlarmRequest { action: 1, ..Default::default() })),
            Op::Members => shown(client.member_list(MemberListRequest::default()).await, |answer| {
                answer.header = None;
                answer.members.clear();
            }),
            Op::MemberStatus => shown(client.status(StatusRequest {}).await, |answer| {
                *answer = StatusResponse { errors: answer.errors.clone(), ..Default::default() };
            }),
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    match std::env::var("SKIFF_AUTH_SEED").as_deref() {
        Err(_) => 20_261_125,
        Ok("random") => Rng::seed_from_env("SKIFF_AUTH_SEED_RANDOM"),
        Ok(_) => Rng::seed_from_env("SKIFF_AUTH_SEED"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_answer_as_etcds() {
    let seed = seed();
    println!("SKIFF_AUTH_SEED={seed}");
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    for number in 0..setting("SKIFF_AUTH_SEQUENCES", 12) {
        let scratch = Scratch::new("auth-random");
        let (mut oracle, mut subject) = tokio::join!(
            Side::start(Program::oracle(), &scratch, "etcd"),
            Side::start(subject.clone(), &scratch, "subject")
        );
        let mut rng = Rng::derive(seed, number);
        let mut steps: Vec<String> = Vec::new();
        let begun = if number % 4 == 0 { Vec::new() } else { beginning() };
        let mut begun = begun.into_iter();
        for _ in 0..STEPS {
            // Root's slot and nobody's more often than the others.
            let slot = *rng.pick(&[0, 0, 0, 1, 2, 3, SLOTS]);
            let (slot, next) = match begun.next() {
                Some(op) => (SLOTS, op),
                None => (slot, op(&mut rng)),
            };
            let (expected, found) =
                tokio::join!(oracle.execute(slot, next.clone()), subject.execute(slot, next.clone()));
            steps.push(format!("{slot} {next:?}: {expected}"));
            assert!(
                expected == found,
                "sequence {number} of SKIFF_AUTH_SEED={seed} differs:\n{}\nthe subject answered {found}",
                steps.join("\n")
            );
        }
    }
}
