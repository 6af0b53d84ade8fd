//! Differential test of locks and elections: the same random steps on a real etcd and on this project's
//! server; every answer is compared field by field, error codes and texts included, and so is all that
//! observers are told.
//!
//! Both servers start fresh, so that even revisions agree. A call that must wait is left waiting; after each
//! step those whose turn has come are awaited. `SKIFF_DIFF_SEED` picks another seed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::KeyValue;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;
use skiff_test_support::{Client, Member, Program, Rng, Scratch};
use tokio::task::JoinHandle;
use tonic::Status;

const PATIENCE: Duration = Duration::from_secs(30);
const SEQUENCES: u64 = 40;
const STEPS: usize = 60;
const LEASES: i64 = 5;
/// A lease that nobody has granted.
const NO_LEASE: i64 = 99;

const NAMES: &[&[u8]] = &[b"n", b"n/m", b"\xff\xfe"];

/// What is asked of both servers.
#[derive(Debug, Clone)]
enum Step {
    Grant(i64),
    Revoke(i64),
    Lock(LockRequest),
    Unlock(UnlockRequest),
    Campaign(CampaignRequest),
    Proclaim(ProclaimRequest),
    Leader(LeaderRequest),
    Resign(ResignRequest),
    Observe(Bytes),
    /// The client of a waiting call goes; which of them.
    Cancel(usize),
}

/// A call that waits on both servers.
struct Waiting {
    name: Bytes,
    lease: i64,
    /// Its claim's revision.
    revision: i64,
    calls: [JoinHandle<String>; 2],
}

/// An observation on both servers.
struct Observed {
    name: Bytes,
    told: [Arc<Mutex<Vec<LeaderResponse>>>; 2],
    tasks: [JoinHandle<Result<(), Status>>; 2],
}

/// The real etcd and the server examined.
struct Pair {
    clients: [Client; 2],
    waiting: Vec<Waiting>,
    observed: Vec<Observed>,
    steps: u64,
    /// Answers of the real etcd that were errors, by text.
    errors: std::collections::BTreeMap<String, u64>,
}

trait Headed: std::fmt::Debug {
    fn header(&mut self) -> &mut Option<ResponseHeader>;
}

macro_rules! headed {
    ($($name:ident)*) => {
        $(impl Headed for $name {
            fn header(&mut self) -> &mut Option<ResponseHeader> {
                &mut self.header
            }
        })*
    };
}

headed!(LockResponse UnlockResponse CampaignResponse ProclaimResponse LeaderResponse ResignResponse);
headed!(LeaseGrantResponse LeaseRevokeResponse);

/// Leaves of a header the revision, and of the rest whether it is there.
fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

