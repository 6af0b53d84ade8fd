//! Users, roles, permissions and tokens from outside: the real etcdctl must be told what a real etcd
//! tells it, and no way may lead around a permission, on any member, at any time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skiff_test_support::pb::authpb::Permission;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::tools::{Finished, etcdctl, oracle};
use skiff_test_support::{
    Client, Cluster, ClusterOptions, Member, MemberOptions, Program, Scratch, certificates,
};
use tonic::{Code, Status};

/// Hashing as cheap as bcrypt allows: the tests hash a lot.
const CHEAP: &str = "--bcrypt-cost=4";

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

async fn single(program: Program, dir: &Path, flags: &[&str]) -> Member {
    let options = flags.iter().fold(MemberOptions::single(program, dir), |options, flag| options.flag(flag));
    let mut member = Member::new(options.flag(CHEAP));
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    member
}

/// The etcdctl of the oracle and, where it is installed, that of the system.
fn clients() -> Vec<PathBuf> {
    let system = PathBuf::from("/usr/bin/etcdctl");
    std::iter::once(oracle().etcdctl).chain(system.exists().then_some(system)).collect()
}

/// Commands, run in order on both servers, whose output must be the same.
const SAME_OUTPUT: &[(&str, Option<&str>)] = &[
    ("put secret s", None),
    ("put u/old o", None),
    ("auth enable", None),
    ("user add root:r", None),
    ("auth enable", None),
    ("user add root:again", None),
    ("user add :nameless", None),
    ("user add u:u", None),
    ("user add n --no-password", None),
    ("user grant-role root root", None),
    ("user grant-role u missing", None),
    ("user grant-role missing root", None),
    ("user revoke-role u missing", None),
    ("role add r", None),
    ("role add r", None),
    ("role grant-permission r readwrite u/ --prefix", None),
    ("role grant-permission r read shared", None),
    ("role grant-permission r write blind", None),
    ("role grant-permission r read b a", None),
    ("role grant-permission missing read a", None),
    ("role revoke-permission r missing", None),
    ("role get r", None),
    ("role get missing", None),
    ("role list", None),
    ("user grant-role u r", None),
    ("user get u", None),
    ("user get u --detail", None),
    ("user get missing", None),
    ("user list", None),
    ("put shared x", None),
    ("put blind b", None),
    ("--user u:u get u/old", None),
    ("auth enable", None),
    ("auth enable", None),
    ("get u/old", None),
    ("put u/a 1", None),
    ("user list", None),
    ("--user u:wrong get u/old", None),
    ("--user missing:u get u/old", None),
    ("--user n:n get u/old", None),
    ("--user u:u put u/a 1", None),
    ("--user u:u put u/a 2 --prev-kv", None),
    ("--user u:u get u/a", None),
    ("--user u:u get --prefix u/", None),
    ("--user u:u get secret", None),
    ("--user u:u get secret --consistency=s", None),
    ("--user u:u get --from-key u/", None),
    ("--user u:u get u/ u1", None),
    ("--user u:u get shared", None),
    ("--user u:u put shared y", None),
    ("--user u:u get blind", None),
    ("--user u:u put blind c", None),
    ("--user u:u put blind d --prev-kv", None),
    ("--user u:u del blind --prev-kv", None),
    ("--user u:u del --prefix secret", None),
    ("--user u:u del --from-key u/", None),
    ("--user u:u get secret --rev=99", None),
    ("--user u:u txn", Some("mod(\"u/a\") > \"0\"\n\nput u/b yes\n\nput u/b no\n\n")),
    ("--user u:u txn", Some("mod(\"secret\") > \"0\"\n\nput u/b yes\n\nput u/b no\n\n")),
    ("--user u:u txn", Some("mod(\"u/a\") > \"0\"\n\nput u/b yes\n\nget secret\n\n")),
    ("--user u:u txn", Some("mod(\"u/a\") > \"0\"\n\nput u/b yes\nput secret x\n\n\n\n")),
    ("--user u:u watch secret", None),
    ("watch u/a", None),
    ("--user u:u compaction 3", None),
    ("--user u:u lease list", None),
    ("--user u:u lease revoke 1234", None),
    ("--user u:u lease timetolive 1234", None),
    ("--user u:u lease keep-alive --once 1234", None),
    ("lease grant 60", None),
    ("lease list", None),
    ("--user u:u alarm list", None),
    ("--user u:u alarm disarm", None),
    ("alarm list", None),
    ("--user u:u user list", None),
    ("--user u:u user get u", None),
    ("--user u:u user get root", None),
    ("--user u:u user add v:v", None),
    ("--user u:u user grant-role u root", None),
    ("--user u:u role get r", None),
    ("--user u:u role get other", None),
    ("--user u:u role list", None),
    ("--user u:u role grant-permission r readwrite secret", None),
    ("--user u:u auth disable", None),
    ("auth disable", None),
    ("--user u:u user passwd u --interactive=false", Some("taken\n")),
    ("--user root:r user passwd u --interactive=false", Some("new\n")),
    ("--user u:u get u/a", None),
    ("--user u:new get u/a", None),
    ("--user root:r get secret", None),
    ("--user root:r user delete root", None),
    ("--user root:r user revoke-role root root", None),
    ("--user root:r role delete root", None),
    ("--user root:r role add root", None),
    ("--user root:r role delete root", None),
    ("--user root:r role revoke-permission r u/ --prefix", None),
    ("--user u:new get u/a", None),
    ("--user u:new get shared", None),
    ("--user root:r role delete r", None),
    ("--user u:new get shared", None),
    ("--user root:r user get u", None),
    ("--user root:r user delete u", None),
    ("--user u:new get shared", None),
    ("--user root:r compaction 3", None),
    ("--user root:r auth disable", None),
    ("auth disable", None),
    ("get secret", None),
    ("user list", None),
];

