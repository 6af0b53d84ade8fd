//! The Maintenance, Cluster and Auth services over gRPC.

use crate::common::*;
use skiff_store::pb::etcdserverpb::*;
use tonic::Code;

#[tokio::test]
async fn status() {
    let server = Server::start().await;
    let status = server.maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    let header = complete(status.header);
    assert_eq!((status.leader, status.raft_term), (header.member_id, header.raft_term));
    assert!(status.raft_index > 0 && status.raft_applied_index > 0 && status.db_size > 0, "{status:?}");
    assert!(status.errors.is_empty() && !status.is_learner && !status.version.is_empty());
    if !foreign() {
        assert_eq!(status.version, skiff_kine_api::ETCD_VERSION);
    }
}

#[tokio::test]
async fn alarms() {
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let member = maintenance.status(StatusRequest {}).await.unwrap().into_inner().header.unwrap().member_id;
    let request = |action, alarm| AlarmRequest { action, member_id: member, alarm };
    let list = maintenance.alarm(request(0, 0)).await.unwrap().into_inner();
    complete(list.header);
    assert_eq!(list.alarms, vec![]);
    let raised = maintenance.alarm(request(1, 1)).await.unwrap().into_inner();
    let alarm = AlarmMember { member_id: member, alarm: 1 };
    assert_eq!(raised.alarms, vec![alarm]);
    assert_eq!(maintenance.alarm(request(0, 0)).await.unwrap().into_inner().alarms, vec![alarm]);
    assert_eq!(maintenance.alarm(request(0, 2)).await.unwrap().into_inner().alarms, vec![]);
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, vec![format!("memberID:{member} alarm:NOSPACE ")]);
    let space = "etcdserver: mvcc: database space exceeded";
    let put = PutRequest { key: server.key("a"), ..Default::default() };
    refused(server.kv().put(put).await, Code::ResourceExhausted, space);
    refused(
        server.lease().lease_grant(LeaseGrantRequest { ttl: 9, id: 0 }).await,
        Code::ResourceExhausted,
        space,
    );
    let lowered = maintenance.alarm(request(2, 1)).await.unwrap().into_inner();
    assert_eq!(lowered.alarms, vec![alarm]);
    server.put(&server.key("a"), "x").await;
}

#[tokio::test]
async fn hashes() {
    let server = Server::start().await;
    let revision = server.put(&server.key("a"), "1").await.header.unwrap().revision;
    let mut maintenance = server.maintenance();
    complete(maintenance.hash(HashRequest {}).await.unwrap().into_inner().header);
    let hash = maintenance.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner();
    complete(hash.header);
    server.put(&server.key("a"), "2").await;
    let again = maintenance.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner();
    assert_eq!(hash.hash, again.hash);
    let request = HashKvRequest { revision: i64::MAX };
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(maintenance.hash_kv(request).await, Code::OutOfRange, future);
}

#[tokio::test]
async fn defragment_and_move_leader() {
    let server = Server::start().await;
    server.maintenance().defragment(DefragmentRequest {}).await.unwrap();
    let request = MoveLeaderRequest { target_id: 12345 };
    let text = "etcdserver: bad leader transferee";
    refused(server.maintenance().move_leader(request).await, Code::FailedPrecondition, text);
}

#[tokio::test]
async fn snapshot() {
    let server = Server::start().await;
    server.put(&server.key("a"), "1").await;
    let response = server.maintenance().snapshot(SnapshotRequest {}).await;
    let mut stream = match response {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("{status:?}"),
    };
    let mut bytes = 0;
    let mut last = None;
    while let Some(piece) = within(stream.message()).await.unwrap() {
        bytes += piece.blob.len();
        last = Some(piece.remaining_bytes);
    }
    assert_eq!(last, Some(0));
    assert_eq!(bytes % 512, 32);
}

#[tokio::test]
async fn members() {
    let server = Server::start().await;
    let mut cluster = server.cluster();
    let list = cluster.member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    let header = complete(list.header);
    assert_eq!(list.members.len(), 1);
    assert_eq!(list.members[0].id, header.member_id);
    let bad = "etcdserver: given member URLs are invalid";
    for urls in
        [vec![], vec!["x".to_owned()], vec!["http://a:1/path".to_owned()], vec!["http://a".to_owned()]]
    {
        let request = MemberAddRequest { peer_ur_ls: urls, is_learner: false };
        refused(cluster.member_add(request).await, Code::InvalidArgument, bad);
    }
    let missing = "etcdserver: member not found";
    refused(cluster.member_remove(MemberRemoveRequest { id: 99 }).await, Code::NotFound, missing);
    refused(cluster.member_promote(MemberPromoteRequest { id: 99 }).await, Code::NotFound, missing);
    let own = MemberPromoteRequest { id: header.member_id };
    let text = "etcdserver: can only promote a learner member";
    refused(cluster.member_promote(own).await, Code::FailedPrecondition, text);
}

#[tokio::test]
async fn auth_is_off() {
    let server = Server::start().await;
    let mut auth = server.auth();
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    complete(status.header);
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    let request = AuthenticateRequest { name: "root".into(), password: "x".into() };
    refused(
        auth.authenticate(request).await,
        Code::FailedPrecondition,
        "etcdserver: authentication is not enabled",
    );
    complete(auth.auth_disable(AuthDisableRequest {}).await.unwrap().into_inner().header);
}
