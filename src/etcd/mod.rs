//! `skiff etcd`: parses, builds, runs, drains.

mod lifecycle;
mod member;

use std::process::ExitCode;

pub(crate) use member::node_config;

use crate::cli::{Request, Settings, help};
use crate::config::Config;
use crate::{USAGE, logging, process_metrics, util};

/// Threads for requests, replication and their timers. The log's writer, the
/// applier and RocksDB have their own. More than the cores only costs switches.
const MIN_WORKERS: usize = 2;

/// What `--version` prints: the etcd release whose API is served first, since
/// scripts look for it there.
pub(crate) fn version() -> String {
    format!(
        "etcd Version: {}\nSkiff Version: {}\nOS/Arch: {}/{}\n",
        skiff_kine_api::ETCD_VERSION,
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut arguments = arguments.peekable();
    if arguments.next_if(|word| word == "util").is_some() {
        return util::main(arguments);
    }
    // Variables that are no text cannot be settings of ours.
    let environment =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let settings = match Settings::parse(arguments, environment) {
        Ok(Request::Run(settings)) => settings,
        Ok(Request::Help) => {
            print!("{}", help::etcd());
            return ExitCode::SUCCESS;
        }
        Ok(Request::Version) => {
            print!("{}", version());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("skiff etcd: {problem}\nSee skiff etcd --help.");
            return ExitCode::from(USAGE);
        }
    };
    let started = Config::from_settings(&settings).and_then(|config| {
        logging::start(&config.log)?;
        Ok(config)
    });
    match started {
        Ok(config) => run(config),
        Err(problem) => {
            eprintln!("skiff etcd: {problem}\nSee skiff etcd --help.");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> ExitCode {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = process_metrics::export() {
        tracing::warn!(%error, "cannot export process metrics");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(lifecycle::run(config));
    // Whatever still runs has had its time.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // To the log for machines, and plainly for who sits before it.
            tracing::error!(problem, "ended");
            eprintln!("skiff etcd: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The threads of the process: the one place that decides on them.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(MIN_WORKERS, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(MIN_WORKERS))
        .thread_name("skiff")
        .enable_all()
        .build()
}
