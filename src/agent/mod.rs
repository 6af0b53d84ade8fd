//! `skiff agent`: joins a cluster, and keeps the node connected to every server.
//!
//! Not here yet: a kubelet and what belongs to it.

mod config;
mod lifecycle;

use std::process::ExitCode;

use self::config::Config;
use crate::cli::agent::AGENT;
use crate::cli::{Request, Settings, help};
use crate::{USAGE, etcd, logging, process};

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let settings = match Settings::parse_layers(&AGENT, arguments, process::environment()) {
        Ok(Request::Run(settings)) => settings,
        Ok(Request::Help) => {
            print!("{}", help::agent());
            return ExitCode::SUCCESS;
        }
        Ok(Request::Version) => {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("skiff agent: {problem}\nSee skiff agent --help.");
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
            process::run(AGENT.command, lifecycle::run(config))
        }
        Err(problem) => {
            eprintln!("skiff agent: {problem}\nSee skiff agent --help.");
            ExitCode::FAILURE
        }
    }
}
