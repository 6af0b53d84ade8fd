//! Users, roles, permissions and tokens.

use bytes::Bytes;

use super::Make;
use super::support::*;
use crate::api::{Read, ReadReply, Store, StoreExt, Write, WriteReply};
use crate::auth::{Access, Caller};
use crate::error::{ApiError, Result};
use crate::pb::authpb::Permission;
use crate::pb::authpb::permission::Type;
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::auth_change::Change;
use crate::pb::skiff::v1::{AuthChange, Authenticate, UserAdd, UserPassword};

async fn change_by<S: Store + ?Sized>(s: &S, caller: Option<&Caller>, change: Change) -> Result<()> {
    match s.write(caller, Write::Auth(AuthChange { change: Some(change) })).await? {
        WriteReply::Done(_) => Ok(()),
        other => panic!("answered {other:?}"),
    }
}

async fn change<S: Store + ?Sized>(s: &S, change: Change) {
    change_by(s, None, change).await.expect("a change of users");
}

fn user_add(name: &str) -> Change {
    Change::UserAdd(UserAdd { name: name.into(), password_hash: "hash".into(), no_password: false })
}

fn user_grant(user: &str, role: &str) -> Change {
    Change::UserGrant(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn role_grant(role: &str, kind: Type, key: &'static str, range_end: &'static str) -> Change {
    let perm = Permission { perm_type: kind as i32, key: key.into(), range_end: range_end.into() };
    Change::RoleGrant(pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) })
}

fn enable() -> Change {
    Change::Enable(pb::AuthEnableRequest {})
}

/// Adds root, and "u", who may do everything from "u/" to "u0", and turns auth on.
async fn set_up<S: Store + ?Sized>(s: &S) {
    let role = pb::AuthRoleAddRequest { name: "r".into() };
    for step in [
        user_add("root"),
        user_grant("root", "root"),
        user_add("u"),
        Change::RoleAdd(role),
        role_grant("r", Type::Readwrite, "u/", "u0"),
        user_grant("u", "r"),
        enable(),
    ] {
        change(s, step).await;
    }
}

async fn auth_revision<S: Store + ?Sized>(s: &S) -> u64 {
    match s.read(None, Read::AuthStatus).await.expect("auth status") {
        ReadReply::AuthStatus(status) => status.auth_revision,
        other => panic!("answered {other:?}"),
    }
}

async fn caller<S: Store + ?Sized>(s: &S, user: &str) -> Caller {
    Caller { user: user.into(), auth_revision: auth_revision(s).await }
}

async fn token<S: Store + ?Sized>(s: &S, user: &str, prefix: &str) -> Result<String> {
    let auth_revision = s.credentials(user.into()).await?.auth_revision;
    let ask = Authenticate { user: user.into(), token_prefix: prefix.into(), auth_revision };
    Ok(s.authenticate(ask).await?.token)
}

/// Users and roles are kept and listed; changes count.
pub async fn users(make: &dyn Make) {
    let s = make.make().await;
    assert_eq!(auth_revision(&*s).await, 1);
    set_up(&*s).await;
    assert_eq!(auth_revision(&*s).await, 7, "turning on is no change of users");
    let vitals = s.vitals();
    assert_eq!((vitals.auth_enabled, vitals.auth_revision), (true, 7));
    match s.read(None, Read::UserList).await.unwrap() {
        ReadReply::UserList(list) => assert_eq!(list.users, ["root", "u"]),
        other => panic!("answered {other:?}"),
    }
    match s.read(None, Read::RoleList).await.unwrap() {
        ReadReply::RoleList(list) => assert_eq!(list.roles, ["r"]),
        other => panic!("answered {other:?}"),
    }
    assert_eq!(s.user_get(pb::AuthUserGetRequest { name: "u".into() }).await.unwrap().roles, ["r"]);
    let role = s.role_get(pb::AuthRoleGetRequest { role: "r".into() }).await.unwrap();
    assert_eq!((role.perm.len(), &role.perm[0].range_end), (1, &Bytes::from("u0")));
    assert_error(change_by(&*s, None, user_add("u")).await, ApiError::UserExists);
    assert_error(s.user_get(pb::AuthUserGetRequest { name: "x".into() }).await, ApiError::UserNotFound);
    assert_eq!(auth_revision(&*s).await, 7);
    // No change of a key: the revision of the keys stays.
    assert_eq!(s.vitals().revision, 1);
}

