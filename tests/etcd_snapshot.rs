//! From etcd to skiff and back, by snapshots: whatever a client can ask is answered as before the move.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use skiff_test_support::pb::authpb::Permission;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::{Event, KeyValue};
use skiff_test_support::tools::{Finished, etcdctl, oracle};
use skiff_test_support::{Client, Member, MemberOptions, Program, Rng, Scratch, rpc};

const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");
/// Hashing as cheap as bcrypt allows.
const CHEAP: &str = "--bcrypt-cost=4";
const PATIENCE: Duration = Duration::from_secs(60);

fn skiff() -> Program {
    Program::Skiff(SKIFF.into())
}

/// The tool for files: ours, or etcd's own.
fn util(program: &Program, args: &[&str]) -> Finished {
    let mut command = match program {
        Program::Skiff(path) | Program::Kine { binary: path, .. } => {
            let mut command = Command::new(path);
            command.args(["etcd", "util"]);
            command
        }
        Program::Etcd(_) => Command::new(oracle().etcdutl),
    };
    command.args(args).stdin(Stdio::null()).output().expect("it runs").into()
}

fn status(program: &Program, file: &Path) -> Value {
    let answer = util(program, &["snapshot", "status", path(file), "-w", "json"]).ok();
    let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
    // Newer etcds name the version of the format, where there is one.
    answer.as_object_mut().expect("an object").remove("version");
    answer
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

async fn started(program: Program, dir: &Path) -> Member {
    let mut member = Member::new(MemberOptions::single(program, dir).flag(CHEAP));
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    member
}

/// A member made of a snapshot, and started.
async fn restored(program: Program, dir: &Path, file: &Path, more: &[&str]) -> Member {
    let options = MemberOptions::single(program.clone(), dir).flag(CHEAP);
    fs::create_dir_all(dir).expect("a directory");
    let data = dir.join("data");
    let urls = format!("http://127.0.0.1:{}", options.peer_port);
    let mut args =
        vec!["snapshot", "restore", path(file), "--data-dir", path(&data), "--name", &options.name];
    args.extend(["--initial-cluster", &options.initial_cluster, "--initial-advertise-peer-urls", &urls]);
    args.extend(more);
    util(&program, &args).ok();
    let mut member = Member::new(options);
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    member
}

/// What etcd's own client saves of a member.
async fn saved(member: &Member, file: &Path) {
    let args = ["--user=root:secret", "snapshot", "save", path(file)];
    etcdctl(&oracle().etcdctl, &member.address(), &args, None).await.expect("it ends").ok();
}

/// Random changes of every kind.
struct History<'a> {
    client: &'a Client,
    rng: Rng,
    leases: Vec<i64>,
    granted: i64,
}

