//! Three members from three command lines, as in etcd's own clustering guide; changes of membership.

use std::time::{Duration, Instant};

use skiff_test_support::cluster::retry;
use skiff_test_support::load::{Load, LoadOptions, history};
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Client, Cluster, ClusterOptions, Member, Program, Scratch, history as checks};
use tonic::{Code, Status};

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

async fn three(scratch: &Scratch) -> Cluster {
    Cluster::start(ClusterOptions::three(subject()), scratch.path()).await.expect("the cluster starts")
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

fn expect_error<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let error = result.expect_err("the call is refused");
    assert_eq!((error.code(), error.message()), (code, text));
}

async fn members(client: &Client) -> Vec<skiff_test_support::pb::etcdserverpb::Member> {
    let request = MemberListRequest { linearizable: true };
    retry(|| client.member_list(request)).await.expect("the members are listed").members
}

async fn id_of(member: &Member) -> u64 {
    let status = member.client().status(StatusRequest {}).await.expect("a member tells its status");
    status.header.expect("a header").member_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_takes_any_request() {
    let scratch = Scratch::new("cluster");
    let cluster = three(&scratch).await;
    let clients: Vec<Client> = cluster.members.iter().map(Member::client).collect();
    let mut revision = 0;
    for (index, client) in clients.iter().enumerate() {
        let key = format!("k{index}");
        let answer = client.put(put(&key, "v")).await.expect("every member takes writes");
        let header = answer.header.expect("a header");
        assert!(header.revision > revision && header.raft_term > 0 && header.cluster_id != 0);
        revision = header.revision;
        for other in &clients {
            let answer = other.range(get(&key)).await.expect("every member reads");
            assert_eq!(answer.count, 1, "a linearizable read shows what was acknowledged");
            assert!(answer.header.expect("a header").revision >= revision);
        }
    }
    let lease = clients[0].lease_grant(LeaseGrantRequest { ttl: 100, id: 77 }).await.expect("a lease");
    for client in &clients {
        let request = LeaseKeepAliveRequest { id: lease.id };
        let mut stream = client.lease_keep_alive(request).await.expect("every member renews leases");
        let renewed = stream.next(Duration::from_secs(5)).await.expect("an answer").expect("an answer");
        assert_eq!((renewed.id, renewed.ttl), (77, 100));
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: false };
        let left = client.lease_time_to_live(request).await.expect("every member knows the time left");
        assert_eq!(left.granted_ttl, 100);
    }
    let listed = members(&clients[1]).await;
    let mut names: Vec<&str> = listed.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["m1", "m2", "m3"]);
    for member in &cluster.members {
        let entry = listed.iter().find(|entry| entry.name == member.name()).expect("it is listed");
        assert_eq!(entry.peer_ur_ls, [member.peer_url()]);
        assert_eq!(entry.client_ur_ls, [format!("http://{}", member.address())]);
        assert_eq!(entry.id, id_of(member).await);
    }
    let mut leaders = Vec::new();
    for client in &clients {
        leaders.push(client.status(StatusRequest {}).await.expect("a status").leader);
    }
    assert!(leaders[0] != 0 && leaders.iter().all(|leader| *leader == leaders[0]), "{leaders:?}");
    cluster.check_hashes().await.expect("all members hold the same state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_member_leads_when_the_leader_is_killed() {
    let scratch = Scratch::new("failover");
    let mut cluster = three(&scratch).await;
    let leader = cluster.leader().await.expect("a leader");
    let other = cluster.members[(leader + 1) % 3].client();
    other.put(put("before", "1")).await.expect("a write");
    cluster.members[leader].kill();
    let killed = Instant::now();
    retry(|| other.put(put("after", "1"))).await.expect("the others go on");
    println!("writes again {:?} after the leader was killed", killed.elapsed());
    assert_ne!(cluster.leader().await.expect("a new leader"), leader);
    cluster.restart_member(leader).await.expect("the old leader comes back");
    let returned = cluster.members[leader].client();
    for key in ["before", "after"] {
        assert_eq!(returned.range(get(key)).await.expect("a read").count, 1);
    }
    cluster.check_hashes().await.expect("all members hold the same state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request() {
    let scratch = Scratch::new("move-leader");
    let cluster = three(&scratch).await;
    let leader = cluster.leader().await.expect("a leader");
    let target = (leader + 1) % 3;
    let request = MoveLeaderRequest { target_id: id_of(&cluster.members[target]).await };
    let follower = cluster.members[target].client();
    expect_error(follower.move_leader(request).await, Code::FailedPrecondition, "etcdserver: not leader");
    let client = cluster.members[leader].client();
    expect_error(
        client.move_leader(MoveLeaderRequest { target_id: 4242 }).await,
        Code::FailedPrecondition,
        "etcdserver: bad leader transferee",
    );
    client.move_leader(request).await.expect("the leader hands over");
    assert_eq!(cluster.leader().await.expect("a leader"), target);
    follower.put(put("k", "v")).await.expect("the new leader takes writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_added_promoted_and_removed() {
    let scratch = Scratch::new("learner");
    let mut cluster = three(&scratch).await;
    let client = cluster.members[0].client();
    client.put(put("k", "v")).await.expect("a write");
    let (index, id) = cluster.add_member(0, true).await.expect("a learner is added");
    let listed = members(&client).await;
    let learner = listed.iter().find(|member| member.id == id).expect("it is listed");
    assert!(learner.is_learner && learner.name.is_empty() && learner.client_ur_ls.is_empty());
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    expect_error(
        client.member_add(MemberAddRequest { peer_ur_ls: urls, is_learner: true }).await,
        Code::FailedPrecondition,
        "etcdserver: too many learner members in cluster",
    );
    let leader = cluster.leader().await.expect("a leader");
    expect_error(
        cluster.members[leader].client().member_promote(MemberPromoteRequest { id }).await,
        Code::FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader",
    );
    cluster.start_member(index).expect("the learner is started");
    let fresh = cluster.members[index].client();
    let serializable = RangeRequest { serializable: true, ..get("k") };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fresh.range(serializable.clone()).await.is_ok_and(|answer| answer.count == 1) {
        assert!(Instant::now() < deadline, "the learner does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = "etcdserver: rpc not supported for learner";
    // The code changed after etcd 3.5.
    let code = if subject().is_etcd() { Code::Unavailable } else { Code::FailedPrecondition };
    expect_error(fresh.range(get("k")).await, code, refused);
    expect_error(fresh.put(put("k", "w")).await, code, refused);
    assert!(fresh.status(StatusRequest {}).await.expect("a learner tells its status").is_learner);
    retry(|| client.member_promote(MemberPromoteRequest { id })).await.expect("it is promoted");
    expect_error(
        client.member_promote(MemberPromoteRequest { id }).await,
        Code::FailedPrecondition,
        "etcdserver: can only promote a learner member",
    );
    cluster.members[index].ready().await.expect("a voter reads");
    fresh.put(put("k", "w")).await.expect("a voter takes writes");
    assert!(members(&client).await.iter().all(|member| !member.is_learner));
    cluster.check_hashes().await.expect("all members hold the same state");
    client.member_remove(MemberRemoveRequest { id }).await.expect("it is removed");
    assert_eq!(members(&client).await.len(), 3);
    cluster.members[index].wait_exit(Duration::from_secs(60)).await.expect("a removed member ends");
    client.put(put("k", "x")).await.expect("the rest goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn membership_changes_are_checked() {
    let scratch = Scratch::new("membership");
    let cluster = three(&scratch).await;
    let client = cluster.members[0].client();
    expect_error(
        client.member_remove(MemberRemoveRequest { id: 4242 }).await,
        Code::NotFound,
        "etcdserver: member not found",
    );
    expect_error(
        client.member_promote(MemberPromoteRequest { id: 4242 }).await,
        Code::NotFound,
        "etcdserver: member not found",
    );
    let taken = MemberAddRequest { peer_ur_ls: vec![cluster.members[1].peer_url()], is_learner: false };
    // etcd takes no new member before its peers have been connected for a while.
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        match client.member_add(taken.clone()).await {
            Err(error) if error.code() == Code::Unavailable && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            refused => break refused,
        }
    };
    expect_error(refused, Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
    let wrong = MemberAddRequest { peer_ur_ls: vec!["no url".to_owned()], is_learner: false };
    expect_error(
        client.member_add(wrong).await,
        Code::InvalidArgument,
        "etcdserver: given member URLs are invalid",
    );
    let voter = id_of(&cluster.members[1]).await;
    expect_error(
        client.member_promote(MemberPromoteRequest { id: voter }).await,
        Code::FailedPrecondition,
        "etcdserver: can only promote a learner member",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_is_replaced_by_a_new_one() {
    let scratch = Scratch::new("replace");
    let mut cluster = three(&scratch).await;
    let client = cluster.members[0].client();
    for index in 0..200 {
        client.put(put(&format!("k{index}"), "v")).await.expect("a write");
    }
    let dead = id_of(&cluster.members[2]).await;
    cluster.members[2].kill();
    std::fs::remove_dir_all(cluster.members[2].data_dir()).expect("its data is gone");
    retry(|| client.member_remove(MemberRemoveRequest { id: dead })).await.expect("it is removed");
    cluster.members.remove(2);
    let (index, id) = cluster.add_member(0, false).await.expect("a new one is added");
    assert_ne!(id, dead);
    cluster.restart_member(index).await.expect("the new one starts");
    let request = RangeRequest { range_end: "l".into(), count_only: true, ..get("k") };
    assert_eq!(cluster.members[index].client().range(request).await.expect("a read").count, 200);
    // The new one counts: another one may fail now.
    cluster.members[1].kill();
    retry(|| client.put(put("after", "v"))).await.expect("two of three are enough");
    cluster.check_hashes().await.expect("all members hold the same state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_acknowledged_write() {
    let scratch = Scratch::new("rolling");
    let mut cluster = three(&scratch).await;
    let options = LoadOptions {
        writers: 4,
        swappers: 2,
        readers: 1,
        watchers: 3,
        pause: Duration::from_millis(5),
        seed: 1,
    };
    let addresses = cluster.members.iter().map(Member::address).collect();
    let load = Load::start(addresses, &options);
    for index in [0, 1, 2] {
        load.progress(200, Duration::from_secs(60)).await.expect("writes go on");
        let status = cluster.members[index].stop().await.expect("SIGTERM ends it");
        assert!(status.success() || subject().is_etcd(), "SIGTERM ends it in good order: {status}");
        load.progress(100, Duration::from_secs(60)).await.expect("two of three are enough");
        cluster.restart_member(index).await.expect("it comes back as the same member");
    }
    println!("{} acknowledged, {} unknown", load.acknowledged(), load.unknown());
    let client = cluster.members[0].client();
    let told = load.stop(&client).await.expect("the watchers see everything");
    cluster.check_hashes().await.expect("all members hold the same state");
    let last = told.watched[0].last().expect("a change").revision;
    let reference = history(&client, last).await.expect("the history");
    let mut faults = told.faults;
    faults.extend(checks::check(&reference, &told.records, &told.observed));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(told.watched.iter().all(|watched| *watched == reference), "a watcher missed something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downgrades_are_checked_as_etcd_checks_them() {
    use downgrade_request::DowngradeAction::{Cancel, Enable, Validate};
    let scratch = Scratch::new("downgrade");
    let mut member = Member::single(subject(), scratch.path()).await.expect("it starts");
    let ask = async |member: &Member, action: downgrade_request::DowngradeAction, version: &str| {
        let request = DowngradeRequest { action: action as i32, version: version.to_owned() };
        member.client().downgrade(request).await.map(|answer| answer.version)
    };
    let status = member.client().status(StatusRequest {}).await.expect("a status");
    let mut numbers = status.version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let (major, minor) = (numbers.next().expect("a number"), numbers.next().expect("a number"));
    let (own, lower) = (format!("{major}.{minor}.0"), format!("{major}.{}.0", minor - 1));
    // The version is decided a moment after the first answer.
    let patience = Instant::now() + Duration::from_secs(30);
    while !ask(&member, Validate, &lower).await.is_ok_and(|version| version == own) {
        assert!(Instant::now() < patience, "{:?}", ask(&member, Validate, &lower).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Without its patch number, or with another one.
    for text in [format!("{major}.{}", minor - 1), format!("{major}.{}.7", minor - 1)] {
        assert_eq!(ask(&member, Validate, &text).await.expect("allowed"), own, "{text}");
    }
    let wrong_format = "etcdserver: wrong downgrade target version format";
    for text in ["", "v3.4.0", "three", "3", "3.4.0.0"] {
        for action in [Validate, Enable] {
            expect_error(ask(&member, action, text).await, Code::InvalidArgument, wrong_format);
        }
    }
    let wrong_target = "etcdserver: invalid downgrade target version";
    for text in [own.clone(), format!("{major}.{}.0", minor + 1), format!("{major}.{}.0", minor - 2)] {
        for action in [Validate, Enable] {
            expect_error(ask(&member, action, &text).await, Code::InvalidArgument, wrong_target);
        }
    }
    let none = "etcdserver: no inflight downgrade job";
    expect_error(ask(&member, Cancel, "").await, Code::FailedPrecondition, none);
    if subject().is_etcd() {
        // Its 3.5 enables it, too, but never answers.
        return;
    }
    assert_eq!(ask(&member, Enable, &lower).await.expect("it is enabled"), own);
    let busy = "etcdserver: cluster has a downgrade job in progress";
    for action in [Validate, Enable] {
        expect_error(ask(&member, action, &lower).await, Code::FailedPrecondition, busy);
    }
    // It is replicated: a restart does not end it.
    member.kill();
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    expect_error(ask(&member, Enable, &lower).await, Code::FailedPrecondition, busy);
    assert_eq!(ask(&member, Cancel, "").await.expect("it is cancelled"), own);
    expect_error(ask(&member, Cancel, "").await, Code::FailedPrecondition, none);
}