/// An answer in a form in which two servers can be compared.
fn told<T: Headed>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(mut answer) => {
            plain(answer.header());
            format!("{answer:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

async fn ask(client: Client, step: Step) -> String {
    let client = client.with_deadline(PATIENCE);
    match step {
        Step::Grant(id) => told(client.lease_grant(LeaseGrantRequest { id, ttl: 10_000 }).await),
        Step::Revoke(id) => told(client.lease_revoke(LeaseRevokeRequest { id }).await),
        Step::Lock(request) => told(client.lock(request).await),
        Step::Unlock(request) => told(client.unlock(request).await),
        Step::Campaign(request) => told(client.campaign(request).await),
        Step::Proclaim(request) => told(client.proclaim(request).await),
        Step::Leader(request) => told(client.leader(request).await),
        Step::Resign(request) => told(client.resign(request).await),
        Step::Observe(_) | Step::Cancel(_) => String::new(),
    }
}

impl Pair {
    /// All claims of a name, oldest first.
    async fn claims(&self, side: usize, name: &Bytes) -> Vec<KeyValue> {
        let request = RangeRequest {
            key: [&name[..], b"/"].concat().into(),
            range_end: [&name[..], b"0"].concat().into(),
            sort_target: range_request::SortTarget::Create.into(),
            ..RangeRequest::default()
        };
        self.clients[side].range(request).await.expect("a read").kvs
    }

    async fn run(&mut self, step: Step) {
        match &step {
            Step::Observe(name) => self.observe(name.clone()),
            Step::Cancel(which) => self.cancel(*which).await,
            Step::Lock(LockRequest { name, lease }) | Step::Campaign(CampaignRequest { name, lease, .. }) => {
                self.stand(name.clone(), *lease, step.clone()).await;
            }
            _ => self.both(step.clone()).await,
        }
        self.steps += 1;
        self.turns(&step).await;
        self.told(&step).await;
    }

    async fn both(&mut self, step: Step) {
        let calls = self.clients.clone().map(|client| tokio::spawn(ask(client, step.clone())));
        self.compare(calls, &format!("{step:?}")).await;
    }

    async fn compare(&mut self, calls: [JoinHandle<String>; 2], what: &str) {
        let [expected, found] = calls;
        let expected = expected.await.expect("the call runs");
        assert_eq!(found.await.expect("the call runs"), expected, "{what}");
        if !expected.contains("Response {") {
            *self.errors.entry(expected).or_default() += 1;
        }
    }

    /// Enters a queue; the answer is awaited once the turn has come.
    async fn stand(&mut self, name: Bytes, lease: i64, step: Step) {
        let own = [&name[..], format!("/{lease:x}").as_bytes()].concat();
        let before = self.claims(0, &name).await;
        let place = before.iter().position(|claim| claim.key == own).unwrap_or(before.len());
        if place == 0 || !(1..=LEASES).contains(&lease) {
            return self.both(step).await;
        }
        if self.waiting.iter().any(|call| call.name == name && call.lease == lease) {
            return;
        }
        let calls = self.clients.clone().map(|client| tokio::spawn(ask(client, step.clone())));
        let deadline = Instant::now() + PATIENCE;
        // It stands with its value, or it was refused.
        let value = if let Step::Campaign(request) = &step { Some(request.value.clone()) } else { None };
        for side in [0, 1] {
            loop {
                let claims = self.claims(side, &name).await;
                let claim = claims.iter().find(|claim| claim.key == own);
                if claim.is_some_and(|claim| value.as_ref().is_none_or(|value| claim.value == value))
                    || calls[side].is_finished()
                {
                    break;
                }
                assert!(Instant::now() < deadline, "{step:?} does not enter on side {side}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let claims = self.claims(0, &name).await;
        match claims.iter().find(|claim| claim.key == own) {
            Some(claim) => {
                let revision = claim.create_revision;
                self.waiting.push(Waiting { name, lease, revision, calls });
            }
            None => self.compare(calls, &format!("{step:?}")).await,
        }
    }

    /// Awaits those whose turn has come.
    async fn turns(&mut self, step: &Step) {
        for call in std::mem::take(&mut self.waiting) {
            let claims = self.claims(0, &call.name).await;
            if claims.iter().any(|claim| claim.create_revision < call.revision) {
                self.waiting.push(call);
            } else {
                let what = format!("the turn of {} for {:?} after {step:?}", call.lease, call.name);
                self.compare(call.calls, &what).await;
            }
        }
        let early = self.waiting.iter().find(|call| call.calls.iter().any(JoinHandle::is_finished));
        assert!(early.is_none(), "lease {:?} did not wait", early.map(|call| call.lease));
    }

    async fn cancel(&mut self, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let call = self.waiting.remove(which % self.waiting.len());
        call.calls.iter().for_each(JoinHandle::abort);
        let deadline = Instant::now() + PATIENCE;
        for side in [0, 1] {
            while self
                .claims(side, &call.name)
                .await
                .iter()
                .any(|claim| claim.create_revision == call.revision)
            {
                assert!(Instant::now() < deadline, "side {side} keeps the claim of a client that has gone");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    fn observe(&mut self, name: Bytes) {
        let told: [Arc<Mutex<Vec<LeaderResponse>>>; 2] = Default::default();
        let start = |side: usize| {
            let (client, name, told) = (self.clients[side].clone(), name.clone(), told[side].clone());
            tokio::spawn(async move {
                let mut leaders = client.observe(LeaderRequest { name }).await?;
                while let Some(mut news) = leaders.message().await? {
                    plain(&mut news.header);
                    told.lock().push(news);
                }
                Ok(())
            })
        };
        let tasks = [start(0), start(1)];
        self.observed.push(Observed { name, told, tasks });
    }

    /// Waits until every observer knows the present leader.
    async fn told(&self, step: &Step) {
        for observed in &self.observed {
            let Some(leader) = self.claims(0, &observed.name).await.into_iter().next() else { continue };
            let deadline = Instant::now() + PATIENCE;
            for (side, told) in observed.told.iter().enumerate() {
                while told.lock().last().and_then(|news| news.kv.as_ref()) != Some(&leader) {
                    assert!(
                        Instant::now() < deadline,
                        "an observer on side {side} is not told of {leader:?} after {step:?} but of {:?}",
                        told.lock().last()
                    );
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }

    /// Ends everything, so that the next sequence starts from nothing.
    async fn finish(&mut self) {
        for lease in 1..=LEASES {
            self.run(Step::Revoke(lease)).await;
        }
        assert!(self.waiting.is_empty(), "everybody's turn comes");
        for observed in std::mem::take(&mut self.observed) {
            observed.tasks.iter().for_each(JoinHandle::abort);
            let [expected, found] = observed.told;
            assert_eq!(*found.lock(), *expected.lock(), "what observers are told of {:?}", observed.name);
        }
    }
}

/// Makes random steps.
struct Generator {
    rng: Rng,
}

impl Generator {
    fn name(&mut self) -> Bytes {
        Bytes::from_static(self.rng.pick::<&[u8]>(NAMES))
    }

    fn lease(&mut self) -> i64 {
        if self.rng.chance(4) {
            *self.rng.pick(&[NO_LEASE, -1, i64::MIN])
        } else {
            self.rng.between(1, LEASES)
        }
    }

    fn value(&mut self) -> Bytes {
        if self.rng.chance(1) { vec![b'v'; 3 << 19].into() } else { format!("v{}", self.rng.below(3)).into() }
    }

    /// Somebody's leadership, true or not.
    async fn leader(&mut self, pair: &Pair) -> Option<LeaderKey> {
        let name = self.name();
        let claims = pair.claims(0, &name).await;
        if self.rng.chance(5) {
            return None;
        }
        if claims.is_empty() || self.rng.chance(5) {
            return Some(LeaderKey { name, lease: self.lease(), ..LeaderKey::default() });
        }
        let claim = self.rng.pick(&claims[..claims.len().min(2)]).clone();
        let rev = claim.create_revision + if self.rng.chance(10) { self.rng.between(-1, 1) } else { 0 };
        let lease = if self.rng.chance(10) { self.lease() } else { claim.lease };
        Some(LeaderKey { name, key: claim.key, rev, lease })
    }

    async fn step(&mut self, pair: &Pair) -> Step {
        match self.rng.weighted(&[12, 6, 20, 14, 20, 14, 8, 12, 3, 6]) {
            0 => Step::Grant(self.rng.between(1, LEASES)),
            1 => Step::Revoke(self.rng.between(1, LEASES)),
            2 => Step::Lock(LockRequest { name: self.name(), lease: self.lease() }),
            3 => {
                let claims = pair.claims(0, &self.name()).await;
                let key = claims.first().map_or_else(Bytes::new, |claim| claim.key.clone());
                Step::Unlock(UnlockRequest { key })
            }
            4 => {
                let (name, lease, value) = (self.name(), self.lease(), self.value());
                Step::Campaign(CampaignRequest { name, lease, value })
            }
            5 => {
                let leader = self.leader(pair).await;
                Step::Proclaim(ProclaimRequest { leader, value: self.value() })
            }
            6 => Step::Leader(LeaderRequest { name: self.name() }),
            7 => Step::Resign(ResignRequest { leader: self.leader(pair).await }),
            8 => Step::Observe(self.name()),
            _ => Step::Cancel(self.rng.below(100) as usize),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_equal_etcds() {
    let seed = if std::env::var_os("SKIFF_DIFF_SEED").is_some() {
        Rng::seed_from_env("SKIFF_DIFF_SEED")
    } else {
        20_261_125
    };
    println!("SKIFF_DIFF_SEED={seed}");
    let scratch = Scratch::new("lock-answers");
    let etcd = Member::single(Program::oracle(), &scratch.path().join("etcd")).await.expect("etcd starts");
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    let subject = Member::single(subject, &scratch.path().join("subject")).await.expect("it starts");
    let clients = [etcd.client(), subject.client()];
    let mut pair =
        Pair { clients, waiting: Vec::new(), observed: Vec::new(), steps: 0, errors: Default::default() };
    for number in 0..SEQUENCES {
        let mut generator = Generator { rng: Rng::derive(seed, number) };
        for lease in 1..=LEASES {
            pair.run(Step::Grant(lease)).await;
        }
        for _ in 0..STEPS {
            let step = generator.step(&pair).await;
            pair.run(step).await;
        }
        pair.finish().await;
    }
    println!("{} steps; errors: {:#?}", pair.steps, pair.errors);
    // What must have come up for the test to be worth something.
    for text in [
        "Unknown: etcdserver: requested lease not found",
        "Unknown: etcdserver: key is not provided",
        "Unknown: etcdserver: request is too large",
        "Unknown: election: not leader",
        "Unknown: election: no leader",
        "Unknown: mutex: session is expired",
        "Unknown: \"leader\" field must be provided",
    ] {
        assert!(pair.errors.contains_key(text), "no step was answered {text:?}");
    }
}

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
