//! Permissions against a model that looks at single keys, changes against
//! etcd's answers, tokens against a clock.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::ApiError;
use crate::pb::authpb::Permission;
use crate::pb::authpb::permission::Type;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::skiff::v1::auth_change::Change;
use crate::pb::skiff::v1::command::Op;
use crate::pb::skiff::v1::{UserAdd, UserPassword};

/// Bytes that keys are made of: the smallest, and two neighbours.
const LETTERS: [u8; 3] = [0, 1, 2];

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(&LETTERS[..]), 1..3).prop_map(Bytes::from)
}

/// A range end: none, open, or a key, which may lie before the first one.
fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(&[0])), key()]
}

/// Every key that can make a difference: bounds have at most two letters, so
/// between any two of them lies a key of at most three.
fn all_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = vec![vec![]];
    for length in 0..3 {
        let longer: Vec<_> = keys.iter().filter(|key| key.len() == length).cloned().collect();
        for key in longer {
            keys.extend(LETTERS.iter().map(|letter| [&key[..], &[*letter]].concat()));
        }
    }
    keys.retain(|key| !key.is_empty());
    keys
}

fn holds(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    }
}

proptest! {
    #[test]
    fn a_union_covers_what_covers_every_key(
        granted in prop::collection::vec((key(), range_end()), 0..6),
        asked in (key(), range_end()),
    ) {
        let union = Ranges::union(granted.iter().map(|(key, end)| (key, end)));
        let within = |candidate: &[u8]| granted.iter().any(|(key, end)| holds(key, end, candidate));
        // A range that ends before it begins counts as its first key.
        let backwards = !asked.1.is_empty() && asked.1[..] != [0] && asked.1 <= asked.0;
        let end = if backwards { Bytes::new() } else { asked.1.clone() };
        let expected = all_keys().iter().filter(|key| holds(&asked.0, &end, key)).all(|key| within(key));
        prop_assert_eq!(union.covers(&asked.0, &asked.1), expected, "{:?} in {:?}", asked, granted);
    }

    #[test]
    fn a_user_may_do_what_its_roles_grant(
        grants in prop::collection::vec((0..3usize, 0..3i32, key(), range_end()), 0..8),
        roles in prop::collection::vec(any::<bool>(), 3),
        asked in (key(), any::<bool>()),
    ) {
        let mut state = enabled();
        add_user(&mut state, "u");
        for (at, has) in roles.iter().enumerate() {
            change(&mut state, role_add(&format!("r{at}"))).unwrap();
            if *has {
                change(&mut state, user_grant("u", &format!("r{at}"))).unwrap();
            }
        }
        let mut kept: Vec<(usize, i32, Bytes, Bytes)> = Vec::new();
        for (role, kind, key, end) in &grants {
            if change(&mut state, role_grant(&format!("r{role}"), *kind, key, end)).is_ok() {
                kept.retain(|(r, _, k, e)| (r, k, e) != (role, key, end));
                kept.push((*role, *kind, key.clone(), end.clone()));
            }
        }
        let (key, write) = asked;
        let wanted = if write { Type::Write } else { Type::Read } as i32;
        let granted = kept.iter().any(|(role, kind, from, end)| {
            roles[*role] && (*kind == wanted || *kind == Type::Readwrite as i32) && holds(from, end, &key)
        });
        let caller = caller(&state, "u");
        let access = if write { Access::Write(&key, &[]) } else { Access::Read(&key, &[]) };
        let expected = if granted { Ok(()) } else { Err(ApiError::PermissionDenied) };
        prop_assert_eq!(state.permit(&caller, access), expected);
        // What is stored gives the same state again.
        let users: Vec<_> = state.users().map(|name| state.user(name).unwrap().clone()).collect();
        let stored_roles: Vec<_> = state.roles().map(|name| state.role(name).unwrap().clone()).collect();
        let again = AuthState::new(true, state.revision(), users, stored_roles);
        prop_assert_eq!(again.permit(&caller, access), expected);
    }
}

