//! The pass-through before real etcd processes, and before servers that
//! misbehave.
#![allow(missing_docs, unreachable_pub)]

mod calls;
mod common;
mod failover;
mod odd;
mod tls;
