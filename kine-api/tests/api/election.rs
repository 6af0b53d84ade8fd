//! The Election service over gRPC.

use std::sync::atomic::Ordering;

use crate::common::odd::OddStore;
use crate::common::*;
use crate::lock::{Answer, claim};
use bytes::Bytes;
use skiff_kine_api::ApiConfig;
use skiff_kine_api::services::election_client::ElectionClient;
use skiff_store::pb::etcdserverpb::*;
use skiff_store::pb::v3electionpb::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

impl Server {
    fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    async fn campaign(&self, name: &Bytes, lease: i64, value: &str) -> Answer<CampaignResponse> {
        within(self.elections().campaign(candidacy(name, lease, value))).await
    }

    /// Starts to wait for leadership; returns once the claim stands.
    async fn stand(&self, name: &Bytes, lease: i64, value: &str) -> JoinHandle<Answer<CampaignResponse>> {
        let (mut elections, request) = (self.elections(), candidacy(name, lease, value));
        let waiting = tokio::spawn(async move { elections.campaign(request).await });
        self.until(&claim(name, lease), true).await;
        waiting
    }

    async fn elected(&self, name: &Bytes, lease: i64, value: &str) -> LeaderKey {
        self.campaign(name, lease, value).await.unwrap().into_inner().leader.unwrap()
    }

    async fn proclaim(&self, leader: Option<LeaderKey>, value: &str) -> Answer<ProclaimResponse> {
        let request = ProclaimRequest { leader, value: value.to_owned().into() };
        self.elections().proclaim(request).await
    }

    async fn resign(&self, leader: Option<LeaderKey>) -> Answer<ResignResponse> {
        self.elections().resign(ResignRequest { leader }).await
    }

    async fn leader(&self, name: &Bytes) -> Answer<LeaderResponse> {
        self.elections().leader(LeaderRequest { name: name.clone() }).await
    }

    /// A stream of leaders. etcd answers the call with the first of them, so
    /// nothing waits for it before.
    fn observe(&self, name: &Bytes) -> Observation {
        let (mut elections, name) = (self.elections(), name.clone());
        Observation {
            call: Some(tokio::spawn(async move { elections.observe(LeaderRequest { name }).await })),
            leaders: None,
        }
    }
}

struct Observation {
    call: Option<JoinHandle<Answer<Streaming<LeaderResponse>>>>,
    leaders: Option<Streaming<LeaderResponse>>,
}

impl Observation {
    /// The next leader: its key and value.
    async fn next(&mut self) -> (Bytes, String) {
        if let Some(call) = self.call.take() {
            self.leaders = Some(within(call).await.unwrap().unwrap().into_inner());
        }
        let news = within(self.leaders.as_mut().unwrap().message()).await.unwrap().expect("the stream ended");
        let pair = news.kv.unwrap();
        assert!(complete(news.header).revision >= pair.mod_revision);
        (pair.key, String::from_utf8(pair.value.to_vec()).unwrap())
    }
}

fn candidacy(name: &Bytes, lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest { name: name.clone(), lease, value: value.to_owned().into() }
}

#[tokio::test]
async fn leadership_is_won_proclaimed_and_resigned() {
    let server = Server::start().await;
    let name = server.key("office");
    let (first, second) = (server.grant(100).await, server.grant(100).await);
    let won = server.campaign(&name, first, "a").await.unwrap().into_inner();
    let leader = won.leader.unwrap();
    assert_eq!((&leader.name, &leader.key, leader.lease), (&name, &claim(&name, first), first));
    assert_eq!(complete(won.header).revision, leader.rev);
    let waiting = server.stand(&name, second, "b").await;

    let told = server.leader(&name).await.unwrap().into_inner();
    complete(told.header);
    let pair = told.kv.unwrap();
    assert_eq!((&pair.key, &pair.value[..], pair.create_revision), (&leader.key, &b"a"[..], leader.rev));
    let proclaimed = server.proclaim(Some(leader.clone()), "a2").await.unwrap().into_inner();
    let pair = server.leader(&name).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((&pair.value[..], pair.lease), (&b"a2"[..], first));
    assert_eq!(complete(proclaimed.header).revision, pair.mod_revision);

    complete(server.resign(Some(leader.clone())).await.unwrap().into_inner().header);
    let next = within(waiting).await.unwrap().unwrap().into_inner().leader.unwrap();
    assert_eq!((next.key, next.lease), (claim(&name, second), second));
    refused(server.proclaim(Some(leader.clone()), "late").await, Code::Unknown, "election: not leader");
    // Who no longer leads may resign, and takes nothing from who does.
    server.resign(Some(leader)).await.unwrap();
    assert_eq!(server.leader(&name).await.unwrap().into_inner().kv.unwrap().lease, second);
}

#[tokio::test]
async fn a_leader_that_campaigns_again_proclaims() {
    let server = Server::start().await;
    let name = server.key("office");
    let lease = server.grant(100).await;
    let first = server.elected(&name, lease, "a").await;
    let again = server.campaign(&name, lease, "b").await.unwrap().into_inner();
    assert_eq!(again.leader, Some(first.clone()));
    let pair = server.get(&first.key).await.kvs.remove(0);
    assert_eq!((&pair.value[..], pair.version, pair.create_revision), (&b"b"[..], 2, first.rev));
    // The header is of the state that was found.
    assert_eq!(complete(again.header).revision, pair.mod_revision - 1);
    server.campaign(&name, lease, "b").await.unwrap();
    assert_eq!(server.get(&first.key).await.kvs[0].version, 2);
}