fn change(state: &mut AuthState, change: Change) -> Result<Changed, ApiError> {
    let before = state.revision();
    let changed = state.change(&change);
    match &changed {
        Ok(changed) => assert!(changed.rows.is_empty() || state.revision() == before + 1),
        Err(_) => assert_eq!(state.revision(), before),
    }
    changed
}

fn refusal(state: &mut AuthState, refused: Change) -> ApiError {
    change(state, refused).expect_err("refused")
}

fn user_add(name: &str) -> Change {
    Change::UserAdd(UserAdd { name: name.into(), password_hash: "hash".into(), no_password: false })
}

fn add_user(state: &mut AuthState, name: &str) {
    change(state, user_add(name)).unwrap();
}

fn user_delete(name: &str) -> Change {
    Change::UserDelete(pb::AuthUserDeleteRequest { name: name.into() })
}

fn user_grant(user: &str, role: &str) -> Change {
    Change::UserGrant(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn user_revoke(name: &str, role: &str) -> Change {
    Change::UserRevoke(pb::AuthUserRevokeRoleRequest { name: name.into(), role: role.into() })
}

fn role_add(name: &str) -> Change {
    Change::RoleAdd(pb::AuthRoleAddRequest { name: name.into() })
}

fn role_delete(role: &str) -> Change {
    Change::RoleDelete(pb::AuthRoleDeleteRequest { role: role.into() })
}

fn role_grant(name: &str, kind: i32, key: &[u8], range_end: &[u8]) -> Change {
    let (key, range_end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(range_end));
    let perm = Some(Permission { perm_type: kind, key, range_end });
    Change::RoleGrant(pb::AuthRoleGrantPermissionRequest { name: name.into(), perm })
}

fn role_revoke(role: &str, key: &[u8], range_end: &[u8]) -> Change {
    let (key, range_end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(range_end));
    Change::RoleRevoke(pb::AuthRoleRevokePermissionRequest { role: role.into(), key, range_end })
}

fn enable() -> Change {
    Change::Enable(pb::AuthEnableRequest {})
}

fn disable() -> Change {
    Change::Disable(pb::AuthDisableRequest {})
}

/// Auth is on, with root alone.
fn enabled() -> AuthState {
    let mut state = AuthState::default();
    add_user(&mut state, ROOT);
    change(&mut state, user_grant(ROOT, ROOT)).unwrap();
    change(&mut state, enable()).unwrap();
    state
}

fn caller(state: &AuthState, user: &str) -> Caller {
    Caller { user: user.into(), auth_revision: state.revision() }
}

#[test]
fn turning_on_needs_root() {
    let mut state = AuthState::default();
    assert_eq!((state.enabled(), state.revision()), (false, 1));
    assert_eq!(refusal(&mut state, enable()), ApiError::RootUserNotExist);
    add_user(&mut state, ROOT);
    assert_eq!(refusal(&mut state, enable()), ApiError::RootRoleNotExist);
    change(&mut state, user_grant(ROOT, ROOT)).unwrap();
    assert_eq!(state.revision(), 3);
    assert_eq!(change(&mut state, enable()).unwrap().tokens, Some(TokenChange::AllDropped));
    assert_eq!(change(&mut state, enable()).unwrap().tokens, None);
    assert_eq!((state.enabled(), state.revision()), (true, 3));
    assert_eq!(change(&mut state, disable()).unwrap().tokens, Some(TokenChange::AllDropped));
    assert_eq!(change(&mut state, disable()).unwrap().tokens, None);
    assert_eq!((state.enabled(), state.revision()), (false, 4));
}

#[test]
fn root_cannot_be_lost_while_auth_is_on() {
    let mut state = enabled();
    change(&mut state, role_add(ROOT)).unwrap();
    for lost in [user_delete(ROOT), user_revoke(ROOT, ROOT), role_delete(ROOT)] {
        assert_eq!(refusal(&mut state, lost), ApiError::InvalidAuthManagement);
    }
    change(&mut state, disable()).unwrap();
    for lost in [role_delete(ROOT), user_delete(ROOT)] {
        change(&mut state, lost).unwrap();
    }
    assert_eq!(refusal(&mut state, enable()), ApiError::RootUserNotExist);
}

#[test]
fn mistakes_are_told_as_etcd_tells_them() {
    let mut state = AuthState::default();
    add_user(&mut state, "u");
    change(&mut state, role_add("r")).unwrap();
    change(&mut state, role_grant("r", 0, b"a", b"b")).unwrap();
    let table = [
        (user_add(""), ApiError::UserEmpty),
        (user_add("u"), ApiError::UserExists),
        (user_delete("x"), ApiError::UserNotFound),
        (
            Change::UserPassword(UserPassword { name: "x".into(), ..Default::default() }),
            ApiError::UserNotFound,
        ),
        (user_grant("x", "r"), ApiError::UserNotFound),
        (user_grant("u", "x"), ApiError::RoleNotFound),
        (user_revoke("x", "r"), ApiError::UserNotFound),
        (user_revoke("u", "r"), ApiError::RoleNotGranted),
        (role_add(""), ApiError::RoleEmpty),
        (role_add("r"), ApiError::RoleExists),
        (role_delete("x"), ApiError::RoleNotFound),
        (role_grant("x", 0, b"a", b""), ApiError::RoleNotFound),
        (role_grant("r", 0, b"", b""), ApiError::InvalidAuthManagement),
        (role_grant("r", 0, b"b", b"a"), ApiError::InvalidAuthManagement),
        (role_grant("r", 0, b"b", b"b"), ApiError::InvalidAuthManagement),
        (Change::RoleGrant(pb::AuthRoleGrantPermissionRequest::default()), ApiError::PermissionNotGiven),
        (role_revoke("x", b"a", b"b"), ApiError::RoleNotFound),
        (role_revoke("r", b"a", b""), ApiError::PermissionNotGranted),
    ];
    for (mistake, expected) in table {
        assert_eq!(refusal(&mut state, mistake.clone()), expected, "{mistake:?}");
    }
}

#[test]
fn grants_are_replaced_and_sorted_by_key() {
    let mut state = AuthState::default();
    change(&mut state, role_add("r")).unwrap();
    for (kind, key, end) in [(0, "b", ""), (1, "a", ""), (2, "b", "c"), (1, "b", "c"), (0, "b", "")] {
        change(&mut state, role_grant("r", kind, key.as_bytes(), end.as_bytes())).unwrap();
    }
    let kept: Vec<_> = state.role("r").unwrap().permissions.iter().collect();
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let kept: Vec<_> = kept.iter().map(|p| (p.perm_type, text(&p.key), text(&p.range_end))).collect();
    let expected = [(1, "a", ""), (0, "b", ""), (1, "b", "c")];
    assert_eq!(kept, expected.map(|(kind, key, end)| (kind, key.to_owned(), end.to_owned())));
    change(&mut state, role_revoke("r", b"b", b"c")).unwrap();
    assert_eq!(state.role("r").unwrap().permissions.len(), 2);
}

#[test]
fn a_deleted_role_is_taken_from_its_users() {
    let mut state = enabled();
    add_user(&mut state, "u");
    change(&mut state, role_add("r")).unwrap();
    change(&mut state, role_grant("r", 2, b"a", b"")).unwrap();
    change(&mut state, user_grant("u", "r")).unwrap();
    let rows = change(&mut state, user_grant("u", "r")).unwrap().rows;
    assert!(rows.is_empty(), "granted twice changes nothing");
    assert_eq!(state.permit(&caller(&state, "u"), Access::Read(b"a", b"")), Ok(()));
    let rows = change(&mut state, role_delete("r")).unwrap().rows;
    assert!(matches!(&rows[..], [Row::DeleteRole(_), Row::PutUser(user)] if user.roles.is_empty()));
    change(&mut state, role_add("r")).unwrap();
    change(&mut state, role_grant("r", 2, b"a", b"")).unwrap();
    let denied = state.permit(&caller(&state, "u"), Access::Read(b"a", b""));
    assert_eq!(denied, Err(ApiError::PermissionDenied));
}

#[test]
fn tokens_of_a_user_are_dropped_when_its_password_goes() {
    let mut state = enabled();
    add_user(&mut state, "u");
    let dropped = Some(TokenChange::UserDropped("u".into()));
    let password = UserPassword { name: "u".into(), password_hash: "new".into() };
    assert_eq!(change(&mut state, Change::UserPassword(password)).unwrap().tokens, dropped);
    assert_eq!(state.credentials("u").unwrap().password_hash.0, "new");
    assert_eq!(change(&mut state, user_delete("u")).unwrap().tokens, dropped);
    assert_eq!(state.credentials("u"), Err(ApiError::AuthFailed));
    let no_password = UserAdd { name: "n".into(), no_password: true, ..Default::default() };
    change(&mut state, Change::UserAdd(no_password)).unwrap();
    assert_eq!(state.credentials("n"), Err(ApiError::NoPasswordUser));
    change(&mut state, disable()).unwrap();
    assert_eq!(state.credentials("n"), Err(ApiError::AuthNotEnabled));
}

#[test]
fn who_asks_decides() {
    let mut state = enabled();
    add_user(&mut state, "u");
    let nobody = Caller::default();
    let gone = caller(&state, "gone");
    let old = Caller { auth_revision: state.revision() - 1, ..caller(&state, "u") };
    let accesses = [Access::Read(b"a", b""), Access::Write(b"a", b"b"), Access::Identified, Access::Admin];
    let answers = |caller: &Caller| accesses.map(|access| state.permit(caller, access).err());
    use ApiError::{AuthOldRevision, PermissionDenied, UserEmpty, UserNotFound};
    assert_eq!(answers(&nobody), [Some(UserEmpty); 4]);
    assert_eq!(answers(&gone), [Some(PermissionDenied), Some(PermissionDenied), None, Some(UserNotFound)]);
    assert_eq!(answers(&old), [Some(AuthOldRevision), Some(AuthOldRevision), None, Some(PermissionDenied)]);
    let user = caller(&state, "u");
    assert_eq!(
        answers(&user),
        [Some(PermissionDenied), Some(PermissionDenied), None, Some(PermissionDenied)]
    );
    assert_eq!(answers(&caller(&state, ROOT)), [None; 4]);
    let mut off = state.clone();
    change(&mut off, disable()).unwrap();
    assert!(accesses.iter().all(|access| off.permit(&nobody, *access).is_ok()));
}

/// One lease with the keys "own" and "secret".
struct OneLease;

impl LeaseKeys for OneLease {
    fn each_key(
        &self,
        lease: i64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if lease == 1 { self.each_leased_key(each) } else { Ok(()) }
    }

    fn each_leased_key(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>) -> Result<(), ApiError> {
        [b"own".as_slice(), b"secret"].into_iter().try_for_each(each)
    }
}

fn put(key: &'static str, lease: i64, prev_kv: bool) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), lease, prev_kv, ..Default::default() }
}

fn delete(key: &'static str, end: &'static str, prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv }
}

fn get(key: &'static str, range_end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// The ways around a permission: user u may read and write "own", and only
/// write "blind".
#[test]
fn no_way_leads_around_a_permission() {
    let mut state = enabled();
    add_user(&mut state, "u");
    change(&mut state, role_add("r")).unwrap();
    change(&mut state, role_grant("r", Type::Readwrite as i32, b"own", b"")).unwrap();
    change(&mut state, role_grant("r", Type::Write as i32, b"blind", b"")).unwrap();
    change(&mut state, user_grant("u", "r")).unwrap();
    let user = caller(&state, "u");
    let permit = Permit::new(&state, Some(&user), &OneLease).unwrap();

    let txn = |op| Op::Txn(pb::TxnRequest { success: vec![op], ..Default::default() });
    let on_failure = |op| Op::Txn(pb::TxnRequest { failure: vec![op], ..Default::default() });
    let nested = |inner: pb::RequestOp| {
        let inner = pb::TxnRequest { failure: vec![inner], ..Default::default() };
        txn(op(Request::RequestTxn(inner)))
    };
    let each =
        |request: Request| [txn(op(request.clone())), on_failure(op(request.clone())), nested(op(request))];
    let condition = |key: &'static str, end: &'static str| {
        let condition = pb::Compare { key: key.into(), range_end: end.into(), ..Default::default() };
        Op::Txn(pb::TxnRequest { compare: vec![condition], ..Default::default() })
    };
    let mut allowed = vec![
        Op::Put(put("own", 0, true)),
        Op::Put(put("blind", 0, false)),
        Op::Put(put("own", 2, false)),
        Op::DeleteRange(delete("own", "", true)),
        Op::DeleteRange(delete("blind", "", false)),
        condition("own", ""),
        Op::LeaseGrant(pb::LeaseGrantRequest::default()),
        Op::LeaseRevoke(crate::pb::skiff::v1::LeaseRevoke { id: 2, expired_in_term: 0 }),
        Op::Alarm(pb::AlarmRequest::default()),
    ];
    allowed.extend(each(Request::RequestPut(put("own", 0, true))));
    allowed.extend(each(Request::RequestRange(get("own", ""))));
    for op in &allowed {
        assert_eq!(permit.command(op), Ok(()), "{op:?}");
    }
    let mut denied = vec![
        Op::Put(put("secret", 0, false)),
        Op::Put(put("blind", 0, true)),
        Op::Put(put("own", 1, false)),
        Op::DeleteRange(delete("blind", "", true)),
        Op::DeleteRange(delete("own", "\0", false)),
        Op::DeleteRange(delete("own", "owo", false)),
        condition("secret", ""),
        condition("own", "\0"),
        condition("blind", ""),
        Op::LeaseRevoke(crate::pb::skiff::v1::LeaseRevoke { id: 1, expired_in_term: 0 }),
        Op::Compact(pb::CompactionRequest::default()),
        Op::Alarm(pb::AlarmRequest { action: 1, ..Default::default() }),
        Op::Auth(Default::default()),
        Op::MemberPublish(Default::default()),
        Op::ClusterVersion(String::new()),
        Op::Downgrade(Default::default()),
        Op::Adopt(Default::default()),
        Op::LeaseCheckpoint(Default::default()),
    ];
    denied.extend(each(Request::RequestRange(get("blind", ""))));
    denied.extend(each(Request::RequestRange(get("own", "\0"))));
    denied.extend(each(Request::RequestPut(put("blind", 0, true))));
    denied.extend(each(Request::RequestPut(put("own", 1, false))));
    denied.extend(each(Request::RequestDeleteRange(delete("blind", "", true))));
    denied.extend(each(Request::RequestDeleteRange(delete("own", "p", false))));
    for op in &denied {
        assert_eq!(permit.command(op), Err(ApiError::PermissionDenied), "{op:?}");
    }
    assert_eq!(permit.renew(1), Err(ApiError::PermissionDenied));
    assert_eq!(permit.renew(2), Ok(()));

    use crate::api::Read;
    let keys = |keys| Read::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: 1, keys });
    assert_eq!(permit.read(&keys(false)), Ok(()));
    for read in [
        keys(true),
        Read::LeaseLeases(pb::LeaseLeasesRequest {}),
        Read::Range(get("a", "b")),
        Read::Hash(pb::HashRequest {}),
        Read::UserList,
        Read::RoleList,
        Read::AuthStatus,
        Read::UserGet(pb::AuthUserGetRequest { name: ROOT.into() }),
        Read::RoleGet(pb::AuthRoleGetRequest { role: "other".into() }),
        Read::Credentials("u".into()),
    ] {
        assert_eq!(permit.read(&read), Err(ApiError::PermissionDenied), "{read:?}");
    }
    assert_eq!(permit.read(&Read::UserGet(pb::AuthUserGetRequest { name: "u".into() })), Ok(()));
    assert_eq!(permit.read(&Read::RoleGet(pb::AuthRoleGetRequest { role: "r".into() })), Ok(()));

    let root = caller(&state, ROOT);
    let permit = Permit::new(&state, Some(&root), &OneLease).unwrap();
    for op in allowed.iter().chain(&denied) {
        assert_eq!(permit.command(op), Ok(()), "{op:?}");
    }
    assert_eq!(permit.read(&Read::Credentials("u".into())), Err(ApiError::PermissionDenied));
    // The members themselves ask nobody.
    assert!(Permit::new(&state, None, &OneLease).is_none());
}

