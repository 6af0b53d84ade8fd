//! The agent's parts against small servers of the tests' own, over real sockets.

mod balancer;
mod cluster;
mod join;
mod support;
mod tunnels;
