//! The same calls through the JSON gateway.
//!
//! A message becomes JSON by etcd's descriptors, and the JSON of an answer becomes a message again. Whether the
//! body was written as etcd's gateway writes it (names, 64-bit numbers as texts, defaults left out) is checked
//! on the way, so that two servers whose messages are equal have sent equal bodies.

use std::sync::LazyLock;
use std::time::Duration;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Serializer, Value};
use tonic::{Code, Status};

use crate::http::{Asked, ask};

/// The gateway's paths and the methods behind them.
pub const PATHS: &[(&str, &str)] = &[
    ("kv/range", "etcdserverpb.KV.Range"),
    ("kv/put", "etcdserverpb.KV.Put"),
    ("kv/deleterange", "etcdserverpb.KV.DeleteRange"),
    ("kv/txn", "etcdserverpb.KV.Txn"),
    ("kv/compaction", "etcdserverpb.KV.Compact"),
    ("watch", "etcdserverpb.Watch.Watch"),
    ("lease/grant", "etcdserverpb.Lease.LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease.LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("kv/lease/revoke", "etcdserverpb.Lease.LeaseRevoke"),
    ("kv/lease/timetolive", "etcdserverpb.Lease.LeaseTimeToLive"),
    ("kv/lease/leases", "etcdserverpb.Lease.LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster.MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster.MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster.MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster.MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster.MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance.Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance.Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance.Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance.Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance.HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance.Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance.MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance.Downgrade"),
    ("auth/enable", "etcdserverpb.Auth.AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth.AuthDisable"),
    ("auth/status", "etcdserverpb.Auth.AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth.Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth.UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth.UserGet"),
    ("auth/user/list", "etcdserverpb.Auth.UserList"),
    ("auth/user/delete", "etcdserverpb.Auth.UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth.UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth.UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth.UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth.RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth.RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth.RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth.RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth.RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth.RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock.Lock"),
    ("lock/unlock", "v3lockpb.Lock.Unlock"),
    ("election/campaign", "v3electionpb.Election.Campaign"),
    ("election/proclaim", "v3electionpb.Election.Proclaim"),
    ("election/leader", "v3electionpb.Election.Leader"),
    ("election/observe", "v3electionpb.Election.Observe"),
    ("election/resign", "v3electionpb.Election.Resign"),
];

/// How etcd's gateway writes messages.
const WRITTEN: SerializeOptions = SerializeOptions::new()
    .use_proto_field_name(true)
    .skip_default_fields(true)
    .stringify_64_bit_integers(true);

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).expect("own descriptors decode"));

fn fault(what: impl std::fmt::Display) -> Status {
    Status::internal(format!("the gateway's client: {what}"))
}

fn json(message: &DynamicMessage) -> Result<Value, Status> {
    let mut text = Vec::new();
    message.serialize_with_options(&mut Serializer::new(&mut text), &WRITTEN).map_err(fault)?;
    serde_json::from_slice(&text).map_err(fault)
}

/// Calls the method at gRPC's `path` through the gateway of the server at `address`.
///
/// # Errors
/// The server's error: its code, and as its text the HTTP status and the whole body. Or what is wrong with the
/// body of an answer.
pub(crate) async fn call<Q: Message, R: Message + Default>(
    address: &str,
    token: Option<&str>,
    path: &str,
    request: &Q,
    deadline: Duration,
) -> Result<R, Status> {
    let method = path.trim_start_matches('/').replace('/', ".");
    let (below, _) = PATHS
        .iter()
        .find(|(_, known)| *known == method)
        .ok_or_else(|| fault(format!("no path for {method}")))?;
    let (service, name) = method.rsplit_once('.').unwrap_or_default();
    let service = POOL.get_service_by_name(service).ok_or_else(|| fault(format!("no service {service}")))?;
    let called = service.methods().find(|called| called.name() == name);
    let called = called.ok_or_else(|| fault(format!("no method {method}")))?;
    let message = DynamicMessage::decode(called.input(), &request.encode_to_vec()[..]).map_err(fault)?;
    let mut asked = Asked::post(below, json(&message)?.to_string());
    if let Some(token) = token {
        asked = asked.header("authorization", token);
    }
    let answer = match tokio::time::timeout(deadline, ask(address, &asked)).await {
        Ok(answer) => answer.map_err(fault)?,
        Err(_) => return Err(Status::new(Code::DeadlineExceeded, "the call hung")),
    };
    let body: Value = serde_json::from_slice(&answer.body).map_err(fault)?;
    if answer.status != 200 {
        let code = body["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        // Go's protobuf library writes one or the other space, build by build.
        let text = format!("HTTP {}: {body}", answer.status).replace('\u{a0}', " ");
        return Err(Status::new(Code::from_i32(code), text));
    }
    read(called.output(), body)
}

/// The message of a body, which must be written as etcd writes it.
fn read<R: Message + Default>(descriptor: MessageDescriptor, body: Value) -> Result<R, Status> {
    let message = DynamicMessage::deserialize(descriptor, &body).map_err(fault)?;
    let written = json(&message)?;
    if written != body {
        return Err(fault(format!("{body} is to be written as {written}")));
    }
    R::decode(&message.encode_to_vec()[..]).map_err(fault)
}
