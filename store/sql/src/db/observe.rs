//! How long statements take: kine's metrics, and a line in the log for slow
//! ones.

use std::time::Instant;

use super::{DbError, PoolOptions};
use crate::metrics::METRICS;

/// The tables that statements are named after.
const TABLES: [&str; 8] = [
    "skiff_head",
    "skiff_log",
    "skiff_state",
    "skiff_lease",
    "skiff_version",
    "skiff_row",
    "skiff_progress",
    "kine",
];
/// How much of a statement a line of the log shows.
const SHOWN: usize = 300;

/// Runs a call of a statement, and counts it.
pub(super) async fn observe<T>(
    options: &PoolOptions,
    sql: &str,
    call: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    let begun = Instant::now();
    let result = call.await;
    let took = begun.elapsed();
    let code = result.as_ref().err().map_or("", |error| error.code().unwrap_or("unknown"));
    METRICS.sql.with_label_values(&[code]).inc();
    METRICS.sql_seconds.with_label_values(&[&name(sql), code]).observe(took.as_secs_f64());
    if !options.slow_info.is_zero() && took >= options.slow_info {
        // Arguments are not shown: statements have marks for them.
        let statement: String = sql.chars().take(SHOWN).collect();
        let seconds = took.as_secs_f64();
        if !options.slow_warning.is_zero() && took >= options.slow_warning {
            tracing::warn!(statement, seconds, code, "slow SQL");
        } else {
            tracing::info!(statement, seconds, code, "slow SQL");
        }
    }
    result
}

/// A name for a kind of statement: what it does, and to which table.
fn name(sql: &str) -> String {
    // Other statements may go before it in the same text.
    let verb = if sql.ends_with("COMMIT") { "COMMIT" } else { sql };
    let verb = verb.split_whitespace().next().unwrap_or_default();
    let verb = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "START", "COMMIT", "ROLLBACK"]
        .into_iter()
        .find(|known| verb.trim_end_matches(';').eq_ignore_ascii_case(known))
        .unwrap_or("other")
        .to_lowercase();
    match TABLES.into_iter().find(|table| sql.contains(table)) {
        Some(table) => format!("{verb}_{table}"),
        None => verb,
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn statements_are_named_by_kind() {
        assert_eq!(name("SELECT MAX(id) FROM kine"), "select_kine");
        assert_eq!(name("insert INTO skiff_log (idx) VALUES (?)"), "insert_skiff_log");
        assert_eq!(name("COMMIT"), "commit");
        assert_eq!(name("SET a = 1; COMMIT"), "commit");
        assert_eq!(name("VACUUM kine"), "other_kine");
        assert_eq!(name(""), "other");
    }
}
