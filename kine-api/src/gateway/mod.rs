//! etcd's JSON gateway: every gRPC method under an HTTP path, with JSON.
//!
//! There is no handler per method. [`table`] maps paths to methods, and the
//! descriptors of etcd's packages say what their messages look like. A call
//! goes like this:
//!
//! 1. `scan` cuts the body into JSON values, as Go's decoder does and in its
//!    words where it cannot; `read` turns a value into the bytes of a message.
//! 2. `metadata` turns headers into the metadata of the call.
//! 3. `call` sends the message through this process's own gRPC router, and so
//!    through its gate: limits, metrics, rules for learners and whatever else
//!    holds for a gRPC call holds here.
//! 4. `write` turns the answers into JSON, `reply` into an HTTP response.
//!
//! `websocket` carries the same over a WebSocket, one JSON value a message.
//!
//! # Bounds
//!
//! A JSON value may be twice as long as a gRPC message (base64 makes a value a
//! third longer) and is refused before it is parsed; the message made of it is
//! bounded as any. Values nest no deeper than Go's decoder allows, messages no
//! deeper than the gRPC side reads. A stream takes its next request when the
//! service asks for it, and makes its next line when the client has room.
//!
//! # Where it differs from etcd
//!
//! A stream whose requests turn out not to be JSON ends with an error; etcd
//! stops reading, and a client waits for what never comes. The requests of a
//! stream may go on while it is answered, over HTTP/1.1 too. HTTP trailers are
//! not sent to those who ask for them. That a certificate's name is ignored is
//! told behind the rules for browsers: with their headers, and not to OPTIONS.

mod call;
mod go;
mod metadata;
mod number;
mod read;
mod reply;
mod scan;
mod service;
mod socket;
mod table;
mod text;
mod write;

pub(crate) use service::routes;
