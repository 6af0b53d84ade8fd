//! Two of three members are lost for good under load; the third goes on alone and grows again.

use std::time::Duration;

use skiff_test_support::cluster::retry;
use skiff_test_support::load::{Load, LoadOptions, history};
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Cluster, ClusterOptions, Program, Scratch, history as checks};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_member_goes_on_alone_with_everything_it_acknowledged() {
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    if subject.is_etcd() {
        return;
    }
    let scratch = Scratch::new("force");
    let mut cluster =
        Cluster::start(ClusterOptions::three(subject), scratch.path()).await.expect("it starts");
    let identity = cluster.members[2].client().status(StatusRequest {}).await.expect("a status").header;
    let identity = identity.map(|header| (header.cluster_id, header.member_id)).expect("a header");
    let options = LoadOptions {
        writers: 4,
        swappers: 2,
        readers: 1,
        watchers: 0,
        pause: Duration::from_millis(2),
        seed: 7,
    };
    // All through the survivor: what it acknowledged is what it must have.
    let load = Load::start(vec![cluster.members[2].address()], &options);
    load.progress(300, PATIENCE).await.expect("writes go on");
    cluster.members[0].kill();
    cluster.members[1].kill();
    cluster.members[2].kill();

    cluster.members[2].options_mut().flags.push("--force-new-cluster".to_owned());
    cluster.restart_member(2).await.expect("it goes on alone");
    let client = cluster.members[2].client();
    load.progress(100, PATIENCE).await.expect("writes go on");
    let listed = client.member_list(MemberListRequest { linearizable: true }).await.expect("a list").members;
    assert_eq!(listed.iter().map(|member| member.id).collect::<Vec<_>>(), [identity.1]);
    let header = client.status(StatusRequest {}).await.expect("a status").header.expect("a header");
    assert_eq!((header.cluster_id, header.member_id), identity, "ids stay");

    let told = load.stop(&client).await.expect("the load ends");
    let last = client.status(StatusRequest {}).await.expect("a status").header.expect("a header").revision;
    let reference = history(&client, last).await.expect("the history");
    let mut faults = told.faults;
    faults.extend(checks::check(&reference, &told.records, &told.observed));
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    // A lost member that comes back is told to go.
    cluster.start_member(0).expect("its process starts");
    let status = cluster.members[0].wait_exit(PATIENCE).await.expect("it ends");
    assert!(!status.success());
    let log = cluster.members[0].log_tail(20);
    assert!(log.contains("permanently removed from the cluster"), "{log}");

    // Two new ones join, while the flag is still there.
    cluster.members.drain(..2);
    for _ in 0..2 {
        let (index, _) = cluster.add_member(0, false).await.expect("a member is added");
        let flags = &mut cluster.members[index].options_mut().flags;
        flags.retain(|flag| flag != "--force-new-cluster");
        cluster.restart_member(index).await.expect("it joins");
    }
    cluster.members[0].kill();
    cluster.restart_member(0).await.expect("it starts again, with the flag");
    let client = cluster.members[1].client();
    let put = PutRequest { key: "after".into(), value: "v".into(), ..Default::default() };
    retry(|| client.put(put.clone())).await.expect("three members take writes");
    let listed = client.member_list(MemberListRequest { linearizable: true }).await.expect("a list").members;
    assert_eq!(listed.len(), 3, "nobody is thrown out by the flag that was left there");
    cluster.check_hashes().await.expect("all members hold the same state");
}
