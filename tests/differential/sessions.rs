//! Locks and elections without a lease: the server makes one, whose id is its own to pick.

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;
use skiff_test_support::{Member, Program, Scratch};

/// Calls without a lease make one, even where it is of no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_made_as_etcd_makes_them() {
    let scratch = Scratch::new("lock-leases");
    let mut found = Vec::new();
    for (label, program) in
        [("etcd", Program::oracle()), ("subject", Program::subject(env!("CARGO_BIN_EXE_skiff")))]
    {
        let member = Member::single(program, &scratch.path().join(label)).await.expect("it starts");
        let client = member.client();
        client.lock(LockRequest { name: "l".into(), lease: 0 }).await.expect("it locks");
        let request = CampaignRequest { name: "e".into(), value: "v".into(), lease: 0 };
        let won = client.campaign(request).await.expect("it is elected").leader.expect("a leader");
        let leader = Some(LeaderKey { lease: 0, ..won });
        client
            .proclaim(ProclaimRequest { leader: leader.clone(), value: "w".into() })
            .await
            .expect("it proclaims");
        client.resign(ResignRequest { leader }).await.expect("it resigns");
        client.leader(LeaderRequest { name: "e".into() }).await.expect_err("nobody leads");
        client.unlock(UnlockRequest { key: "missing".into() }).await.expect("nothing to give back");
        let mut leases = Vec::new();
        for lease in client.lease_leases(LeaseLeasesRequest {}).await.expect("leases").leases {
            let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
            let left = client.lease_time_to_live(request).await.expect("it lives");
            leases.push((left.granted_ttl, left.keys.len()));
        }
        leases.sort_unstable();
        found.push(leases);
    }
    assert_eq!(found[1], found[0]);
    assert_eq!(found[0].len(), 4);
}