/// What a command printed, without what the client itself logs and measures.
fn plain(done: &Finished) -> String {
    let text = format!("{}\n{}\n{}", done.code, done.stdout, done.stderr);
    text.lines().filter(|line| !line.starts_with("{\"level\":")).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_the_same() {
    for program in clients() {
        let scratch = Scratch::new("auth");
        let etcd = single(Program::oracle(), &scratch.path().join("etcd"), &[]).await;
        let mine = single(subject(), &scratch.path().join("subject"), &[]).await;
        for (line, input) in SAME_OUTPUT {
            let args: Vec<&str> = line.split_whitespace().collect();
            let (left, right) = (etcd.address(), mine.address());
            let (expected, found) = tokio::join!(
                etcdctl(&program, &left, &args, *input),
                etcdctl(&program, &right, &args, *input)
            );
            let (expected, found) = (expected.expect("etcdctl runs"), found.expect("etcdctl runs"));
            let place = |text: String, address: &str| text.replace(address, "ADDRESS");
            assert_eq!(
                place(plain(&found), &right),
                place(plain(&expected), &left),
                "{} {line}",
                program.display()
            );
        }
    }
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

async fn add_user(client: &Client, name: &str) {
    let request = AuthUserAddRequest { name: name.into(), password: name.into(), ..Default::default() };
    client.user_add(request).await.expect("a user");
}

/// Adds root, and "u" that may do everything from "u/" to "u0"; turns auth on.
async fn set_up(client: &Client) {
    add_user(client, "root").await;
    add_user(client, "u").await;
    let root = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    client.user_grant_role(root).await.expect("the role root");
    client.role_add(AuthRoleAddRequest { name: "r".into() }).await.expect("a role");
    let perm = Permission { perm_type: 2, key: "u/".into(), range_end: "u0".into() };
    let grant = AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
    client.role_grant_permission(grant).await.expect("a permission");
    let role = AuthUserGrantRoleRequest { user: "u".into(), role: "r".into() };
    client.user_grant_role(role).await.expect("a role of u");
    client.auth_enable(AuthEnableRequest {}).await.expect("auth is on");
}

async fn log_in(client: &Client, name: &str) -> Client {
    let request = AuthenticateRequest { name: name.into(), password: name.into() };
    client.clone().with_token(&client.authenticate(request).await.expect("a token").token)
}

#[track_caller]
fn told<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

const BAD_TOKEN: &str = "etcdserver: invalid auth token";
const DENIED: &str = "etcdserver: permission denied";

/// A token of one member counts on another at once, and no more once its user is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_know_each_others_tokens() {
    let scratch = Scratch::new("auth-three");
    let options = ClusterOptions::three(subject()).flag(CHEAP);
    let cluster = Cluster::start(options, scratch.path()).await.expect("the cluster starts");
    let clients: Vec<Client> = cluster.members.iter().map(Member::client).collect();
    set_up(&clients[0]).await;
    for round in 0..10 {
        let (here, there) = (&clients[round % 3], &clients[(round + 1) % 3]);
        let request = AuthenticateRequest { name: "u".into(), password: "u".into() };
        let token = here.authenticate(request).await.expect("a token").token;
        let user = there.clone().with_token(&token);
        user.put(put("u/a")).await.expect("the token counts");
        let request = RangeRequest { serializable: true, ..get("u/a") };
        user.range(request).await.expect("the token counts");
        told(user.put(put("secret")).await, Code::PermissionDenied, DENIED);
    }
    let users: Vec<Client> = {
        let request = AuthenticateRequest { name: "u".into(), password: "u".into() };
        let token = clients[0].authenticate(request).await.expect("a token").token;
        clients.iter().map(|client| client.clone().with_token(&token)).collect()
    };
    // Leases are kept by the leader; a follower asks it in the user's name.
    let root = log_in(&clients[2], "root").await;
    root.lease_grant(LeaseGrantRequest { id: 7, ttl: 600 }).await.expect("a lease");
    root.put(PutRequest { lease: 7, ..put("secret") }).await.expect("a leased key");
    for user in &users {
        let keys = LeaseTimeToLiveRequest { id: 7, keys: true };
        told(user.lease_time_to_live(keys).await, Code::PermissionDenied, DENIED);
        user.lease_time_to_live(LeaseTimeToLiveRequest { keys: false, ..keys }).await.expect("its time");
        let renewal = match user.lease_keep_alive(LeaseKeepAliveRequest { id: 7 }).await {
            Ok(mut stream) => stream.next(Duration::from_secs(15)).await,
            Err(status) => Err(status),
        };
        told(renewal, Code::PermissionDenied, DENIED);
        told(user.lease_revoke(LeaseRevokeRequest { id: 7 }).await, Code::PermissionDenied, DENIED);
    }
    root.user_delete(AuthUserDeleteRequest { name: "u".into() }).await.expect("u is deleted");
    told(users[2].range(get("u/a")).await, Code::Unauthenticated, BAD_TOKEN);
    for user in &users {
        // A linearizable request on each member waits for the deletion.
        let status = user.put(put("u/a")).await.expect_err("u is gone");
        let known = [BAD_TOKEN, DENIED, "etcdserver: revision of auth store is old"];
        assert!(known.contains(&status.message()), "{status}");
    }
}

/// Users survive a crash; tokens do not, and none comes back to life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_users_and_forgets_tokens() {
    let scratch = Scratch::new("auth-restart");
    let mut member = single(subject(), scratch.path(), &[]).await;
    set_up(&member.client()).await;
    let user = log_in(&member.client(), "u").await;
    user.put(put("u/a")).await.expect("a put");
    for kill in [true, false] {
        if kill {
            member.kill();
        } else {
            member.stop().await.expect("it stops");
        }
        member.start().expect("it starts");
        member.ready().await.expect("it answers");
        let client = member.client();
        told(client.range(get("u/a")).await, Code::InvalidArgument, "etcdserver: user name is empty");
        told(user.range(get("u/a")).await, Code::Unauthenticated, BAD_TOKEN);
        let user = log_in(&client, "u").await;
        assert_eq!(user.range(get("u/a")).await.expect("a read").count, 1);
        told(user.range(get("secret")).await, Code::PermissionDenied, DENIED);
        let root = log_in(&client, "root").await;
        let status = root.auth_status(AuthStatusRequest {}).await.expect("the status");
        assert_eq!((status.enabled, status.auth_revision), (true, 7));
    }
    let log = std::fs::read_to_string(member.log_path()).expect("a log");
    for secret in ["$2b$", "$2a$"] {
        assert!(!log.contains(secret), "a hash is in the log");
    }
}

