//! Serves an etcd that runs elsewhere: every request goes on to one of its
//! endpoints, every answer comes back, bytes untouched.
//!
//! * [`Endpoint`]: where, as read from `http://a:2379,b:2379` and the like.
//! * [`Options`]: TLS and bounds.
//! * [`router`]: the service, of the same shape as [`crate::router`].
//! * `link`: one HTTP/2 connection per endpoint, kept up by a task of its own.
//! * `pool`: new calls go round over the endpoints that are up.
//! * `forward`: gRPC calls; `web`: plain HTTP and WebSockets, over HTTP/1.1,
//!   which is all etcd speaks there without TLS.
//! * `replay`, `relay`: bodies on their way there and back. Frames travel one
//!   by one, and a slow reader slows down the writer at the other end.
//!
//! A call goes to a second endpoint only when the first provably never
//! processed it. Whatever else breaks is answered Unavailable: only the client
//! knows whether its request may happen twice.
//!
//! Not passed on: the client's certificate, as its key is not ours. By default
//! our own certificate's name is kept from naming a user either (see
//! [`Options::certificate_names_user`]), so users log in with passwords or
//! tokens. WebSockets over HTTP/2 are not served.

mod connect;
mod endpoint;
mod forward;
mod headers;
mod link;
mod metrics;
mod options;
mod pool;
mod relay;
mod replay;
mod router;
mod web;

pub use endpoint::Endpoint;
pub use options::{Options, TlsSource};
pub use router::router;