impl History<'_> {
    fn key(&mut self) -> Bytes {
        let tail = *self.rng.pick(&[&b""[..], b"\0", b"\xff", b"/x"]);
        [format!("k{:02}", self.rng.below(24)).as_bytes(), tail].concat().into()
    }

    fn put(&mut self) -> PutRequest {
        // Mostly small ones, and some that need pages of their own.
        let length = *self.rng.pick(&[0, 3, 20, 300, 300, 5_000, 40_000]);
        let value = self.rng.bytes(length).into();
        let lease =
            if self.rng.chance(30) && !self.leases.is_empty() { *self.rng.pick(&self.leases) } else { 0 };
        PutRequest { key: self.key(), value, lease, ..Default::default() }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.rng.chance(20) { self.key() } else { Bytes::new() };
        DeleteRangeRequest { key, range_end, prev_kv: false }
    }

    /// Puts of different keys, and a deletion of what is none of them.
    fn txn(&mut self) -> TxnRequest {
        let mut keys: Vec<Bytes> = (0..1 + self.rng.below(5)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        let mut requests: Vec<request_op::Request> = Vec::new();
        for key in keys {
            requests.push(request_op::Request::RequestPut(PutRequest { key, ..self.put() }));
        }
        let deleted = DeleteRangeRequest { key: "gone".into(), ..Default::default() };
        requests.push(request_op::Request::RequestDeleteRange(deleted));
        if self.rng.chance(50) {
            let key = "gone".into();
            requests.pop();
            requests.push(request_op::Request::RequestPut(PutRequest { key, ..self.put() }));
        }
        let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
        TxnRequest { success, ..Default::default() }
    }

    async fn step(&mut self) {
        match self.rng.weighted(&[50, 15, 20, 6, 3]) {
            0 => drop(self.client.put(self.put()).await.expect("a put")),
            1 => drop(self.client.delete_range(self.delete()).await.expect("a deletion")),
            2 => drop(self.client.txn(self.txn()).await.expect("a transaction")),
            3 => {
                self.granted += 1;
                let request = LeaseGrantRequest { id: self.granted * 1_000_003, ttl: 4000 + self.granted };
                self.client.lease_grant(request).await.expect("a lease");
                self.leases.push(request.id);
            }
            _ if !self.leases.is_empty() => {
                let id = self.leases.remove(self.rng.below(self.leases.len() as u64) as usize);
                self.client.lease_revoke(LeaseRevokeRequest { id }).await.expect("an end of a lease");
            }
            _ => {}
        }
    }

    /// Keys enough for a tree of several levels, in few requests.
    async fn many_keys(&mut self) {
        for part in 0..12 {
            let puts = (0..100).map(|number| PutRequest {
                key: format!("many/{part:02}/{number:03}").into(),
                value: vec![b'x'; 60 + number].into(),
                ..Default::default()
            });
            let success =
                puts.map(|put| RequestOp { request: Some(request_op::Request::RequestPut(put)) }).collect();
            self.client.txn(TxnRequest { success, ..Default::default() }).await.expect("a transaction");
        }
    }

    async fn revision(&self) -> i64 {
        self.client.range(everything(0)).await.expect("a read").header.expect("a header").revision
    }

    async fn compact(&mut self, revision: i64) {
        let request = CompactionRequest { revision, physical: self.rng.chance(50) };
        self.client.compact(request).await.expect("a compaction");
    }
}

/// Fills a member; answers a client that may do everything.
async fn fill(member: &Member, seed: u64) -> Client {
    let client = member.client();
    let rng = Rng::new(seed);
    let mut history = History { client: &client, rng, leases: Vec::new(), granted: 0 };
    history.many_keys().await;
    for _ in 0..60 {
        history.step().await;
    }
    let half = history.revision().await - history.rng.between(0, 20);
    history.compact(half).await;
    for _ in 0..60 {
        history.step().await;
    }
    // A compaction right at a deletion, which a hash there still sees.
    client.put(PutRequest { key: "gone".into(), ..Default::default() }).await.expect("a put");
    let delete = DeleteRangeRequest { key: "gone".into(), ..Default::default() };
    client.delete_range(delete).await.expect("a deletion");
    let newest = history.revision().await;
    history.compact(newest).await;
    for _ in 0..40 {
        history.step().await;
    }
    client.put(PutRequest { key: "last".into(), ..Default::default() }).await.expect("a put");
    users(&client).await;
    login(&client, "root", "secret").await
}

async fn users(client: &Client) {
    for (name, password, no_password) in [("root", "secret", false), ("u", "u", false), ("cn", "", true)] {
        let options = Some(skiff_test_support::pb::authpb::UserAddOptions { no_password });
        let request = AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            options,
            ..Default::default()
        };
        client.user_add(request).await.expect("a user");
    }
    for name in ["root", "reader", "other"] {
        client.role_add(AuthRoleAddRequest { name: name.into() }).await.expect("a role");
    }
    for (perm_type, key, range_end) in [(2, "k1", "k2"), (0, "many/", "many0"), (1, "blind", "")] {
        let perm = Some(Permission { perm_type, key: key.into(), range_end: range_end.into() });
        let request = AuthRoleGrantPermissionRequest { name: "reader".into(), perm };
        client.role_grant_permission(request).await.expect("a permission");
    }
    for (user, role) in [("root", "root"), ("u", "reader"), ("u", "other"), ("cn", "other")] {
        let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        client.user_grant_role(request).await.expect("a grant");
    }
    client.auth_enable(AuthEnableRequest {}).await.expect("auth is on");
}