/// What each caller may read and write.
pub async fn permissions(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "secret", "1").await;
    let nobody = Caller::default();
    s.by(&nobody).put(put_request("u/before", "2")).await.expect("auth is off");
    set_up(&*s).await;
    let (root, user) = (caller(&*s, "root").await, caller(&*s, "u").await);

    assert_error(s.by(&nobody).put(put_request("u/a", "")).await, ApiError::UserEmpty);
    assert_error(s.by(&nobody).range(range_request("u/a", "")).await, ApiError::UserEmpty);
    s.by(&user).put(put_request("u/a", "3")).await.unwrap();
    assert_eq!(s.by(&user).range(range_request("u/", "u0")).await.unwrap().count, 2);
    for (key, end) in [("secret", ""), ("u/", "\0"), ("u/", "u1"), ("u", "u0"), ("\0", "\0")] {
        let request = range_request(key, end);
        assert_error(s.by(&user).range(request.clone()).await, ApiError::PermissionDenied);
        let stream = s.read_stream(Some(&user), request).await;
        assert_error(stream.map(|_| ()), ApiError::PermissionDenied);
        assert_error(s.by(&user).delete_range(delete_request(key, end)).await, ApiError::PermissionDenied);
        let access = Access::Read(key.as_bytes(), end.as_bytes());
        assert_error(s.authorize(&user, access), ApiError::PermissionDenied);
        s.authorize(&root, access).unwrap();
    }
    assert!(s.read_stream(Some(&user), range_request("u/", "u0")).await.is_ok());
    let reads = pb::TxnRequest { failure: vec![op_get("secret")], ..Default::default() };
    assert_error(s.by(&user).read_txn(reads.clone()).await, ApiError::PermissionDenied);
    let writes =
        pb::TxnRequest { failure: vec![op_get("secret")], success: vec![op_put("u/b", "")], ..reads };
    assert_error(s.by(&user).txn(writes.clone()).await, ApiError::PermissionDenied);
    s.by(&root).txn(writes).await.unwrap();
    let compaction = pb::CompactionRequest { revision: 2, physical: false };
    assert_error(s.by(&user).compact(compaction).await, ApiError::PermissionDenied);
    assert_error(s.by(&user).hash_kv(pb::HashKvRequest { revision: 0 }).await, ApiError::PermissionDenied);
    assert_error(change_by(&*s, Some(&user), user_add("v")).await, ApiError::PermissionDenied);
    assert_error(change_by(&*s, Some(&nobody), user_add("v")).await, ApiError::UserEmpty);
    s.by(&root).compact(compaction).await.unwrap();
    assert_eq!(get(&*s, "secret").await.unwrap().value, "1");
    // The members themselves are never asked.
    put(&*s, "secret", "4").await;
}

/// A caller counts for the auth revision it was identified at.
pub async fn old_revision(make: &dyn Make) {
    let s = make.make().await;
    set_up(&*s).await;
    let user = caller(&*s, "u").await;
    s.by(&user).put(put_request("u/a", "")).await.unwrap();
    change_by(&*s, Some(&caller(&*s, "root").await), user_add("v")).await.unwrap();
    assert_error(s.by(&user).put(put_request("u/a", "")).await, ApiError::AuthOldRevision);
    assert_error(s.by(&user).range(range_request("u/a", "")).await, ApiError::AuthOldRevision);
    let user = caller(&*s, "u").await;
    s.by(&user).range(range_request("u/a", "")).await.unwrap();
    change(&*s, Change::UserDelete(pb::AuthUserDeleteRequest { name: "u".into() })).await;
    let gone = caller(&*s, "u").await;
    assert_error(s.by(&gone).range(range_request("u/a", "")).await, ApiError::PermissionDenied);
    change(&*s, Change::Disable(pb::AuthDisableRequest {})).await;
    s.by(&user).range(range_request("u/a", "")).await.expect("auth is off");
}

