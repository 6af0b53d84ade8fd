//! What an agent and a server must agree on before they can talk: the token that lets
//! an agent join, the hash of the authorities it pins, and the names of routes and
//! headers. Used by both sides; opens no socket, reads no file.
//!
//! Not here: whether a token is right or expired. Only a server knows that.

mod bundle;
mod credentials;
mod hash;
mod token;
pub mod wire;

pub use bundle::{BundleError, CaBundle};
pub use credentials::{Bootstrap, Credentials, Password};
pub use hash::CaHash;
pub use token::{Token, TokenError};
