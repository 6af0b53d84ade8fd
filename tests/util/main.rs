//! The offline tools on the files of real members: what they say is what the
//! member said while it ran.

mod common;
mod damage;
mod reading;
mod restore;
mod space;

use std::fs;
use std::process::Command;

use skiff_test_support::Scratch;
use skiff_test_support::tools::Finished;

use common::{SKIFF, path, util};

#[test]
fn mistakes_are_answered_with_what_was_meant() {
    let typo = util(&["snapshot", "resotre", "x"]);
    assert!(typo.code == 2 && typo.stderr.contains("did you mean \"snapshot restore\"?"), "{}", typo.stderr);
    let nowhere = util(&["status", "/nonexistent/data"]);
    assert!(nowhere.code == 1 && nowhere.stderr.contains("/nonexistent/data"), "{}", nowhere.stderr);
    let empty = Scratch::new("util-empty");
    let nothing = util(&["verify", path(empty.path())]);
    assert!(nothing.code == 1 && nothing.stderr.contains("not the data directory"), "{}", nothing.stderr);
    assert_eq!(fs::read_dir(empty.path()).expect("a directory").count(), 0);
    let link = empty.path().join("etcdutl");
    std::os::unix::fs::symlink(SKIFF, &link).expect("a link");
    let help: Finished =
        Command::new(&link).args(["snapshot", "restore", "--help"]).output().expect("it runs").into();
    assert!(help.ok().contains("--initial-advertise-peer-urls"));
    let version: Finished = Command::new(&link).arg("version").output().expect("it runs").into();
    assert!(version.ok().contains("etcd Version"));
}
