//! The etcd v3 API over a store.
