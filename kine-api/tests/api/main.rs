//! The API through real clients: tonic's on loopback, and etcdctl.
//!
//! With `SKIFF_TEST_ENDPOINT=host:port` those tests that need no particular
//! store run against that server instead, to prove their expectations on a
//! real etcd (`--test-threads=1`; 3.6 for all of them).
#![allow(missing_docs, unreachable_pub)]

mod auth;
mod common;
mod election;
mod etcdctl;
mod fuzz;
mod gateway;
mod http;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod metadata;
mod watch;
