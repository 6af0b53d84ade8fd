//! MariaDB: MySQL's SQL, as far as we use it.

use super::{Dialect, DialectKind, Mysql};

/// MariaDB's SQL.
pub(in crate::db) struct Mariadb;

impl Dialect for Mariadb {
    fn kind(&self) -> DialectKind {
        DialectKind::Mariadb
    }

    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn may_lag(&self) -> &'static str {
        Mysql.may_lag()
    }

    fn now_millis(&self) -> &'static str {
        Mysql.now_millis()
    }

    fn upsert(&self, table: &str, keys: &[&str], columns: &[&str]) -> String {
        Mysql.upsert(table, keys, columns)
    }

    fn blob_type(&self) -> &'static str {
        Mysql.blob_type()
    }

    fn create_kine_table(&self) -> Vec<String> {
        Mysql.create_kine_table()
    }

    fn max_name_len(&self) -> usize {
        Mysql.max_name_len()
    }

    fn can_store_name<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        Mysql.can_store_name(name)
    }

    fn size_sql(&self) -> &'static str {
        Mysql.size_sql()
    }

    fn reclaim_sql(&self, table: &str) -> Vec<String> {
        Mysql.reclaim_sql(table)
    }

    fn defragment_sql(&self, table: &str) -> Vec<String> {
        Mysql.defragment_sql(table)
    }
}
