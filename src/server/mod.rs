//! `skiff server`: certificates, tokens, the store and the supervisor of one
//! server of a cluster.
//!
//! Not here yet: the Kubernetes API server and what belongs to it, a node agent.

pub(crate) mod address;
pub(crate) mod config;
mod datastore;
mod etcdctl;
mod joining;
mod lifecycle;
mod member;
mod upkeep;

use std::process::ExitCode;

use self::config::Config;
use crate::cli::server::SERVER;
use crate::cli::{Request, Settings, help};
use crate::{USAGE, etcd, logging, process};

/// Runs the command with these arguments.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let settings = match Settings::parse_layers(&SERVER, arguments, process::environment()) {
        Ok(Request::Run(settings)) => settings,
        Ok(Request::Help) => {
            print!("{}", help::server());
            return ExitCode::SUCCESS;
        }
        Ok(Request::Version) => {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("skiff server: {problem}\nSee skiff server --help.");
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
            process::run(SERVER.command, lifecycle::run(config))
        }
        Err(problem) => {
            eprintln!("skiff server: {problem}\nSee skiff server --help.");
            ExitCode::FAILURE
        }
    }
}
