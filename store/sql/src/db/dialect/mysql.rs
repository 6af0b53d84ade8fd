//! MySQL.

use super::{Dialect, DialectKind, insert};

/// The length of kine's name column.
const NAME_LEN: usize = 630;

/// MySQL's SQL.
pub(in crate::db) struct Mysql;

impl Dialect for Mysql {
    fn kind(&self) -> DialectKind {
        DialectKind::Mysql
    }

    fn name(&self) -> &'static str {
        "mysql"
    }

    /// A number on some versions, a word on others.
    fn may_lag(&self) -> &'static str {
        "CASE WHEN @@global.read_only IN ('0', 'OFF') THEN 0 ELSE 1 END"
    }

    fn now_millis(&self) -> &'static str {
        "CAST(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)"
    }

    fn upsert(&self, table: &str, keys: &[&str], columns: &[&str]) -> String {
        let mut sets: Vec<String> = columns.iter().map(|name| format!("{name} = VALUES({name})")).collect();
        if sets.is_empty() {
            sets.extend(keys.first().map(|name| format!("{name} = {name}")));
        }
        format!("{} ON DUPLICATE KEY UPDATE {}", insert(table, keys, columns), sets.join(", "))
    }

    fn blob_type(&self) -> &'static str {
        "MEDIUMBLOB"
    }

    /// One statement with its indexes, which have no IF NOT EXISTS of their
    /// own. Names compare by bytes: kine's own default would take keys that
    /// differ by case for one.
    fn create_kine_table(&self) -> Vec<String> {
        vec![
            "CREATE TABLE IF NOT EXISTS kine (id BIGINT UNSIGNED AUTO_INCREMENT, \
             name VARCHAR(630) CHARACTER SET ascii COLLATE ascii_bin, \
             created INTEGER, deleted INTEGER, create_revision BIGINT UNSIGNED, \
             prev_revision BIGINT UNSIGNED, lease INTEGER, value MEDIUMBLOB, old_value MEDIUMBLOB, \
             PRIMARY KEY (id), INDEX kine_name_index (name), INDEX kine_name_id_index (name, id), \
             INDEX kine_id_deleted_index (id, deleted), INDEX kine_prev_revision_index (prev_revision), \
             UNIQUE INDEX kine_name_prev_revision_uindex (name, prev_revision))"
                .to_owned(),
        ]
    }

    fn max_name_len(&self) -> usize {
        NAME_LEN
    }

    /// Comparison pads with spaces, so a name that ends in one would be taken
    /// for the name without it.
    fn can_store_name<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        let fits = name.len() <= NAME_LEN && name.is_ascii() && !name.contains(&0) && !name.ends_with(b" ");
        if fits { std::str::from_utf8(name).ok() } else { None }
    }

    fn size_sql(&self) -> &'static str {
        "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) \
         FROM information_schema.tables WHERE table_schema = DATABASE()"
    }

    /// InnoDB takes freed pages again; giving them to the system means to
    /// build the table anew, which is left to defragmenting.
    fn reclaim_sql(&self, _table: &str) -> Vec<String> {
        Vec::new()
    }

    fn defragment_sql(&self, table: &str) -> Vec<String> {
        vec![format!("ALTER TABLE {table} ENGINE=InnoDB")]
    }
}