async fn login(client: &Client, name: &str, password: &str) -> Client {
    let request = AuthenticateRequest { name: name.into(), password: password.into() };
    client.clone().with_token(&client.authenticate(request).await.expect("a token").token)
}

fn everything(revision: i64) -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), revision, ..Default::default() }
}

/// All that can be asked of a member, but for what names its cluster.
#[derive(Debug, PartialEq)]
struct Told {
    revision: i64,
    compacted: i64,
    /// The key space at revisions that can be read, and the refusal of one that cannot.
    reads: Vec<(i64, Vec<KeyValue>, i64)>,
    refused: String,
    events: Vec<Event>,
    leases: Vec<(i64, i64, Vec<Bytes>)>,
    users: Vec<(String, Vec<String>)>,
    roles: Vec<(String, Vec<Permission>)>,
    auth: (bool, u64),
    /// What a user is told who may do little.
    limited: Vec<Result<i64, String>>,
}

async fn told(client: &Client) -> Told {
    let now = client.range(everything(0)).await.expect("a read");
    let revision = now.header.expect("a header").revision;
    let compacted = client.hash_kv(HashKvRequest { revision: 0 }).await.expect("a hash").compact_revision;
    let mut reads = Vec::new();
    for at in compacted.max(1)..=revision {
        let then = client.range(everything(at)).await.expect("a read of the past");
        reads.push((at, then.kvs, then.count));
    }
    let refused = client.range(everything(compacted - 1)).await.expect_err("it is compacted");
    let auth = client.auth_status(AuthStatusRequest {}).await.expect("a status");
    Told {
        revision,
        compacted,
        reads,
        refused: refused.message().to_owned(),
        events: events(client, compacted + 1, revision).await,
        leases: leases(client).await,
        users: user_list(client).await,
        roles: role_list(client).await,
        auth: (auth.enabled, auth.auth_revision),
        limited: limited(client).await,
    }
}

async fn events(client: &Client, from: i64, through: i64) -> Vec<Event> {
    let request = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        ..Default::default()
    };
    let mut watch = client.watch(rpc::create_watch(request)).await.expect("a watch");
    let mut events: Vec<Event> = Vec::new();
    while events.last().and_then(|event| event.kv.as_ref()).is_none_or(|kv| kv.mod_revision < through) {
        let response = watch.next(PATIENCE).await.expect("a response").expect("the watch goes on");
        assert!(!response.canceled, "{response:?}");
        events.extend(response.events);
    }
    events
}

async fn leases(client: &Client) -> Vec<(i64, i64, Vec<Bytes>)> {
    let list = client.lease_leases(LeaseLeasesRequest {}).await.expect("leases").leases;
    let mut leases = Vec::new();
    for lease in list {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let mut found = client.lease_time_to_live(request).await.expect("a lease");
        found.keys.sort();
        assert!(found.ttl > 3000 && found.ttl <= found.granted_ttl, "{found:?}");
        leases.push((lease.id, found.granted_ttl, found.keys));
    }
    leases.sort();
    leases
}

async fn user_list(client: &Client) -> Vec<(String, Vec<String>)> {
    let mut users = Vec::new();
    for name in client.user_list(AuthUserListRequest {}).await.expect("users").users {
        let user = client.user_get(AuthUserGetRequest { name: name.clone() }).await.expect("a user");
        users.push((name, user.roles));
    }
    users
}

