//! `skiff datastore migrate`: from every place to every other, with real servers
//! and databases. What is compared is what clients see, before and after.

#[path = "../../store/sql/tests/support/mod.rs"]
mod databases;
mod matrix;
mod mistakes;
mod observe;
mod online;
mod places;
mod plain_kine;

use std::process::{Command, Stdio};

use skiff_test_support::tools::Finished;

const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");

/// The command, to be run.
fn migrate(from: &str, to: &str, more: &[&str]) -> Command {
    let mut command = Command::new(SKIFF);
    command.args(["datastore", "migrate", "--from", from, "--to", to, "-w", "json"]).args(more);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
fn migrated(from: &str, to: &str, more: &[&str]) -> Finished {
    migrate(from, to, more).output().expect("it runs").into()
}
