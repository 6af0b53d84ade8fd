//! Faults that were found by reading: each test fails without its mend.

mod clock;
mod compaction;
mod crowd;
mod doubt;
mod foreign;
mod hooks;
mod leases;
mod loaders;
mod sessions;
mod takeover;
mod tasks;
mod texts;

use std::time::Duration;

use skiff_sql::db::{Database, Value};
use skiff_store::conformance::support::DEADLINE;

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// The number that a query answers.
async fn number(db: &dyn Database, sql: &str) -> i64 {
    let mut session = db.session().await.expect("a session");
    let rows = session.query(sql, &[]).await.expect("a number");
    rows[0].opt_int(0).expect("a number").unwrap_or_default()
}

/// Runs a statement.
async fn run(db: &dyn Database, sql: &str) {
    let mut session = db.session().await.expect("a session");
    let no_arguments: &[Value] = &[];
    session.execute(sql, no_arguments).await.expect("a statement");
}
