//! The checks a request passes before it reaches the store, in etcd's order:
//! where several are violated, the order decides which error is told.

mod intervals;
mod request;
mod size;
mod urls;

pub(crate) use request::{delete_range, put, range, range_stream, txn, txn_reads_only};
pub(crate) use size::proposal;
pub(crate) use urls::peer_urls;
