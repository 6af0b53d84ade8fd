//! How the databases' SQL differs: data and small texts, nothing that runs.

mod mariadb;
mod mysql;
mod postgres;
mod sqlite;

pub(super) use mariadb::Mariadb;
pub(super) use mysql::Mysql;
pub(super) use postgres::Postgres;
pub(super) use sqlite::Sqlite;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
    /// SQLite.
    Sqlite,
}

/// The SQL of one database. Statements take `?` for arguments.
pub trait Dialect: Send + Sync {
    /// Which it is.
    fn kind(&self) -> DialectKind;

    /// Its name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// The end of a SELECT that locks the rows it reads, with its space.
    fn for_update(&self) -> &'static str {
        " FOR UPDATE"
    }

    /// An expression: 1 where the server that answers takes no writes, so that
    /// it may be a replica that is behind, else 0.
    fn may_lag(&self) -> &'static str;

    /// Whether `may_lag` tells a standby for certain from a server that only
    /// refuses writes for now.
    fn standby_is_told(&self) -> bool {
        false
    }

    /// An expression: the database's clock, in milliseconds since 1970, an
    /// integer.
    fn now_millis(&self) -> &'static str;

    /// A statement that inserts a row of `table`, or sets `columns` of the one
    /// that has the same `keys` (its primary key). Arguments: the keys, then
    /// the columns.
    fn upsert(&self, table: &str, keys: &[&str], columns: &[&str]) -> String {
        let sets: Vec<String> = columns.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let action = match sets.as_slice() {
            [] => "DO NOTHING".to_owned(),
            sets => format!("DO UPDATE SET {}", sets.join(", ")),
        };
        format!("{} ON CONFLICT ({}) {action}", insert(table, keys, columns), keys.join(", "))
    }

    /// The type of a column of binary data of up to 16 MiB.
    fn blob_type(&self) -> &'static str;

    /// The type of a column of 64-bit integers.
    fn bigint(&self) -> &'static str {
        "BIGINT"
    }

    /// Statements that make kine's table and indexes (v0.16) where they are
    /// missing.
    fn create_kine_table(&self) -> Vec<String>;

    /// The most bytes of a name in kine's table.
    fn max_name_len(&self) -> usize;

    /// `name` as text, where kine's table keeps it exactly.
    fn can_store_name<'a>(&self, name: &'a [u8]) -> Option<&'a str>;

    /// A statement that notifies a channel (the first argument) with a payload
    /// (the second) when the transaction commits; `None` where there is none.
    fn notify_sql(&self) -> Option<&'static str> {
        None
    }

    /// A query with one integer: the bytes that the database occupies.
    fn size_sql(&self) -> &'static str;

    /// Statements that give a little unused space of `table` back, cheap
    /// enough to follow every compaction; not in a transaction.
    fn reclaim_sql(&self, table: &str) -> Vec<String>;

    /// Statements that give all unused space of `table` back, at whatever
    /// cost; not in a transaction.
    fn defragment_sql(&self, table: &str) -> Vec<String>;
}

/// `INSERT INTO table (names) VALUES (?, ...)`.
fn insert(table: &str, keys: &[&str], columns: &[&str]) -> String {
    let names: Vec<&str> = keys.iter().chain(columns).copied().collect();
    let marks = vec!["?"; names.len()].join(", ");
    format!("INSERT INTO {table} ({}) VALUES ({marks})", names.join(", "))
}

/// `name` where it is UTF-8 without a zero byte, which text columns cannot hold.
fn utf8_name(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok().filter(|name| !name.contains('\0'))
}

/// The indexes that kine has on every database.
fn kine_indexes() -> Vec<String> {
    [
        "CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name)",
        "CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name, id)",
        "CREATE INDEX IF NOT EXISTS kine_id_deleted_index ON kine (id, deleted)",
        "CREATE INDEX IF NOT EXISTS kine_prev_revision_index ON kine (prev_revision)",
        "CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision)",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upserts_name_their_columns() {
        let (keys, columns) = (["a", "b"], ["c"]);
        assert_eq!(
            Postgres.upsert("t", &keys, &columns),
            "INSERT INTO t (a, b, c) VALUES (?, ?, ?) ON CONFLICT (a, b) DO UPDATE SET c = excluded.c"
        );
        assert_eq!(
            Sqlite.upsert("t", &["a"], &[]),
            "INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO NOTHING"
        );
        assert_eq!(
            Mysql.upsert("t", &keys, &columns),
            "INSERT INTO t (a, b, c) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE c = VALUES(c)"
        );
        assert_eq!(
            Mariadb.upsert("t", &["a"], &[]),
            "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = a"
        );
    }

    #[test]
    fn names_that_a_text_column_would_change_are_not_stored_there() {
        let long = vec![b'x'; 631];
        let cases: [(&[u8], bool, bool); 9] = [
            (b"/registry/pods/a", true, true),
            (b"", true, true),
            ("\u{e9}".as_bytes(), true, false),
            (b"\xff", false, false),
            (b"a\0b", false, false),
            (b"trailing ", true, false),
            (b" leading", true, true),
            (&long, true, false),
            (&long[..630], true, true),
        ];
        for (name, utf8, ascii) in cases {
            assert_eq!(Postgres.can_store_name(name).is_some(), utf8, "{name:?}");
            assert_eq!(Sqlite.can_store_name(name).is_some(), utf8, "{name:?}");
            assert_eq!(Mysql.can_store_name(name).is_some(), ascii, "{name:?}");
            assert_eq!(Mariadb.can_store_name(name).is_some(), ascii, "{name:?}");
        }
    }

    #[test]
    fn names_that_old_tables_of_sqlite_would_take_for_numbers_are_not_stored_there() {
        for name in ["12", "007", " 7", "7 ", "-1", "+.5", "5.", "1e5", "1E-5"] {
            assert!(Sqlite.can_store_name(name.as_bytes()).is_none(), "{name}");
        }
        for name in ["/1", "1a", "0x10", "inf", "nan", ".", "1 2", "e5", "-"] {
            assert!(Sqlite.can_store_name(name.as_bytes()).is_some(), "{name}");
        }
    }
}
