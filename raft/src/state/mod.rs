//! The replicated state: entries in, answers out, snapshots to and fro.
//!
//! * [`StateMachine`]: openraft's side, on the async runtime.
//! * [`Applier`]: the one thread that changes the state, so that neither a
//!   slow disk nor a large batch ever blocks the runtime.
//! * [`StateDir`]: which directory holds the state, changed crash-safely.

mod applier;
mod dir;
mod machine;
mod shared;
mod tally;

pub use applier::{Applier, Observer};
pub(crate) use dir::write_durably;
pub use dir::{EngineFactory, StateDir};
pub use machine::{Replacing, SnapshotBuilder, StateMachine};
pub use shared::Shared;
