//! Raft replication of the store.
