//! A member that does not run: its files looked at, and made from a snapshot.
//!
//! * [`MemberFiles`]: who it is, its log, where its state lies. Read only.
//! * [`MemberState`]: the state brought up to where the member's next start
//!   will bring it, in a stand-in for the database.
//! * [`dumped`]: an entry in a form for other tools.
//! * [`restore`]: the files of a member of a new cluster, from a snapshot.
//!
//! Must never: write to the files of an existing member. The caller holds the
//! lock of the data directory.
//!
//! Not here: locks, names of directories, and which engine it is; the caller
//! brings them.

mod dump;
mod files;
mod restore;
mod state;

pub use dump::dumped;
pub use files::MemberFiles;
pub use restore::{Restored, restore};
pub use state::MemberState;