async fn role_list(client: &Client) -> Vec<(String, Vec<Permission>)> {
    let mut roles = Vec::new();
    for name in client.role_list(AuthRoleListRequest {}).await.expect("roles").roles {
        let role = client.role_get(AuthRoleGetRequest { role: name.clone() }).await.expect("a role");
        roles.push((name, role.perm));
    }
    roles
}

async fn limited(client: &Client) -> Vec<Result<i64, String>> {
    let user = login(client, "u", "u").await;
    let wrong = AuthenticateRequest { name: "u".into(), password: "wrong".into() };
    let refused = client.authenticate(wrong).await.expect_err("a wrong password");
    let mut answers = vec![Err(refused.message().to_owned())];
    for (key, range_end) in [("k1", "k2"), ("many/01/", "many/010"), ("blind", ""), ("k", "l"), ("last", "")]
    {
        let request = RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
        let answer = user.range(request).await;
        answers.push(answer.map(|found| found.count).map_err(|error| error.message().to_owned()));
    }
    answers
}

/// etcd's hashes of every revision that has one; of two etcds they are the same.
async fn hashes(client: &Client, told: &Told) -> Vec<u32> {
    let mut hashes = Vec::new();
    for revision in told.compacted + 1..=told.revision {
        hashes.push(client.hash_kv(HashKvRequest { revision }).await.expect("a hash").hash);
    }
    hashes
}

/// The next change gets the next revision.
async fn goes_on(client: &Client, told: &Told) {
    let request = PutRequest { key: "after".into(), value: "all".into(), ..Default::default() };
    let revision = client.put(request).await.expect("a put").header.expect("a header").revision;
    assert_eq!(revision, told.revision + 1);
}

fn assert_same(found: &Told, expected: &Told, seed: u64) {
    // Part by part: the whole is too long to be read.
    assert_eq!((found.revision, found.compacted), (expected.revision, expected.compacted), "seed {seed}");
    for (found, expected) in found.reads.iter().zip(&expected.reads) {
        assert!(found == expected, "seed {seed}: at revision {}: {found:?}\n{expected:?}", expected.0);
    }
    for (found, expected) in found.events.iter().zip(&expected.events) {
        assert_eq!(found, expected, "seed {seed}");
    }
    assert_eq!(found.leases, expected.leases, "seed {seed}");
    assert_eq!((&found.users, &found.roles), (&expected.users, &expected.roles), "seed {seed}");
    assert_eq!((found.auth, &found.limited), (expected.auth, &expected.limited), "seed {seed}");
    assert!(found == expected, "seed {seed}: {}, {}", found.refused, expected.refused);
}

fn seed() -> u64 {
    let seed = Rng::seed_from_env("SKIFF_SNAPSHOT_SEED");
    println!("SKIFF_SNAPSHOT_SEED={seed}");
    seed
}

