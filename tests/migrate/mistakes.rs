//! What is refused, with a sentence that helps, and with nothing changed.

use std::path::Path;

use skiff_sql::db::{self, PoolOptions};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_sql::transfer::Import;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Client, Scratch};

use crate::migrated;
use crate::observe::{look, put, write_history};
use crate::places::{Kind, Place};

fn refused(from: &str, to: &str, more: &[&str], part: &str) {
    let done = migrated(from, to, more);
    assert!(done.code != 0 && done.stderr.contains(part), "{from} to {to}: {} {}", done.code, done.stderr);
    assert!(!done.stderr.contains("panicked") && !done.stderr.contains("hunter2"), "{}", done.stderr);
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let scratch = Scratch::new("migrate-mistakes");
    let here = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::write(here("garbage"), b"garbage").expect("a file");
    refused("", "snapshot:x", &[], "--from is required");
    refused(&here("nothing"), "snapshot:x", &[], "No such file");
    refused(&here("garbage"), &here("x"), &[], "write data-dir:");
    refused(&here("garbage"), &format!("snapshot:{}", here("x")), &[], "garbage");
    refused("nats://x", "snapshot:x", &[], "nats:// is not supported");
    refused("postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=1", "snapshot:x", &[], "--from");
    refused("https://127.0.0.1:1", "snapshot:x", &[], "--from");
    refused("x", "snapshot:x", &["--onlin"], "did you mean --online?");
    refused("x", "snapshot:x", &["--switch-after", "soon"], "--switch-after");
    let missing = format!("sqlite://{}", here("missing.db"));
    refused(&missing, &format!("snapshot:{}", here("y")), &[], "does not exist");
    assert!(!Path::new(&here("missing.db")).exists() && !Path::new(&here("x")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_something_is_not_overwritten() {
    let mut origin = Place::empty(Kind::SkiffEtcd).await;
    let client = origin.client().await;
    let compacted = write_history(&client, 20).await;
    for (kind, part) in [
        (Kind::Etcd, "not empty"),
        (Kind::Sqlite, "name an empty database"),
        (Kind::DataDir, "not empty"),
        (Kind::Snapshot, "exists already"),
    ] {
        let mut target = Place::filled(kind, &origin).await;
        let before = look(&target.client().await, compacted).await;
        target.rest().await;
        refused(&origin.name, &target.name, &[], part);
        assert!(look(&target.client().await, compacted).await == before, "{kind:?} was changed");
    }
    // A dry run changes nothing anywhere.
    let target = Place::empty(Kind::Sqlite).await;
    let looked = migrated(&origin.name, &target.name, &["--dry-run"]).ok();
    let looked: serde_json::Value = serde_json::from_str(&looked).expect("JSON");
    assert!(looked["keys"].as_i64().is_some_and(|keys| keys > 20), "{looked}");
    let file = target.name.trim_start_matches("sqlite://");
    assert!(!Path::new(file).exists());
}

/// A database that is only read is not made by being asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_missing_stays_so() {
    let mut kinds = Kind::all();
    kinds.retain(|kind| matches!(kind, Kind::Sqlite | Kind::Postgres | Kind::Mariadb | Kind::Mysql));
    for kind in kinds {
        let source = Place::empty(kind).await;
        for more in [&["--dry-run"][..], &[]] {
            refused(&source.name, "snapshot:/nonexistent/x", more, "--from");
        }
        let endpoint = Endpoint::parse(&source.name, TlsFiles::default()).expect("an endpoint");
        let options = PoolOptions { create: false, ..PoolOptions::default() };
        assert!(db::connect(&endpoint, &options).await.is_err(), "{kind:?}: it was made");
    }
}

/// A server must not take the beginning of a migration for all there is, and
/// somebody else's beginning is thrown away only when asked.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_target_is_not_served() {
    let origin = Place::empty(Kind::SkiffEtcd).await;
    let mut target = Place::empty(Kind::Sqlite).await;
    let endpoint = Endpoint::parse(&target.name, TlsFiles::default()).expect("an endpoint");
    let db = db::connect(&endpoint, &PoolOptions::default()).await.expect("a database");
    Import::begin(db.clone(), 77, -1, false).await.expect("it begins");
    db.close().await;
    let mut kine = std::process::Command::new(crate::SKIFF);
    kine.args([
        "kine",
        "--listen-address=127.0.0.1:0",
        "--metrics-bind-address=0",
        "--endpoint",
        &target.name,
    ]);
    let served = kine.output().expect("it runs");
    let told = String::from_utf8_lossy(&served.stderr);
    assert!(!served.status.success() && told.contains("has not finished"), "{told}");
    refused(&target.name, "snapshot:/nonexistent/x", &[], "has not finished");
    refused(&origin.name, &target.name, &[], "--restart");
    migrated(&origin.name, &target.name, &["--restart"]).ok();
    target.client().await.put(put("a", "b", 0)).await.expect("it serves");
}

/// Passwords do not go into a running etcd; that is said before anything is
/// written, and what is left behind is left behind on request alone.
#[tokio::test(flavor = "multi_thread")]
async fn users_go_where_they_can() {
    let mut origin = Place::empty(Kind::SkiffEtcd).await;
    let client = origin.client().await;
    client.put(put("a", "b", 0)).await.expect("a put");
    let user = AuthUserAddRequest { name: "root".into(), password: "hunter2".into(), ..Default::default() };
    client.user_add(user).await.expect("a user");
    client.role_add(AuthRoleAddRequest { name: "root".into() }).await.expect("a role");
    let grant = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    client.user_grant_role(grant).await.expect("a grant");
    client.auth_enable(AuthEnableRequest {}).await.expect("auth is on");
    let login = ["--from-user", "root:hunter2"];
    let etcd = Place::empty(Kind::Etcd).await;
    refused(&origin.name, &etcd.name, &login, "--skip-auth");
    refused(&origin.name, &etcd.name, &["--skip-auth"], "--from");
    migrated(&origin.name, &etcd.name, &[login[0], login[1], "--skip-auth"]).ok();
    let mut database = Place::empty(Kind::Postgres).await;
    migrated(&origin.name, &database.name, &login).ok();
    let client: Client = database.client().await;
    client.put(put("a", "c", 0)).await.expect_err("auth is on there too");
    let request = AuthenticateRequest { name: "root".into(), password: "hunter2".into() };
    let token = client.authenticate(request).await.expect("the password is the same").token;
    client.with_token(&token).put(put("a", "c", 0)).await.expect("a put by root");
}
