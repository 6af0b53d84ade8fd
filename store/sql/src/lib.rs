//! The store over Postgres, MySQL, MariaDB and SQLite.

pub mod db;
pub mod endpoint;
