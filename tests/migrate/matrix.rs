//! Every place to every other.

use skiff_test_support::pb::etcdserverpb::CompactionRequest;

use crate::migrated;
use crate::observe::{look, put, write_history};
use crate::places::{Kind, Place};

/// From each to each, and what clients then see is the same: pairs with their
/// revisions, versions and leases, every event, the leases, and what is
/// compacted. Then writes go on with the next revision.
#[tokio::test(flavor = "multi_thread")]
async fn every_place_to_every_place() {
    let keys = std::env::var("SKIFF_MIGRATE_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut origin = Place::empty(Kind::Etcd).await;
    let client = origin.client().await;
    let compacted = write_history(&client, keys).await;
    let expected = look(&client, compacted).await;
    let kinds = Kind::all();
    for from in &kinds {
        // Each source has been a target before: this is "and back again".
        let source = Place::filled(*from, &origin).await;
        for to in &kinds {
            let mut target = Place::filled(*to, &source).await;
            let client = target.client().await;
            let seen = look(&client, compacted).await;
            assert!(seen == expected, "{from:?} to {to:?}: {seen:#?} instead of {expected:#?}");
            let request = CompactionRequest { revision: compacted, physical: false };
            let again = client.compact(request).await.expect_err("it is compacted there already");
            assert!(again.message().contains("has been compacted"), "{from:?} to {to:?}: {again}");
            let written = client.put(put("next", "1", 7)).await.expect("a put");
            let revision = written.header.expect("a header").revision;
            assert_eq!(revision, expected.revision + 1, "{from:?} to {to:?}");
            target.rest().await;
        }
    }
}

/// A target that was interrupted anywhere is completed by the same command.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_migration_goes_on() {
    let mut origin = Place::empty(Kind::SkiffEtcd).await;
    let client = origin.client().await;
    let compacted = write_history(&client, 400).await;
    let expected = look(&client, compacted).await;
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::Mariadb, Kind::Etcd] {
        let mut target = Place::empty(kind).await;
        let mut kills = 0;
        let mut patience = std::time::Duration::from_millis(40);
        loop {
            let mut child = crate::migrate(&origin.name, &target.name, &[])
                .stderr(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("it starts");
            let ended = tokio::task::spawn_blocking(move || {
                let begun = std::time::Instant::now();
                while begun.elapsed() < patience {
                    if child.try_wait().expect("look at it").is_some() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                // Too late for one that has ended.
                let _ = child.kill();
                child.wait_with_output().expect("it ended")
            });
            let output = ended.await.expect("it ended");
            if output.status.success() {
                break;
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            // The last one was killed when all was done, and before it could say so.
            if stderr.contains(&format!("holds a store at revision {} already", expected.revision)) {
                break;
            }
            assert!(output.status.code().is_none(), "{kind:?}: {stderr}");
            kills += 1;
            // Each lives a little longer, so that one reaches the end.
            patience += std::time::Duration::from_millis(60);
        }
        assert!(kills > 0, "{kind:?}: none was killed");
        println!("{kind:?}: complete after {kills} kills");
        let seen = look(&target.client().await, compacted).await;
        assert!(seen == expected, "{kind:?}: {seen:#?} instead of {expected:#?}");
        target.rest().await;
    }
    // What is complete is no place to begin.
    let target = Place::filled(Kind::Sqlite, &origin).await;
    let again = migrated(&origin.name, &target.name, &[]);
    assert!(again.code == 1 && again.stderr.contains("name an empty database"), "{}", again.stderr);
}
