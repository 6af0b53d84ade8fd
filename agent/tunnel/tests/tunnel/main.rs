//! Tunnels over connections in memory, and one over real sockets.

mod bulk;
mod forwarding;
mod hostile;
mod keepalive;
mod streams;
mod support;
mod upgrade;