fn assigned(token: &str, user: &str, index: u64) -> TokenChange {
    TokenChange::Assigned { token: token.into(), user: user.into(), index }
}

#[test]
fn tokens_live_from_their_last_use() {
    let second = Duration::from_secs;
    let tokens = SimpleTokens::new(second(10), 0);
    tokens.apply(&[assigned("a.1", "u", 1), assigned("b.2", "v", 2)], second(0));
    assert_eq!(tokens.use_token("a.1", second(9)).as_deref(), Some("u"));
    assert_eq!(tokens.use_token("a.1", second(18)).as_deref(), Some("u"));
    assert_eq!(tokens.use_token("b.2", second(18)), None);
    assert_eq!(tokens.use_token("a.1", second(28)), None);
    assert_eq!(tokens.use_token("a.1", second(20)), None, "what has expired does not come back");
    assert_eq!(tokens.use_token("c.3", second(0)), None);
    tokens.apply(&[assigned("d.4", "u", 4), assigned("e.5", "v", 5)], second(30));
    assert_eq!(tokens.len(), 2, "expired ones are swept");
    tokens.apply(&[TokenChange::UserDropped("u".into())], second(30));
    assert_eq!(tokens.use_token("d.4", second(30)), None);
    assert_eq!(tokens.use_token("e.5", second(30)).as_deref(), Some("v"));
    tokens.apply(&[TokenChange::AllDropped], second(30));
    assert!(tokens.is_empty());
}

