//! Rewriting a database.

use std::path::Path;

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Member, MemberOptions, Program, Rng, Scratch};

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn space_is_given_back() {
    let scratch = Scratch::new("util-defrag");
    // Compacts so slowly that the member stops with almost all of it still to do.
    let options = MemberOptions::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m"))
        .flag("--compaction-batch-limit=1")
        .flag("--compaction-sleep-interval=1h");
    let mut member = Member::new(options);
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    let client = member.client();
    let mut rng = Rng::new(1);
    for number in 0..400 {
        let value: String = (0..8000).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
        put(&client, &format!("k{}", number % 4), &value, 0).await;
    }
    member.stop().await.expect("it stops");
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    member
        .client()
        .compact(CompactionRequest { revision: 401, physical: false })
        .await
        .expect("a compaction");
    let before = hash(&member.client(), 0).await;
    member.stop().await.expect("it stops");
    let data = member.data_dir();
    let size =
        |data: &Path| json(&["status", path(data), "-w", "json"])["totalSize"].as_u64().expect("a size");
    let fat = size(&data);
    let done = util(&["defrag", "--data-dir", path(&data)]);
    assert!(done.stderr.contains("rewriting tables: "), "{}", done.stderr);
    assert!(done.ok().contains("Finished defragmenting"));
    let slim = size(&data);
    assert!(slim < fat / 4, "{fat} bytes before, {slim} now");
    util(&["verify", path(&data)]).ok();
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    assert_eq!(hash(&member.client(), before.hash_revision).await.hash, before.hash);
    assert_eq!(util(&["defrag", "--data-dir", path(&scratch.path().join("nothing"))]).code, 1);
    assert!(!scratch.path().join("nothing").exists());
}