/// A full quota takes nobody's permissions away, and gives nobody any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_leaves_permissions_as_they_are() {
    let scratch = Scratch::new("auth-alarm");
    let member = single(subject(), scratch.path(), &[]).await;
    let client = member.client();
    client.put(put("secret")).await.expect("a put");
    set_up(&client).await;
    let (root, user) = (log_in(&client, "root").await, log_in(&client, "u").await);
    let raise = AlarmRequest { action: 1, member_id: 0, alarm: AlarmType::Nospace as i32 };
    told(user.alarm(raise).await, Code::PermissionDenied, DENIED);
    root.alarm(raise).await.expect("the alarm");
    let delete = DeleteRangeRequest { key: "secret".into(), ..Default::default() };
    told(user.delete_range(delete).await, Code::PermissionDenied, DENIED);
    told(user.auth_disable(AuthDisableRequest {}).await, Code::PermissionDenied, DENIED);
    told(user.put(put("secret")).await, Code::PermissionDenied, DENIED);
    told(user.put(put("u/a")).await, Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
    root.auth_disable(AuthDisableRequest {}).await.expect("auth is off");
}

/// One secret, three members: any of them takes a token that another one signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_count_on_every_member() {
    let scratch = Scratch::new("auth-jwt");
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, "not to be guessed").expect("a file");
    let flag = format!("--auth-token=jwt,sign-method=HS256,priv-key={},ttl=10m", secret.display());
    let options = ClusterOptions::three(subject()).flag(CHEAP).flag(&flag);
    let mut cluster = Cluster::start(options, scratch.path()).await.expect("the cluster starts");
    let clients: Vec<Client> = cluster.members.iter().map(Member::client).collect();
    set_up(&clients[0]).await;
    let request = AuthenticateRequest { name: "u".into(), password: "u".into() };
    let token = clients[0].authenticate(request).await.expect("a token").token;
    assert_eq!(token.matches('.').count(), 2, "it is signed");
    for client in &clients {
        let user = client.clone().with_token(&token);
        user.put(put("u/a")).await.expect("the token counts");
        told(user.put(put("secret")).await, Code::PermissionDenied, DENIED);
        told(
            client.clone().with_token(&token[..token.len() - 4]).put(put("u/a")).await,
            Code::Unauthenticated,
            BAD_TOKEN,
        );
    }
    // Such a token outlives its member.
    cluster.members[1].kill();
    cluster.restart_member(1).await.expect("it is back");
    cluster.members[1].client().with_token(&token).put(put("u/a")).await.expect("the token counts");
}

