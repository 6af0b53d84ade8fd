//! SQLite.

use super::{Dialect, DialectKind, kine_indexes, utf8_name};

/// The most pages given back at a time: about 4 MiB.
const RECLAIM_PAGES: u32 = 1_000;

/// SQLite's SQL.
pub(in crate::db) struct Sqlite;

impl Dialect for Sqlite {
    fn kind(&self) -> DialectKind {
        DialectKind::Sqlite
    }

    fn name(&self) -> &'static str {
        "sqlite"
    }

    /// A writing transaction holds the whole database anyway.
    fn for_update(&self) -> &'static str {
        ""
    }

    /// There is one file.
    fn may_lag(&self) -> &'static str {
        "0"
    }

    fn now_millis(&self) -> &'static str {
        "CAST(ROUND(unixepoch('now', 'subsec') * 1000) AS INTEGER)"
    }

    fn blob_type(&self) -> &'static str {
        "BLOB"
    }

    fn bigint(&self) -> &'static str {
        "INTEGER"
    }

    fn create_kine_table(&self) -> Vec<String> {
        let table = "CREATE TABLE IF NOT EXISTS kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, \
                     created INTEGER, deleted INTEGER, create_revision INTEGER, prev_revision INTEGER, \
                     lease INTEGER, value BLOB, old_value BLOB)";
        let mut statements = vec![table.to_owned()];
        statements.extend(kine_indexes());
        statements
    }

    /// Nothing in SQLite sets a bound below that of etcd's requests.
    fn max_name_len(&self) -> usize {
        1 << 20
    }

    fn can_store_name<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        utf8_name(name).filter(|name| name.len() <= self.max_name_len() && !is_number(name))
    }

    fn size_sql(&self) -> &'static str {
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    }

    fn reclaim_sql(&self, _table: &str) -> Vec<String> {
        vec![
            format!("PRAGMA incremental_vacuum({RECLAIM_PAGES})"),
            "PRAGMA wal_checkpoint(PASSIVE)".to_owned(),
        ]
    }

    fn defragment_sql(&self, _table: &str) -> Vec<String> {
        vec!["VACUUM".to_owned(), "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()]
    }
}

/// Whether SQLite may take `name` for a number, as it does in a table that kine
/// made before 0.14: `007` would come back as `7`.
fn is_number(name: &str) -> bool {
    let name = name.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    name.ends_with(|c: char| c.is_ascii_digit() || c == '.') && name.parse::<f64>().is_ok()
}
