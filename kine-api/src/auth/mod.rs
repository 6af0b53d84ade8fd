//! Who asks, and the Auth service.
//!
//! * [`Identity`]: what a request brings to identify its user: a token, or the
//!   common name in a client's certificate.
//! * [`TokenKind`], [`JwtKeys`]: the kinds of tokens. Simple ones are given out
//!   and kept by the store; signed ones carry everything themselves.
//! * [`Passwords`]: hashes and compares passwords, off the request's threads.
//! * [`AuthService`]: etcd's 17 calls.
//!
//! What a user may do is none of this module's business: the store checks it.

mod identity;
mod jwt;
mod passwords;
mod service;

pub use identity::PeerIdentity;
pub(crate) use identity::{From, Identity};
pub use jwt::{JwtKeys, JwtOptions};
pub(crate) use passwords::Passwords;
pub(crate) use service::AuthService;

use std::sync::Arc;

/// The kind of the tokens users get for their passwords.
#[derive(Debug, Clone, Default)]
pub enum TokenKind {
    /// Random ones, kept by every member.
    #[default]
    Simple,
    /// Signed ones.
    Jwt(Arc<JwtKeys>),
}
