//! The `skiff` binary.
//!
//! `skiff etcd` runs a member of an etcd-compatible store. Called by the name
//! `etcd` it is that command. `skiff etcd util` works on the files of a member
//! that does not run; called by the name `etcdutl` it is that command. `skiff
//! kine` serves the same API on an SQL database; called by the name `kine` it is
//! that command. `skiff datastore migrate` moves what either holds.

mod cli;
mod compactor;
mod config;
mod datastore;
mod etcd;
mod kine;
mod logging;
mod otlp;
mod process;
mod process_metrics;
mod profiling;
mod serve;
mod tls;
mod util;

use std::path::Path;
use std::process::ExitCode;

/// Profiles of the heap need an allocator that keeps them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for a command line that cannot be used, as with Go's flags.
const USAGE: u8 = 2;

const COMMANDS: [&str; 5] = ["datastore", "etcd", "kine", "help", "version"];

fn main() -> ExitCode {
    // Arguments that are no text cannot be any flag of ours.
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    match Path::new(&program).file_name().and_then(|name| name.to_str()) {
        Some("etcd") => return etcd::main(arguments),
        Some("etcdutl") => return util::main(arguments),
        Some("kine") => return kine::main(arguments),
        _ => {}
    }
    match arguments.next().as_deref() {
        Some("etcd") => etcd::main(arguments),
        Some("kine") => kine::main(arguments),
        Some("datastore") => datastore::main(arguments),
        Some("version" | "--version" | "-version") => {
            print!("{}", etcd::version());
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-help" | "-h") => {
            print!("{}", cli::help::SKIFF);
            ExitCode::SUCCESS
        }
        Some(other) => {
            let meant = cli::nearest(other, COMMANDS.into_iter());
            let hint = meant.map(|name| format!("; did you mean `skiff {name}`?")).unwrap_or_default();
            eprintln!("skiff: unknown command {other:?}{hint}\nSee skiff --help.");
            ExitCode::from(USAGE)
        }
        None => {
            eprint!("{}", cli::help::SKIFF);
            ExitCode::from(USAGE)
        }
    }
}
