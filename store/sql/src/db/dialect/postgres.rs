//! Postgres.

use super::{Dialect, DialectKind, kine_indexes, utf8_name};

/// PostgreSQL's SQL.
pub(in crate::db) struct Postgres;

impl Dialect for Postgres {
    fn kind(&self) -> DialectKind {
        DialectKind::Postgres
    }

    fn name(&self) -> &'static str {
        "postgres"
    }

    fn may_lag(&self) -> &'static str {
        "CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END"
    }

    fn standby_is_told(&self) -> bool {
        true
    }

    fn now_millis(&self) -> &'static str {
        "CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)"
    }

    fn blob_type(&self) -> &'static str {
        "BYTEA"
    }

    fn create_kine_table(&self) -> Vec<String> {
        let table = "CREATE TABLE IF NOT EXISTS kine (id BIGSERIAL PRIMARY KEY, name text COLLATE \"C\", \
                     created INTEGER, deleted INTEGER, create_revision BIGINT, prev_revision BIGINT, \
                     lease INTEGER, value bytea, old_value bytea)";
        let list = "CREATE INDEX IF NOT EXISTS kine_list_query_index ON kine (name, id DESC, deleted)";
        let mut statements = vec![table.to_owned()];
        statements.extend(kine_indexes());
        statements.push(list.to_owned());
        statements
    }

    /// An index entry must fit a third of a page; keys beyond are refused by
    /// the database at about 2,700 bytes.
    fn max_name_len(&self) -> usize {
        2_600
    }

    fn can_store_name<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        utf8_name(name).filter(|name| name.len() <= self.max_name_len())
    }

    fn notify_sql(&self) -> Option<&'static str> {
        Some("SELECT pg_notify(?, ?)")
    }

    fn size_sql(&self) -> &'static str {
        "SELECT pg_database_size(current_database())"
    }

    fn reclaim_sql(&self, table: &str) -> Vec<String> {
        vec![format!("VACUUM {table}")]
    }

    fn defragment_sql(&self, table: &str) -> Vec<String> {
        vec![format!("VACUUM (FULL, ANALYZE) {table}")]
    }
}
