//! Locks and elections on one member and on three, with leaders that are killed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_test_support::cluster::retry;
use skiff_test_support::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::KeyValue;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;
use skiff_test_support::rpc::create_watch;
use skiff_test_support::{Client, Cluster, ClusterOptions, Member, Program, Rng, Scratch};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// How long a waiter may wait, or a condition may take to hold.
const PATIENCE: Duration = Duration::from_secs(60);

const NAME: &str = "mutex";
const COUNTER: &str = "counter";

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

async fn three(scratch: &Scratch) -> Cluster {
    Cluster::start(ClusterOptions::three(subject()), scratch.path()).await.expect("the cluster starts")
}

fn clients(cluster: &Cluster) -> Vec<Client> {
    cluster.members.iter().map(Member::client).collect()
}

async fn grant(client: &Client, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { ttl, id: 0 };
    retry(|| client.lease_grant(request)).await.expect("a lease is granted").id
}

fn claim_key(lease: i64) -> Bytes {
    format!("{NAME}/{lease:x}").into()
}

async fn get(client: &Client, key: &Bytes) -> Option<KeyValue> {
    let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let answer = retry(|| client.range(request.clone())).await.expect("a read");
    answer.kvs.into_iter().next()
}

/// Waits until a key is there, or is gone.
async fn until(client: &Client, key: &Bytes, there: bool) {
    let deadline = Instant::now() + PATIENCE;
    while get(client, key).await.is_some() != there {
        assert!(Instant::now() < deadline, "{key:?} is {}there", if there { "not " } else { "" });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn claims(client: &Client) -> i64 {
    let (key, range_end) = (format!("{NAME}/").into(), format!("{NAME}0").into());
    let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    retry(|| client.range(request.clone())).await.expect("a read").count
}

fn lock(client: &Client, lease: i64) -> JoinHandle<Result<LockResponse, Status>> {
    let client = client.clone().with_deadline(PATIENCE);
    tokio::spawn(async move { client.lock(LockRequest { name: NAME.into(), lease }).await })
}

async fn held(waiting: JoinHandle<Result<LockResponse, Status>>) -> Bytes {
    waiting.await.expect("the call runs").expect("the lock is held").key
}

/// One of many who want the lock, and what they all share.
#[derive(Clone)]
struct Locker {
    clients: Vec<Client>,
    occupied: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Locker {
    /// Takes the lock again and again, each time as somebody else.
    async fn run(self, mut rng: Rng) {
        while !self.over.load(Ordering::SeqCst) {
            let request = LeaseGrantRequest { ttl: 60, id: 0 };
            let granted = self.anywhere(&mut rng, |client| async move { client.lease_grant(request).await });
            let lease = granted.await.id;
            let client = rng.pick(&self.clients).clone().with_deadline(PATIENCE);
            if let Ok(locked) = client.lock(LockRequest { name: NAME.into(), lease }).await {
                assert!(!self.occupied.swap(true, Ordering::SeqCst), "two hold the lock");
                self.write(&locked.key, &mut rng).await;
                self.turns.fetch_add(1, Ordering::SeqCst);
                self.occupied.store(false, Ordering::SeqCst);
            }
            self.release(lease, &mut rng).await;
        }
    }

    /// Asks one member after the other until one answers.
    async fn anywhere<T, F>(&self, rng: &mut Rng, call: impl Fn(Client) -> F) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call(rng.pick(&self.clients).clone()).await {
                Ok(answer) => return answer,
                Err(status) => assert!(Instant::now() < deadline, "no member answers: {status}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn read(&self, rng: &mut Rng, key: &Bytes) -> Option<KeyValue> {
        let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let answer = self.anywhere(rng, |client| {
            let request = request.clone();
            async move { client.range(request).await }
        });
        answer.await.kvs.into_iter().next()
    }

    /// Writes the revision of the claim, in a transaction that holds only while the claim stands.
    async fn write(&self, key: &Bytes, rng: &mut Rng) {
        let claim = self.read(rng, key).await.expect("the claim stands while the lock is held");
        let token = claim.create_revision;
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the holder cannot write");
            let before = self.read(rng, &COUNTER.into()).await.unwrap_or_default();
            if before.value == token.to_string() {
                return;
            }
            let put =
                PutRequest { key: COUNTER.into(), value: token.to_string().into(), ..PutRequest::default() };
            let request = TxnRequest {
                compare: vec![
                    compare(key.clone(), CompareTarget::Create, TargetUnion::CreateRevision(token)),
                    compare(
                        COUNTER.into(),
                        CompareTarget::Mod,
                        TargetUnion::ModRevision(before.mod_revision),
                    ),
                ],
                success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
                failure: Vec::new(),
            };
            // Where the outcome is not known the next round sees it.
            if let Ok(answer) = rng.pick(&self.clients).clone().txn(request).await
                && !answer.succeeded
            {
                self.read(rng, key).await.expect("the holder lost its claim");
            }
        }
    }

    /// Ends a lease, and with it the claim, whatever became of it.
    async fn release(&self, lease: i64, rng: &mut Rng) {
        let revoke = |client: Client| async move {
            match client.lease_revoke(LeaseRevokeRequest { id: lease }).await {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => other.map(drop),
            }
        };
        self.anywhere(rng, revoke).await;
    }

    /// Waits for so many more turns.
    async fn progress(&self, turns: u64) {
        let (begun, deadline) = (self.turns.load(Ordering::SeqCst), Instant::now() + PATIENCE);
        while self.turns.load(Ordering::SeqCst) < begun + turns {
            assert!(Instant::now() < deadline, "the lock is not handed on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn compare(key: Bytes, target: CompareTarget, value: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key,
        target_union: Some(value),
        ..Compare::default()
    }
}

/// Every value the counter ever had.
async fn counted(client: &Client) -> Vec<i64> {
    let last = get(client, &COUNTER.into()).await.expect("somebody counted").mod_revision;
    let request =
        WatchCreateRequest { key: COUNTER.into(), start_revision: 1, ..WatchCreateRequest::default() };
    let mut watch = client.watch(create_watch(request)).await.expect("a watch");
    let mut values = Vec::new();
    loop {
        let response = watch.next(PATIENCE).await.expect("the history").expect("the history");
        for pair in response.events.into_iter().filter_map(|event| event.kv) {
            let text = String::from_utf8(pair.value.to_vec()).expect("a number");
            values.push(text.parse().expect("a number"));
            if pair.mod_revision == last {
                return values;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holds_the_lock_while_leaders_are_killed() {
    let scratch = Scratch::new("lock-kill");
    let mut cluster = three(&scratch).await;
    let locker = Locker {
        clients: clients(&cluster),
        occupied: Arc::default(),
        turns: Arc::default(),
        over: Arc::default(),
    };
    let lockers: Vec<_> =
        (0..16).map(|number| tokio::spawn(locker.clone().run(Rng::derive(7, number)))).collect();
    for _ in 0..3 {
        locker.progress(40).await;
        let leader = cluster.leader().await.expect("a leader");
        cluster.members[leader].kill();
        locker.progress(40).await;
        cluster.restart_member(leader).await.expect("it comes back");
    }
    locker.over.store(true, Ordering::SeqCst);
    for locker in lockers {
        locker.await.expect("a locker fails");
    }
    let client = cluster.members[0].client();
    let tokens = counted(&client).await;
    println!("{} turns", tokens.len());
    assert_eq!(tokens.len() as u64, locker.turns.load(Ordering::SeqCst), "every holder counted once");
    assert!(tokens.is_sorted_by(|a, b| a < b), "claims hold in the order they were made: {tokens:?}");
    assert_eq!(claims(&client).await, 0, "nobody left a claim");
    cluster.check_hashes().await.expect("all members hold the same state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_on_all_members_come_in_the_order_of_their_claims() {
    let scratch = Scratch::new("lock-order");
    let cluster = three(&scratch).await;
    let clients = clients(&cluster);
    let mut holder = held(lock(&clients[0], grant(&clients[0], 100).await)).await;
    let mut waiting = VecDeque::new();
    for number in 0..9 {
        let client = &clients[number % 3];
        let lease = grant(client, 100).await;
        let turn = lock(client, lease);
        until(client, &claim_key(lease), true).await;
        waiting.push_back((lease, turn));
    }
    let mut revision = 0;
    while let Some((lease, turn)) = waiting.pop_front() {
        let claim = get(&clients[0], &claim_key(lease)).await.expect("a claim");
        assert!(claim.create_revision > revision, "claims are made one after the other");
        revision = claim.create_revision;
        // Whoever holds it, any member takes it back.
        let key = holder.clone();
        clients[(lease % 3) as usize].unlock(UnlockRequest { key }).await.expect("it is given back");
        holder = held(turn).await;
        assert_eq!(holder, claim_key(lease));
        assert!(waiting.iter().all(|(_, other)| !other.is_finished()), "two hold the lock");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_dies_is_followed_though_the_leader_dies_too() {
    let scratch = Scratch::new("lock-expiry");
    let mut cluster = three(&scratch).await;
    let leader = cluster.leader().await.expect("a leader");
    let client = cluster.members[(leader + 1) % 3].client();
    held(lock(&client, grant(&client, 2).await)).await;
    let lease = grant(&client, 100).await;
    let waiting = lock(&client, lease);
    until(&client, &claim_key(lease), true).await;
    cluster.members[leader].kill();
    match waiting.await.expect("the call runs") {
        Ok(locked) => assert_eq!(locked.key, claim_key(lease)),
        // Whose wait was broken off by the change of leaders asks again.
        Err(_) => {
            let gone = |result: Result<_, Status>| match result {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => other.map(drop),
            };
            retry(|| async { gone(client.lease_revoke(LeaseRevokeRequest { id: lease }).await) })
                .await
                .expect("its lease ends");
            let lease = grant(&client, 100).await;
            assert_eq!(held(lock(&client, lease)).await, claim_key(lease));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_that_goes_leaves_no_claim() {
    let scratch = Scratch::new("lock-cancel");
    let cluster = three(&scratch).await;
    for client in clients(&cluster) {
        let holder = held(lock(&client, grant(&client, 100).await)).await;
        let (gone, stays) = (grant(&client, 100).await, grant(&client, 100).await);
        let cancelled = lock(&client, gone);
        until(&client, &claim_key(gone), true).await;
        let waiting = lock(&client, stays);
        until(&client, &claim_key(stays), true).await;
        cancelled.abort();
        until(&client, &claim_key(gone), false).await;
        assert!(!waiting.is_finished() && get(&client, &holder).await.is_some(), "the holder still holds it");
        client.unlock(UnlockRequest { key: holder }).await.expect("it is given back");
        let next = held(waiting).await;
        assert_eq!(next, claim_key(stays));
        client.unlock(UnlockRequest { key: next }).await.expect("it is given back");
    }
}

/// The claim is the lease's, not the call's: a waiter goes on elsewhere, at the same place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_whose_member_dies_keeps_its_place() {
    let scratch = Scratch::new("lock-place");
    let mut cluster = three(&scratch).await;
    let leader = cluster.leader().await.expect("a leader");
    let (dies, lives) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = cluster.members[lives].client();
    let holder = held(lock(&client, grant(&client, 100).await)).await;
    let (first, second) = (grant(&client, 100).await, grant(&client, 100).await);
    let broken = lock(&cluster.members[dies].client(), first);
    until(&client, &claim_key(first), true).await;
    let behind = lock(&client, second);
    until(&client, &claim_key(second), true).await;
    cluster.members[dies].kill();
    broken.await.expect("the call runs").expect_err("its member is gone");
    let again = lock(&client, first);
    client.unlock(UnlockRequest { key: holder }).await.expect("it is given back");
    let key = held(again).await;
    assert_eq!(key, claim_key(first));
    assert!(!behind.is_finished(), "two hold the lock");
    client.unlock(UnlockRequest { key }).await.expect("it is given back");
    assert_eq!(held(behind).await, claim_key(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_election_is_seen_alike_on_all_members() {
    let scratch = Scratch::new("election");
    let cluster = three(&scratch).await;
    let clients = clients(&cluster);
    let observers: Vec<_> = clients.iter().map(observe).collect();
    let mut told = Vec::new();
    for round in 0..6 {
        let client = &clients[round % 3];
        let (name, value) = (Bytes::from_static(b"office"), Bytes::from(format!("{round}")));
        let request = CampaignRequest { name, lease: grant(client, 100).await, value };
        let won = client.campaign(request).await.expect("the office is vacant").leader.expect("a leader");
        told.push((won.key.clone(), round.to_string()));
        until_told(&observers, &told).await;
        let changed = ProclaimRequest { leader: Some(won.clone()), value: "changed".into() };
        clients[(round + 1) % 3].proclaim(changed).await.expect("any member takes it");
        told.push((won.key.clone(), "changed".to_owned()));
        until_told(&observers, &told).await;
        let resigned = ResignRequest { leader: Some(won) };
        clients[(round + 2) % 3].resign(resigned).await.expect("any member takes it");
    }
}

type Told = Arc<parking_lot::Mutex<Vec<(Bytes, String)>>>;

/// Collects what an observer is told.
fn observe(client: &Client) -> Told {
    let (client, told) = (client.clone(), Told::default());
    let seen = told.clone();
    tokio::spawn(async move {
        let mut leaders = client.observe(LeaderRequest { name: "office".into() }).await?;
        while let Some(news) = leaders.message().await? {
            let pair = news.kv.unwrap_or_default();
            seen.lock().push((pair.key, String::from_utf8_lossy(&pair.value).into_owned()));
        }
        Ok::<_, Status>(())
    });
    told
}

async fn until_told(observers: &[Told], expected: &[(Bytes, String)]) {
    let deadline = Instant::now() + PATIENCE;
    for observer in observers {
        while observer.lock().len() < expected.len() {
            assert!(Instant::now() < deadline, "an observer is not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*observer.lock(), expected);
    }
}