/// Keys that cannot serve are told before anything is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_told_at_the_start() {
    let scratch = Scratch::new("auth-keys");
    let nonsense = scratch.path().join("nonsense");
    std::fs::write(&nonsense, "nonsense").expect("a file");
    let missing = scratch.path().join("missing");
    let table = [
        (format!("jwt,sign-method=RS256,priv-key={}", missing.display()), "missing: No such file"),
        (format!("jwt,sign-method=RS256,priv-key={}", nonsense.display()), "priv-key is no private key"),
        ("jwt,sign-method=RS256".to_owned(), "pub-key and priv-key are missing"),
        ("jwt,sign-method=none".to_owned(), "is not offered"),
    ];
    for (at, (value, expected)) in table.into_iter().enumerate() {
        let options = MemberOptions::single(subject(), &scratch.path().join(at.to_string()));
        let mut member = Member::new(options.flag(&format!("--auth-token={value}")));
        member.start().expect("it starts");
        let status = member.wait_exit(Duration::from_secs(60)).await.expect("it ends");
        assert!(!status.success() && member.log_tail(20).contains(expected), "{}", member.log_tail(20));
        assert!(!member.data_dir().join("member").exists(), "nothing is written");
    }
}

struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The common name in a client's certificate is its user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_names_its_user() {
    let scratch = Scratch::new("auth-cert");
    let dir = scratch.path();
    certificates::write(dir, &["root", "u", "stranger"]).expect("certificates");
    let file = |name: &str| dir.join(name).display().to_string();
    let ports = [(); 2].map(|()| skiff_test_support::ports::free_port());
    let (url, peer) = (format!("https://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
    let log = std::fs::File::create(dir.join("log")).expect("a file");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_skiff"))
        .arg("etcd")
        .args([CHEAP, "--client-cert-auth"])
        .arg(format!("--data-dir={}", file("data")))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg(format!("--cert-file={}", file("server.pem")))
        .arg(format!("--key-file={}", file("server.key")))
        .arg(format!("--trusted-ca-file={}", file("ca.pem")))
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("it starts");
    let _process = Process(child);
    let program = oracle().etcdctl;
    let run = async |user: &str, line: &str| -> Finished {
        let (ca, cert, key) = (file("ca.pem"), file(&format!("{user}.pem")), file(&format!("{user}.key")));
        let mut args = vec!["--cacert", &ca, "--cert", &cert, "--key", &key];
        args.extend(line.split_whitespace());
        etcdctl(&program, &url, &args, None).await.expect("etcdctl runs")
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while run("root", "get ready").await.code != 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            std::fs::read_to_string(dir.join("log")).unwrap()
        );
    }
    for line in [
        "put secret s",
        "user add root --no-password",
        "user grant-role root root",
        "user add u --no-password",
        "user add other:other",
        "role add r",
        "role grant-permission r readwrite u/ --prefix",
        "user grant-role u r",
        "auth enable",
    ] {
        run("root", line).await.ok();
    }
    run("u", "put u/a 1").await.ok();
    let denied = run("u", "get secret").await;
    assert!(denied.code != 0 && denied.stderr.contains(DENIED), "{}", denied.stderr);
    let stranger = run("stranger", "get u/a").await;
    assert!(stranger.code != 0 && stranger.stderr.contains(DENIED), "{}", stranger.stderr);
    assert_eq!(run("root", "get secret --print-value-only").await.ok(), "s\n");
    // Who logs in is who he logs in as.
    let other = run("root", "--user other:other get secret").await;
    assert!(other.code != 0 && other.stderr.contains(DENIED), "{}", other.stderr);
}
