//! Users, tokens and permissions through the API, on a store in memory: auth is
//! a state of the whole server, so these tests never run against a foreign one.

use std::sync::Arc;

use skiff_kine_api::services::auth_client::AuthClient;
use skiff_kine_api::services::cluster_client::ClusterClient;
use skiff_kine_api::services::kv_client::KvClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_kine_api::services::maintenance_client::MaintenanceClient;
use skiff_kine_api::services::watch_client::WatchClient;
use skiff_kine_api::{ApiConfig, JwtKeys, JwtOptions, PeerIdentity, TokenKind, router};
use skiff_store::clock::SystemClock;
use skiff_store::engine::mem::MemEngine;
use skiff_store::local::{LocalConfig, LocalStore};
use skiff_store::pb::authpb::{Permission, UserAddOptions};
use skiff_store::pb::etcdserverpb::*;
use tokio::sync::watch;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::common::{connect, refused, within};

const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
const FAILED: (Code, &str) =
    (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password");
const OLD: (Code, &str) = (Code::InvalidArgument, "etcdserver: revision of auth store is old");

/// Adds metadata to every call.
#[derive(Clone, Default)]
struct Metadata(Vec<(&'static str, AsciiMetadataValue)>);

impl tonic::service::Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Metadata>;

/// A caller: the clients of one server, with its metadata.
#[derive(Clone)]
struct As {
    channel: Channel,
    metadata: Metadata,
}

impl As {
    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut one = self.clone();
        one.metadata.0.push((name, value.parse().unwrap()));
        one
    }

    fn token(&self, token: &str) -> Self {
        self.with("token", token)
    }

    fn kv(&self) -> KvClient<Wire> {
        KvClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    fn auth(&self) -> AuthClient<Wire> {
        AuthClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    fn lease(&self) -> LeaseClient<Wire> {
        LeaseClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    fn cluster(&self) -> ClusterClient<Wire> {
        ClusterClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    fn maintenance(&self) -> MaintenanceClient<Wire> {
        MaintenanceClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        Ok(self.auth().authenticate(request).await?.into_inner().token)
    }

    async fn put(&self, key: &str) -> Result<(), Status> {
        let request = PutRequest { key: key.to_owned().into(), ..Default::default() };
        self.kv().put(request).await.map(drop)
    }

    async fn get(&self, key: &str) -> Result<i64, Status> {
        let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        Ok(self.kv().range(request).await?.into_inner().count)
    }

    async fn watch(&self, key: &str, range_end: &str) -> WatchResponse {
        let create = WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            ..Default::default()
        };
        let create = watch_request::RequestUnion::CreateRequest(create);
        let requests = futures::stream::iter([WatchRequest { request_union: Some(create) }]);
        let mut client = WatchClient::with_interceptor(self.channel.clone(), self.metadata.clone());
        let mut responses = within(client.watch(requests)).await.unwrap().into_inner();
        within(responses.message()).await.unwrap().expect("a response")
    }

    async fn keep_alive(&self, id: i64) -> Result<i64, Status> {
        let requests = futures::stream::iter([LeaseKeepAliveRequest { id }]);
        let mut responses = self.lease().lease_keep_alive(requests).await?.into_inner();
        Ok(within(responses.message()).await?.expect("a response").ttl)
    }
}

struct Server {
    nobody: As,
    _stop: watch::Sender<bool>,
}

async fn serve(config: ApiConfig, peer: Option<PeerIdentity>) -> Server {
    let clock = Arc::new(SystemClock::default());
    let store = LocalStore::open(Arc::new(MemEngine::new()), LocalConfig::default(), clock).unwrap();
    let (stop, stopping) = watch::channel(false);
    let config = ApiConfig { bcrypt_cost: 4, ..config };
    let mut router = router(store.clone(), store, config, stopping);
    if let Some(peer) = peer {
        router = router.layer(axum::Extension(peer));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server { nobody: As { channel: connect(&address).await, metadata: Metadata::default() }, _stop: stop }
}

/// Adds root, and "u" that may do everything from "u/" to "u0"; turns auth on.
async fn set_up(server: &Server) {
    let mut auth = server.nobody.auth();
    let user =
        |name: &str| AuthUserAddRequest { name: name.into(), password: name.into(), ..Default::default() };
    auth.user_add(user("root")).await.unwrap();
    auth.user_add(user("u")).await.unwrap();
    auth.user_grant_role(AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() })
        .await
        .unwrap();
    auth.role_add(AuthRoleAddRequest { name: "r".into() }).await.unwrap();
    let perm = Permission { perm_type: 2, key: "u/".into(), range_end: "u0".into() };
    let grant = AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
    auth.role_grant_permission(grant).await.unwrap();
    auth.user_grant_role(AuthUserGrantRoleRequest { user: "u".into(), role: "r".into() }).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}

#[track_caller]
fn told<T: std::fmt::Debug>(result: Result<T, Status>, (code, text): (Code, &str)) {
    refused(result, code, text);
}

/// Every call of every service, by what it asks of its caller.
#[tokio::test]
async fn every_call_asks_who_calls() {
    let server = serve(ApiConfig::default(), None).await;
    let nobody = &server.nobody;
    nobody.put("secret").await.unwrap();
    nobody.lease().lease_grant(LeaseGrantRequest { id: 1, ttl: 600 }).await.unwrap();
    let leased = PutRequest { key: "secret".into(), lease: 1, ..Default::default() };
    nobody.kv().put(leased).await.unwrap();
    set_up(&server).await;
    let user = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    let root = nobody.token(&nobody.log_in("root", "root").await.unwrap());
    let forged = nobody.token("abcdefghijklmnop.1");

    // Calls for administrators only; `$done` is what root gets.
    macro_rules! admin {
        ($($client:ident.$call:ident($request:expr);)*) => {$(
            let call = stringify!($call);
            told(nobody.$client().$call($request).await.map(drop), EMPTY);
            told(forged.$client().$call($request).await.map(drop), BAD_TOKEN);
            told(user.$client().$call($request).await.map(drop), DENIED);
            if let Err(status) = root.$client().$call($request).await {
                let auth = [Code::PermissionDenied, Code::Unauthenticated];
                assert!(!auth.contains(&status.code()), "{call}: {status}");
            }
        )*};
    }
    // Calls for everybody who has a name.
    macro_rules! named {
        ($($client:ident.$call:ident($request:expr);)*) => {$(
            let call = stringify!($call);
            told(nobody.$client().$call($request).await.map(drop), EMPTY);
            told(forged.$client().$call($request).await.map(drop), BAD_TOKEN);
            if let Err(status) = user.$client().$call($request).await {
                let auth = [Code::PermissionDenied, Code::Unauthenticated];
                assert!(!auth.contains(&status.code()), "{call}: {status}");
            }
        )*};
    }
    let range = |key: &'static str| RangeRequest { key: key.into(), ..Default::default() };
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let perm = Some(Permission { perm_type: 2, key: "a".into(), range_end: Default::default() });
    admin! {
        kv.range(range("secret"));
        kv.range(RangeRequest { serializable: true, ..range("secret") });
        kv.range(RangeRequest { range_end: vec![0].into(), ..range("u/") });
        kv.range_stream(range("secret"));
        kv.put(PutRequest { key: "other".into(), ..Default::default() });
        kv.put(PutRequest { key: "u/a".into(), lease: 1, ..Default::default() });
        kv.delete_range(DeleteRangeRequest { key: "u/".into(), range_end: vec![0].into(), prev_kv: false });
        kv.compact(CompactionRequest { revision: 1, physical: false });
        lease.lease_time_to_live(LeaseTimeToLiveRequest { id: 1, keys: true });
        lease.lease_leases(LeaseLeasesRequest {});
        cluster.member_add(MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: false });
        cluster.member_remove(MemberRemoveRequest { id: 1 });
        cluster.member_update(MemberUpdateRequest { id: 1, peer_ur_ls: urls.clone() });
        cluster.member_promote(MemberPromoteRequest { id: 1 });
        maintenance.alarm(AlarmRequest { action: 1, member_id: 0, alarm: 0 });
        maintenance.status(StatusRequest {});
        maintenance.defragment(DefragmentRequest {});
        maintenance.hash(HashRequest {});
        maintenance.hash_kv(HashKvRequest { revision: 0 });
        maintenance.snapshot(SnapshotRequest {});
        maintenance.move_leader(MoveLeaderRequest { target_id: 1 });
        maintenance.downgrade(DowngradeRequest { action: 0, version: "3.5".into() });
        auth.auth_enable(AuthEnableRequest {});
        auth.auth_status(AuthStatusRequest {});
        auth.user_list(AuthUserListRequest {});
        auth.user_get(AuthUserGetRequest { name: "root".into() });
        auth.role_list(AuthRoleListRequest {});
        auth.role_get(AuthRoleGetRequest { role: "other".into() });
        auth.user_delete(AuthUserDeleteRequest { name: "root".into() });
        auth.user_grant_role(AuthUserGrantRoleRequest { user: "u".into(), role: "missing".into() });
        auth.user_revoke_role(AuthUserRevokeRoleRequest { name: "root".into(), role: "root".into() });
        auth.role_delete(AuthRoleDeleteRequest { role: "root".into() });
        auth.role_grant_permission(AuthRoleGrantPermissionRequest { name: "missing".into(), perm: perm.clone() });
        auth.role_revoke_permission(AuthRoleRevokePermissionRequest { role: "missing".into(), ..Default::default() });
        auth.user_add(AuthUserAddRequest { name: "root".into(), ..Default::default() });
        auth.role_add(AuthRoleAddRequest { name: "r".into() });
        auth.user_change_password(AuthUserChangePasswordRequest { name: "missing".into(), ..Default::default() });
        lease.lease_revoke(LeaseRevokeRequest { id: 1 });
    }
    let op = RequestOp { request: Some(request_op::Request::RequestRange(range("u/a"))) };
    let reading = TxnRequest { success: vec![op], ..Default::default() };
    named! {
        kv.range(range("u/a"));
        kv.range_stream(range("u/a"));
        kv.put(PutRequest { key: "u/a".into(), ..Default::default() });
        kv.txn(reading.clone());
        lease.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 });
        lease.lease_time_to_live(LeaseTimeToLiveRequest { id: 99, keys: true });
        lease.lease_revoke(LeaseRevokeRequest { id: 99 });
        lease.lease_leases(LeaseLeasesRequest {});
        cluster.member_list(MemberListRequest { linearizable: true });
        maintenance.alarm(AlarmRequest::default());
        auth.user_get(AuthUserGetRequest { name: "u".into() });
        auth.role_get(AuthRoleGetRequest { role: "r".into() });
    }
    // A transaction that touches no key is anybody's, as in etcd.
    nobody.kv().txn(TxnRequest::default()).await.unwrap();
    // Whoever may not ask at all is told of a wrong request first, as in etcd.
    told(nobody.get("").await, (Code::InvalidArgument, "etcdserver: key is not provided"));
    // The health of the server is everybody's.
    root.auth().auth_disable(AuthDisableRequest {}).await.unwrap();
    assert_eq!(forged.get("secret").await.unwrap(), 0, "with auth off nobody looks at tokens");
}

#[tokio::test]
async fn a_watch_is_refused_in_its_stream() {
    let server = serve(ApiConfig::default(), None).await;
    set_up(&server).await;
    let nobody = &server.nobody;
    let user = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    let created = user.watch("u/", "u0").await;
    assert!(created.created && !created.canceled, "{created:?}");
    let table = [
        (&user, "secret", "", "code = PermissionDenied desc = etcdserver: permission denied"),
        (&user, "u/", "\0", "code = PermissionDenied desc = etcdserver: permission denied"),
        (&user, "", "", "code = PermissionDenied desc = etcdserver: permission denied"),
        (nobody, "u/a", "", "code = InvalidArgument desc = etcdserver: user name is empty"),
        (&nobody.token("x.1"), "u/a", "", "code = Unauthenticated desc = etcdserver: invalid auth token"),
    ];
    for (caller, key, end, reason) in table {
        let refusal = caller.watch(key, end).await;
        assert!(refusal.created && refusal.canceled && refusal.watch_id == -1, "{refusal:?}");
        assert_eq!(refusal.cancel_reason, format!("rpc error: {reason}"));
    }
}

#[tokio::test]
async fn a_lease_is_renewed_by_who_may_write_its_keys() {
    let server = serve(ApiConfig::default(), None).await;
    let nobody = &server.nobody;
    nobody.lease().lease_grant(LeaseGrantRequest { id: 1, ttl: 600 }).await.unwrap();
    let leased = PutRequest { key: "secret".into(), lease: 1, ..Default::default() };
    nobody.kv().put(leased).await.unwrap();
    nobody.lease().lease_grant(LeaseGrantRequest { id: 2, ttl: 600 }).await.unwrap();
    set_up(&server).await;
    let user = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    told(user.keep_alive(1).await, DENIED);
    assert_eq!(user.keep_alive(2).await.unwrap(), 600);
    assert_eq!(user.keep_alive(3).await.unwrap(), 0);
    told(nobody.keep_alive(2).await, EMPTY);
    told(nobody.token("x.1").keep_alive(2).await, BAD_TOKEN);
}

#[tokio::test]
async fn passwords_are_checked() {
    let server = serve(ApiConfig::default(), None).await;
    set_up(&server).await;
    let nobody = &server.nobody;
    for (name, password) in [("u", ""), ("u", "U"), ("", "u"), ("missing", "u")] {
        told(nobody.log_in(name, password).await, FAILED);
    }
    let root = nobody.token(&nobody.log_in("root", "root").await.unwrap());
    let old = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    let change = |password: &str, hash: &str| AuthUserChangePasswordRequest {
        name: "u".into(),
        password: password.into(),
        hashed_password: hash.into(),
    };
    root.auth().user_change_password(change("new", "")).await.unwrap();
    told(old.get("u/a").await, BAD_TOKEN);
    told(nobody.log_in("u", "u").await, FAILED);
    nobody.log_in("u", "new").await.unwrap();
    // A hash that an administrator brings: of "secret", in base64.
    let hash = base64(b"$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW");
    root.auth().user_change_password(change("", &hash)).await.unwrap();
    nobody.log_in("u", "secret").await.unwrap();
    let not_base64 = root.auth().user_change_password(change("", "!")).await;
    let no_password = "auth: authentication failed, password was given for no password user";
    told(not_base64, (Code::Unknown, no_password));
    let long = root.auth().user_change_password(change(&"x".repeat(73), "")).await;
    told(long, (Code::Unknown, "bcrypt: password length exceeds 72 bytes"));

    let by_certificate = AuthUserAddRequest {
        name: "n".into(),
        password: "ignored".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    root.auth().user_add(by_certificate).await.unwrap();
    told(nobody.log_in("n", "ignored").await, (Code::Unknown, no_password));
    root.auth().user_delete(AuthUserDeleteRequest { name: "u".into() }).await.unwrap();
    told(nobody.log_in("u", "secret").await, FAILED);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_token_may_stand_where_the_gateway_puts_it() {
    let server = serve(ApiConfig::default(), None).await;
    set_up(&server).await;
    let nobody = &server.nobody;
    let token = nobody.log_in("u", "u").await.unwrap();
    assert_eq!(nobody.with("authorization", &token).get("u/a").await.unwrap(), 0);
    // The other key is looked at only where this one is missing.
    let both = nobody.with("authorization", &token).token("forged.1");
    told(both.get("u/a").await, BAD_TOKEN);
}

#[tokio::test]
async fn a_signed_token_names_its_user_and_revision() {
    let options = JwtOptions {
        sign_method: "HS256".into(),
        public_key: None,
        private_key: Some(b"shared secret".to_vec()),
        ttl: std::time::Duration::from_secs(300),
    };
    let keys = Arc::new(JwtKeys::new(&options).unwrap());
    let server = serve(ApiConfig { tokens: TokenKind::Jwt(keys), ..Default::default() }, None).await;
    set_up(&server).await;
    let nobody = &server.nobody;
    told(nobody.log_in("u", "wrong").await, FAILED);
    let (token, roots) =
        (nobody.log_in("u", "u").await.unwrap(), nobody.log_in("root", "root").await.unwrap());
    let (user, root) = (nobody.token(&token), nobody.token(&roots));
    user.put("u/a").await.unwrap();
    told(user.get("secret").await, DENIED);
    for forged in ["x.1", "a.b.c", &token[..token.len() - 2], &format!("{token}x")] {
        told(nobody.token(forged).get("u/a").await, BAD_TOKEN);
    }
    // Users and roles changed: the token is too old to go by, for keys.
    root.auth().role_add(AuthRoleAddRequest { name: "another".into() }).await.unwrap();
    told(user.get("u/a").await, OLD);
    told(root.get("u/a").await, OLD);
    root.auth().user_list(AuthUserListRequest {}).await.unwrap();
    let user = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    assert_eq!(user.get("u/a").await.unwrap(), 1);
    let missing = AuthUserDeleteRequest { name: "u".into() };
    root.auth().user_delete(missing).await.unwrap();
    told(user.get("u/a").await, OLD);
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    let peer = |name: &str| Some(PeerIdentity { common_name: Some(name.into()) });
    let by_certificate = ApiConfig { client_cert_auth: true, ..Default::default() };
    let server = serve(by_certificate.clone(), peer("u")).await;
    set_up(&server).await;
    let bearer = &server.nobody;
    bearer.put("u/a").await.unwrap();
    told(bearer.put("secret").await, DENIED);
    // The user is looked up anew for each request.
    let root = bearer.token(&bearer.log_in("root", "root").await.unwrap());
    root.put("secret").await.expect("a token wins over the certificate");
    root.auth().role_add(AuthRoleAddRequest { name: "another".into() }).await.unwrap();
    bearer.put("u/a").await.unwrap();
    told(bearer.token("forged.1").put("u/a").await, BAD_TOKEN);
    told(bearer.with("grpcgateway-accept", "*/*").put("u/a").await, EMPTY);
    assert!(!bearer.watch("u/a", "").await.canceled);
    assert!(bearer.watch("secret", "").await.canceled);

    let server = serve(by_certificate, peer("stranger")).await;
    set_up(&server).await;
    told(server.nobody.put("u/a").await, DENIED);
    let listed = server.nobody.auth().user_list(AuthUserListRequest {}).await;
    told(listed, (Code::FailedPrecondition, "etcdserver: user name not found"));

    let server = serve(ApiConfig::default(), peer("u")).await;
    set_up(&server).await;
    told(server.nobody.put("u/a").await, EMPTY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_passwords_does_not_stop_writes() {
    let server = serve(ApiConfig::default(), None).await;
    set_up(&server).await;
    let nobody = &server.nobody;
    let user = nobody.token(&nobody.log_in("u", "u").await.unwrap());
    let flood: Vec<_> = (0..500)
        .map(|at| {
            let nobody = nobody.clone();
            tokio::spawn(async move { nobody.log_in("u", if at % 2 == 0 { "u" } else { "wrong" }).await })
        })
        .collect();
    for at in 0..100 {
        within(user.put(&format!("u/{at}"))).await.unwrap();
    }
    let mut answers = [0, 0, 0];
    for one in flood {
        match within(one).await.unwrap() {
            Ok(_) => answers[0] += 1,
            Err(status) if (status.code(), status.message()) == FAILED => answers[1] += 1,
            Err(status) => {
                let refused = (Code::ResourceExhausted, "etcdserver: too many requests");
                assert_eq!((status.code(), status.message()), refused);
                answers[2] += 1;
            }
        }
    }
    assert!(answers[0] > 0 && answers[1] > 0 && answers.iter().sum::<i32>() == 500, "{answers:?}");
    nobody.log_in("u", "u").await.expect("after the flood");
}