#[test]
fn a_token_from_before_the_start_stays_forgotten() {
    let tokens = SimpleTokens::new(Duration::from_secs(10), 7);
    tokens.apply(&[assigned("a.7", "u", 7), assigned("b.8", "u", 8)], Duration::ZERO);
    assert_eq!(tokens.use_token("a.7", Duration::ZERO), None);
    assert_eq!(tokens.use_token("b.8", Duration::ZERO).as_deref(), Some("u"));
}

#[test]
fn tokens_are_bounded_and_the_oldest_go_first() {
    let tokens = SimpleTokens::new(Duration::from_secs(1000), 0);
    let many: Vec<_> = (0..100_000).map(|at| assigned(&format!("t.{at}"), "u", at)).collect();
    tokens.apply(&many[..1], Duration::ZERO);
    tokens.apply(&many[1..], Duration::from_secs(1));
    tokens.apply(&[assigned("new.1", "u", 1)], Duration::from_secs(2));
    assert_eq!(tokens.len(), 100_000);
    assert_eq!(tokens.use_token("t.0", Duration::from_secs(3)), None);
    assert!(tokens.use_token("new.1", Duration::from_secs(3)).is_some());
}

#[test]
fn the_index_of_a_token() {
    assert_eq!(SimpleTokens::index_of(&SimpleTokens::name("abc", 17)), Some(17));
    assert_eq!(SimpleTokens::index_of("a.18446744073709551615"), Some(u64::MAX));
    for nonsense in ["", "abc", ".5", "abc.", "abc.x", "abc.+5", "abc.-1", "a.b.5", "a.18446744073709551616"]
    {
        assert_eq!(SimpleTokens::index_of(nonsense), None, "{nonsense}");
    }
    let printed = format!("{:?}", assigned("hunter2.1", "u", 1));
    assert!(!printed.contains("hunter2"), "{printed}");
}
