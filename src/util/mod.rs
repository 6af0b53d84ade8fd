//! `skiff etcd util`: works on the files of a member that does not run, and on
//! snapshots. What etcd's `etcdutl` does, and a bit more.
//!
//! Whatever only looks, looks at a stand-in: the member's files stay as they
//! are. Only `defrag` writes to them, only `snapshot restore` makes new ones,
//! and only `snapshot export` makes a snapshot. All of them refuse a data directory that a process has locked.

pub(crate) mod arguments;
mod command;
mod defrag;
mod dump_keys;
mod dump_log;
pub(crate) mod export;
mod hashkv;
pub(crate) mod help;
mod json;
pub(crate) mod output;
pub(crate) mod restore;
pub(crate) mod source;
mod status;
mod verify;

use std::process::ExitCode;

use crate::USAGE;
use command::Chosen;

/// Why a tool did not do what it should.
pub(crate) enum Problem {
    /// The command line cannot be used.
    Usage(String),
    /// It failed, or found damage.
    Failed(String),
    /// Nobody reads the output any more.
    Unread,
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Problem::Failed(text)
    }
}

/// Runs the tool that the arguments name.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let outcome = match command::choose(&arguments) {
        Ok(Chosen::Help(page)) => output::print(&page),
        Ok(Chosen::Run(command, arguments)) => (command.run)(&arguments),
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(()) | Err(Problem::Unread) => ExitCode::SUCCESS,
        Err(Problem::Usage(text)) => {
            eprintln!("skiff etcd util: {text}\nSee skiff etcd util --help.");
            ExitCode::from(USAGE)
        }
        Err(Problem::Failed(text)) => {
            eprintln!("skiff etcd util: {text}");
            ExitCode::FAILURE
        }
    }
}