/// The file of etcd's snapshot that ours is exported to; both tools must say the same of it.
fn exported(place: &Path, file: PathBuf, expected: &Told) -> PathBuf {
    util(&skiff(), &["snapshot", "export", path(place), path(&file)]).ok();
    let found = status(&Program::oracle(), &file);
    assert_eq!(found, status(&skiff(), &file));
    assert_eq!(found["revision"], expected.revision);
    assert_eq!(found["totalSize"], fs::metadata(&file).expect("a file").len() - 32);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn from_etcd_and_back() {
    let (scratch, seed) = (Scratch::new("from-etcd"), seed());
    let dir = |name: &str| scratch.path().join(name);
    let etcd = started(Program::oracle(), &dir("etcd")).await;
    let client = fill(&etcd, seed).await;
    let before = told(&client).await;
    let hashes_before = hashes(&client, &before).await;
    saved(&etcd, &dir("of-etcd")).await;
    assert_eq!(status(&skiff(), &dir("of-etcd")), status(&Program::oracle(), &dir("of-etcd")));
    util(&skiff(), &["verify", path(&dir("of-etcd"))]).ok();

    let mut ours = restored(skiff(), &dir("ours"), &dir("of-etcd"), &[]).await;
    let client = login(&ours.client(), "root", "secret").await;
    assert_same(&told(&client).await, &before, seed);
    saved(&ours, &dir("of-ours")).await;
    goes_on(&client, &before).await;
    ours.stop().await.expect("it stops");

    let file = exported(&dir("of-ours"), dir("back"), &before);
    let again = restored(Program::oracle(), &dir("again"), &file, &[]).await;
    let client = login(&again.client(), "root", "secret").await;
    assert_same(&told(&client).await, &before, seed);
    assert_eq!(hashes(&client, &before).await, hashes_before, "seed {seed}");
    goes_on(&client, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_etcd_and_back() {
    let (scratch, seed) = (Scratch::new("to-etcd"), seed());
    let dir = |name: &str| scratch.path().join(name);
    let mut ours = started(skiff(), &dir("ours")).await;
    let before = told(&fill(&ours, seed).await).await;
    ours.stop().await.expect("it stops");

    let file = exported(&ours.data_dir(), dir("file"), &before);
    let mut etcd = restored(Program::oracle(), &dir("etcd"), &file, &[]).await;
    let client = login(&etcd.client(), "root", "secret").await;
    assert_same(&told(&client).await, &before, seed);
    // Its database as it lies there has no checksum.
    etcd.stop().await.expect("it stops");
    let database = etcd.data_dir().join("member/snap/db");
    let refused = util(&skiff(), &["snapshot", "status", path(&database)]);
    assert!(refused.code == 1 && refused.stderr.contains("--skip-hash-check"), "{}", refused.stderr);

    let again = restored(skiff(), &dir("again"), &database, &["--skip-hash-check"]).await;
    let client = login(&again.client(), "root", "secret").await;
    assert_same(&told(&client).await, &before, seed);
    goes_on(&client, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_stores_and_raised_revisions_move_too() {
    let scratch = Scratch::new("etcd-empty");
    let dir = |name: &str| scratch.path().join(name);
    let etcd = started(Program::oracle(), &dir("etcd")).await;
    let empty = dir("empty");
    let save = ["snapshot", "save", path(&empty)];
    etcdctl(&oracle().etcdctl, &etcd.address(), &save, None).await.expect("it ends").ok();
    let bump = ["--bump-revision=1000", "--mark-compacted"];
    let mut ours = restored(skiff(), &dir("ours"), &empty, &bump).await;
    let found = ours.client().range(everything(0)).await.expect("a read");
    assert_eq!((found.count, found.header.expect("a header").revision), (0, 1001));
    ours.stop().await.expect("it stops");

    util(&skiff(), &["snapshot", "export", path(&ours.data_dir()), path(&dir("file"))]).ok();
    let again = restored(Program::oracle(), &dir("again"), &dir("file"), &[]).await;
    let put = PutRequest { key: "k".into(), ..Default::default() };
    let revision = again.client().put(put).await.expect("a put").header.expect("a header").revision;
    assert_eq!(revision, 1002);
}

#[test]
fn an_export_is_whole_or_not_there() {
    let scratch = Scratch::new("etcd-half");
    let file = scratch.path().join("file");
    let source = scratch.path().join("no snapshot");
    fs::write(&source, "nothing").expect("a file");
    for args in [
        &["snapshot", "export", path(&source), path(&file)][..],
        &["snapshot", "export", "/nonexistent", "x"],
    ] {
        assert_eq!(util(&skiff(), args).code, 1, "{args:?}");
    }
    for args in [
        &["snapshot", "export", path(&source)][..],
        &["snapshot", "export", path(&source), path(scratch.path())],
    ] {
        let done = util(&skiff(), args);
        assert_ne!(done.code, 0, "{args:?}");
    }
    let left: Vec<_> = fs::read_dir(scratch.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