/// Leases are for those who may write all their keys.
pub async fn leases(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 1, 600).await;
    grant(&*s, 2, 600).await;
    put_leased(&*s, "secret", 1).await;
    put_leased(&*s, "u/a", 2).await;
    set_up(&*s).await;
    let (root, user, nobody) = (caller(&*s, "root").await, caller(&*s, "u").await, Caller::default());
    let keep_alive = |id| pb::LeaseKeepAliveRequest { id };
    let time = |id, keys| pb::LeaseTimeToLiveRequest { id, keys };
    let own = s.by(&user);
    own.lease_keep_alive(keep_alive(2)).await.unwrap();
    own.lease_time_to_live(time(1, false)).await.unwrap();
    assert_eq!(own.lease_time_to_live(time(2, true)).await.unwrap().keys, ["u/a"]);
    assert_eq!(own.lease_time_to_live(time(3, true)).await.unwrap().ttl, -1);
    assert_error(own.lease_keep_alive(keep_alive(1)).await, ApiError::PermissionDenied);
    assert_error(own.lease_time_to_live(time(1, true)).await, ApiError::PermissionDenied);
    assert_error(own.lease_leases(pb::LeaseLeasesRequest {}).await, ApiError::PermissionDenied);
    assert_error(own.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await, ApiError::PermissionDenied);
    let attach = pb::PutRequest { lease: 1, ..put_request("u/b", "") };
    assert_error(own.put(attach.clone()).await, ApiError::PermissionDenied);
    let nobodys = s.by(&nobody);
    let granting = pb::LeaseGrantRequest { id: 3, ttl: 600 };
    assert_error(nobodys.lease_grant(granting).await, ApiError::UserEmpty);
    assert_error(nobodys.lease_keep_alive(keep_alive(2)).await, ApiError::UserEmpty);
    assert_error(nobodys.lease_time_to_live(time(2, false)).await, ApiError::UserEmpty);
    assert_error(nobodys.lease_revoke(pb::LeaseRevokeRequest { id: 9 }).await, ApiError::UserEmpty);
    assert_error(own.lease_revoke(pb::LeaseRevokeRequest { id: 9 }).await, ApiError::LeaseNotFound);
    own.lease_grant(granting).await.unwrap();
    own.lease_revoke(pb::LeaseRevokeRequest { id: 2 }).await.unwrap();
    let all = s.by(&root);
    all.put(attach).await.unwrap();
    assert_eq!(all.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().leases.len(), 2);
    all.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await.unwrap();
    assert_eq!(get(&*s, "secret").await, None);
}

/// Tokens name their user until the password, the user, or auth goes.
pub async fn tokens(make: &dyn Make) {
    let s = make.make().await;
    assert_error(token(&*s, "u", "early").await, ApiError::AuthNotEnabled);
    set_up(&*s).await;
    for forged in ["", "x", "x.1", "early.1", "x.y.1"] {
        assert_error(s.resolve_token(forged).await, ApiError::InvalidAuthToken);
    }
    assert_error(token(&*s, "nobody", "p").await, ApiError::AuthFailed);
    let (first, second) = (token(&*s, "u", "one").await.unwrap(), token(&*s, "u", "two").await.unwrap());
    let roots = token(&*s, "root", "three").await.unwrap();
    assert!(first.starts_with("one.") && first != second, "{first}");
    let known = s.resolve_token(&first).await.unwrap();
    assert_eq!(known, caller(&*s, "u").await);
    // A password that was checked before a change of users does not count.
    let stale = Authenticate { user: "u".into(), token_prefix: "four".into(), auth_revision: 1 };
    assert_error(s.authenticate(stale).await, ApiError::AuthOldRevision);

    let password = UserPassword { name: "u".into(), password_hash: "other".into() };
    change(&*s, Change::UserPassword(password)).await;
    assert_error(s.resolve_token(&first).await, ApiError::InvalidAuthToken);
    assert_error(s.resolve_token(&second).await, ApiError::InvalidAuthToken);
    assert_eq!(s.credentials("u".into()).await.unwrap().password_hash.0, "other");
    // A token goes on to name its user after other changes, with the new revision.
    assert_eq!(s.resolve_token(&roots).await.unwrap(), caller(&*s, "root").await);
    let again = token(&*s, "u", "five").await.unwrap();
    change(&*s, Change::UserDelete(pb::AuthUserDeleteRequest { name: "u".into() })).await;
    assert_error(s.resolve_token(&again).await, ApiError::InvalidAuthToken);
    change(&*s, Change::Disable(pb::AuthDisableRequest {})).await;
    change(&*s, enable()).await;
    assert_error(s.resolve_token(&roots).await, ApiError::InvalidAuthToken);
}
