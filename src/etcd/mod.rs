//! `skiff etcd`: parses, builds, runs, drains.

mod lifecycle;
mod member;

use std::process::ExitCode;

pub(crate) use lifecycle::Running;
pub(crate) use member::node_config;

use crate::cli::{Request, Settings, help};
use crate::config::Config;
use crate::{USAGE, logging, process, util};

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
    let settings = match Settings::parse(arguments, process::environment()) {
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
        Ok(config) => {
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            process::run("skiff etcd", lifecycle::run(config))
        }
        Err(problem) => {
            eprintln!("skiff etcd: {problem}\nSee skiff etcd --help.");
            ExitCode::FAILURE
        }
    }
}
