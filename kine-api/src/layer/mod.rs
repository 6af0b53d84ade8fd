//! What holds for every gRPC call, before and around its handler.
//!
//! [`Gate`] wraps each service: it refuses what metadata or the member's role
//! forbid, bounds request messages, counts, measures, warns about slow calls,
//! and cuts streams when the member stops or has lost its leader, and calls that
//! wait for others when it stops or the client's time is over.

mod body;
mod call;
mod cut;
mod frames;
mod gate;
pub(crate) mod method;
mod patience;

pub(crate) use cut::Cutter;
pub(crate) use gate::Gate;
pub(crate) use method::{is_grpc, unknown};
pub(crate) use patience::{TIMEOUT, read_timeout};
