//! Users, roles and permissions: pure, and equal on every member.
//!
//! * [`AuthState`]: users and roles as a part of the state machine's state, with
//!   what each user may do worked out beforehand.
//! * [`Ranges`]: a union of key ranges, and whether it covers another range.
//! * [`Permit`]: whether a caller may do what a command or a read asks for. It
//!   is checked where the command is evaluated, against the very state it
//!   changes, and before anything changes.
//! * [`SimpleTokens`]: tokens given out through the log, kept in memory.
//!
//! Not here: passwords (a hash comes in, nothing is hashed or compared), signed
//! tokens, and who a request comes from: the API layer does these.

mod change;
mod permit;
mod ranges;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

pub use change::{Changed, Row};
pub use permit::{Access, LeaseKeys, Permit};
pub use ranges::Ranges;
pub use state::{AuthState, Credentials, User};
pub use tokens::{SimpleTokens, TokenChange};

pub use crate::pb::skiff::v1::Caller;

/// The user that must exist while permissions count, and the role that permits
/// everything.
pub const ROOT: &str = "root";

/// Auth revision of a store in which nothing was ever changed, as in etcd.
pub const FIRST_REVISION: u64 = 1;
