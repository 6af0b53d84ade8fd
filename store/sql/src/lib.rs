//! The store over an SQL database: etcd's whole semantics on Postgres, MySQL,
//! MariaDB and SQLite, in kine's table.
//!
//! # How it works
//!
//! The database is the log, and it is where everything durable lives. Each
//! server holds a *replica*: the same state machine
//! ([`Mvcc`](skiff_store::mvcc::Mvcc)) that the Raft store drives, filled from
//! the tables when it starts and thrown away when it stops. So reads, watches,
//! transactions, leases, users and hashes are etcd's to the letter, and never
//! cost the database a query of their own but the one below.
//!
//! *Writes.* One writer a server takes what waits (group commit), locks the one
//! row of `skiff_head`, brings the replica up to it, evaluates, writes the
//! outcome (rows of `kine` and of the tables beside it, and the commands
//! themselves into `skiff_log`) and commits. Only then the replica changes and
//! the clients are answered. The lock makes revisions gapless and ordered
//! whatever the number of servers: nobody can see revision N+1 before N is
//! decided.
//!
//! *Reads.* A linearizable read asks the database for the head, one query for
//! all readers that wait, and is answered by the replica once that is there.
//!
//! *Watches.* Postgres notifies; elsewhere the head is polled, the more often
//! the more happens. Other servers read the commands from `skiff_log` and
//! evaluate them; the changes of this process are published directly.
//!
//! *Leases* end by the clock of the database: whoever renews writes the new
//! deadline, whoever ends one checks the deadline in the transaction that does.
//!
//! # Tables
//!
//! `kine` stays what kine expects (see `core/rows.rs`): one row a revision, for what
//! kine can hold. What it cannot hold is beside it: see `core/schema.rs`.
//!
//! Not here: gRPC, flags, listeners.

pub mod config;
mod core;
pub mod db;
pub mod endpoint;
mod metrics;
mod store;
pub mod transfer;

pub use config::SqlConfig;
pub use store::SqlStore;
