//! The command line: a table of flags, and what is made from it.
//!
//! The parser is our own: etcd's flags are Go's (`-name` as well as `--name`,
//! booleans that never take the next argument), each flag is at once an
//! environment variable and a file key, and etcd ignores the one when it has
//! the other. One table and a page of code say that more clearly than a
//! general parser bent to it.

pub(crate) mod agent;
pub(crate) mod file;
pub(crate) mod flag;
pub(crate) mod help;
pub(crate) mod kine;
mod layers;
mod nearest;
pub(crate) mod server;
mod settings;
pub(crate) mod table;
pub(crate) mod upkeep;
pub(crate) mod value;

pub(crate) use nearest::nearest;
pub(crate) use settings::{Request, Settings};