#[tokio::test]
async fn a_candidate_that_goes_leaves_no_claim() {
    let server = Server::start().await;
    let name = server.key("office");
    let leader = server.elected(&name, server.grant(100).await, "a").await;
    let (gone, stays) = (server.grant(100).await, server.grant(100).await);
    let cancelled = server.stand(&name, gone, "b").await;
    let waiting = server.stand(&name, stays, "c").await;
    cancelled.abort();
    server.until(&claim(&name, gone), false).await;
    assert!(!waiting.is_finished() && server.get(&leader.key).await.count == 1);
    server.resign(Some(leader)).await.unwrap();
    assert_eq!(within(waiting).await.unwrap().unwrap().into_inner().leader.unwrap().lease, stays);
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    let name = server.key("office");
    refused(server.leader(&name).await, Code::Unknown, "election: no leader");
    let missing = "\"leader\" field must be provided";
    refused(server.proclaim(None, "a").await, Code::Unknown, missing);
    refused(server.resign(None).await, Code::Unknown, missing);
    let lost = "etcdserver: requested lease not found";
    refused(server.campaign(&name, 424_242, "a").await, Code::Unknown, lost);
    let lease = server.grant(100).await;
    let unnamed = LeaderKey { lease, ..Default::default() };
    let empty = "etcdserver: key is not provided";
    refused(server.proclaim(Some(unnamed.clone()), "a").await, Code::Unknown, empty);
    refused(server.resign(Some(unnamed)).await, Code::Unknown, empty);
    let large = "v".repeat(3 << 19);
    refused(server.campaign(&name, lease, &large).await, Code::Unknown, "etcdserver: request is too large");
    let leader = server.elected(&name, lease, "a").await;
    let stranger = LeaderKey { lease: 424_242, ..leader };
    refused(server.proclaim(Some(stranger), "b").await, Code::Unknown, lost);
}

#[tokio::test]
async fn observers_see_leaders_and_what_they_proclaim() {
    let server = Server::start().await;
    let name = server.key("office");
    let mut early = server.observe(&name);
    let (first, second) = (server.grant(100).await, server.grant(100).await);
    let leader = server.elected(&name, first, "a").await;
    let mut late = server.observe(&name);
    for observer in [&mut early, &mut late] {
        assert_eq!(observer.next().await, (leader.key.clone(), "a".to_owned()));
    }
    // Who waits does not lead.
    let waiting = server.stand(&name, second, "b").await;
    server.proclaim(Some(leader.clone()), "a2").await.unwrap();
    for observer in [&mut early, &mut late] {
        assert_eq!(observer.next().await, (leader.key.clone(), "a2".to_owned()));
    }
    server.revoke(first).await;
    let next = within(waiting).await.unwrap().unwrap().into_inner().leader.unwrap();
    for observer in [&mut early, &mut late] {
        assert_eq!(observer.next().await, (next.key.clone(), "b".to_owned()));
    }
    // Nobody leads for a while.
    server.resign(Some(next)).await.unwrap();
    refused(server.leader(&name).await, Code::Unknown, "election: no leader");
    let third = server.elected(&name, server.grant(100).await, "c").await;
    for observer in [&mut early, &mut late] {
        assert_eq!(observer.next().await, (third.key.clone(), "c".to_owned()));
    }
}

/// History that nobody needs any more may go.
#[tokio::test]
async fn observers_outlast_a_compaction() {
    let server = Server::start().await;
    let name = server.key("office");
    let mut vacant = server.observe(&name);
    let lease = server.grant(100).await;
    let leader = server.elected(&name, lease, "0").await;
    assert_eq!(vacant.next().await.1, "0");
    for round in 1..20 {
        server.proclaim(Some(leader.clone()), &round.to_string()).await.unwrap();
        let revision = server.revision().await;
        server.kv().compact(CompactionRequest { revision, physical: true }).await.unwrap();
        assert_eq!(vacant.next().await.1, round.to_string());
    }
}

#[tokio::test]
async fn an_observation_ends_with_its_member() {
    let store = OddStore::new();
    let (shutdown, stopping) = watch::channel(false);
    let address = serve(store.clone(), store.inner.clone(), ApiConfig::default(), stopping).await;
    let mut elections = ElectionClient::new(connect(&address).await);
    let mut leaders = elections.observe(LeaderRequest::default()).await.unwrap().into_inner();
    shutdown.send_replace(true);
    refused(within(leaders.message()).await, Code::Unavailable, "etcdserver: server stopped");
}

#[tokio::test]
async fn a_learner_has_no_elections() {
    let store = OddStore::new();
    store.learner.store(true, Ordering::Relaxed);
    let (_shutdown, stopping) = watch::channel(false);
    let address = serve(store.clone(), store.inner.clone(), ApiConfig::default(), stopping).await;
    let mut elections = ElectionClient::new(connect(&address).await);
    let text = "etcdserver: rpc not supported for learner";
    refused(elections.campaign(CampaignRequest::default()).await, Code::FailedPrecondition, text);
    refused(elections.leader(LeaderRequest::default()).await, Code::FailedPrecondition, text);
    refused(elections.observe(LeaderRequest::default()).await, Code::FailedPrecondition, text);
}
