//! The Lease service over gRPC.

use crate::common::*;
use skiff_store::pb::etcdserverpb::*;
use tonic::Code;

#[tokio::test]
async fn grant_use_revoke() {
    let server = Server::start().await;
    let mut lease = server.lease();
    let granted = lease.lease_grant(LeaseGrantRequest { ttl: 100, id: 0 }).await.unwrap().into_inner();
    complete(granted.header);
    assert!(granted.id > 0 && granted.ttl == 100 && granted.error.is_empty());
    let key = server.key("a");
    let put = PutRequest { key: key.clone(), lease: granted.id, ..Default::default() };
    server.kv().put(put).await.unwrap();
    let request = LeaseTimeToLiveRequest { id: granted.id, keys: true };
    let left = lease.lease_time_to_live(request).await.unwrap().into_inner();
    complete(left.header);
    assert!((90..=100).contains(&left.ttl), "{left:?}");
    assert_eq!((left.id, left.granted_ttl, &left.keys), (granted.id, 100, &vec![key.clone()]));
    let leases = lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    complete(leases.header);
    assert!(leases.leases.contains(&LeaseStatus { id: granted.id }));
    let again = LeaseGrantRequest { ttl: 100, id: granted.id };
    refused(lease.lease_grant(again).await, Code::FailedPrecondition, "etcdserver: lease already exists");
    let revoke = LeaseRevokeRequest { id: granted.id };
    let revoked = lease.lease_revoke(revoke).await.unwrap().into_inner();
    complete(revoked.header);
    assert_eq!(server.get(&key).await.count, 0);
    refused(lease.lease_revoke(revoke).await, Code::NotFound, "etcdserver: requested lease not found");
    let left = lease.lease_time_to_live(request).await.unwrap().into_inner();
    complete(left.header);
    assert_eq!((left.id, left.ttl, left.granted_ttl), (granted.id, -1, 0));
}

#[tokio::test]
async fn limits_of_the_time_to_live() {
    let server = Server::start().await;
    let mut lease = server.lease();
    let request = LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
    refused(lease.lease_grant(request).await, Code::OutOfRange, "etcdserver: too large lease TTL");
    for ttl in [-5, 0, 1, 2] {
        let granted = lease.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await.unwrap().into_inner();
        assert_eq!(granted.ttl, 2, "{ttl}");
    }
}

#[tokio::test]
async fn keepalive() {
    let server = Server::start().await;
    let mut lease = server.lease();
    let granted = lease.lease_grant(LeaseGrantRequest { ttl: 50, id: 0 }).await.unwrap().into_inner();
    let requests = [granted.id, 424_242, granted.id].map(|id| LeaseKeepAliveRequest { id });
    let mut stream = lease.lease_keep_alive(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for (id, ttl) in [(granted.id, 50), (424_242, 0), (granted.id, 50)] {
        let response = within(stream.message()).await.unwrap().unwrap();
        complete(response.header);
        assert_eq!((response.id, response.ttl), (id, ttl));
    }
    assert!(within(stream.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn expiry_deletes() {
    let server = Server::start().await;
    let granted = server.lease().lease_grant(LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    let key = server.key("a");
    let mut watches = server.watch().await;
    watches.create(WatchCreateRequest { key: key.clone(), ..Default::default() }).await;
    let put = PutRequest { key, lease: granted.id, ..Default::default() };
    server.kv().put(put).await.unwrap();
    assert_eq!(watches.next().await.events[0].r#type, 0);
    assert_eq!(watches.next().await.events[0].r#type, 1);
}
