//! `skiff kine`: the etcd API on an SQL database, or passed through to an etcd
//! elsewhere, with kine's flags.

mod compaction;
mod config;
mod lifecycle;
pub(crate) mod upstream;

use std::process::ExitCode;

use self::config::Config;
use crate::cli::kine::KINE;
use crate::cli::{Request, Settings, help};
use crate::{USAGE, etcd, logging, process};

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let settings = match Settings::parse_for(&KINE, arguments, process::environment()) {
        Ok(Request::Run(settings)) => settings,
        Ok(Request::Help) => {
            print!("{}", help::kine());
            return ExitCode::SUCCESS;
        }
        Ok(Request::Version) => {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("skiff kine: {problem}\nSee skiff kine --help.");
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
            process::run(KINE.command, lifecycle::run(config))
        }
        Err(problem) => {
            eprintln!("skiff kine: {problem}\nSee skiff kine --help.");
            ExitCode::FAILURE
        }
    }
}
