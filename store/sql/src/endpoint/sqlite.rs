//! `sqlite://path?parameters`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{EndpointError, query};

/// The file of an endpoint that names none.
const DEFAULT_PATH: &str = "./db/state.db";

/// How long a statement waits for another writer.
const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// What SQLite has on the disk before a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Nothing: a power cut may damage the file.
    Off,
    /// A power cut may lose the last commits (kine's default).
    Normal,
    /// Every commit. The default here: etcd never loses what it acknowledged,
    /// so neither may this.
    Full,
    /// Every commit, and the folder's entries too.
    Extra,
}

/// A SQLite file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteEndpoint {
    /// The database's file; its folder is created where it is missing.
    pub path: PathBuf,
    /// How long a statement waits for another process's transaction.
    pub busy_timeout: Duration,
    /// What is on the disk when a commit is acknowledged.
    pub synchronous: Synchronous,
}

impl fmt::Display for SqliteEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite://{}", self.path.display())
    }
}

/// Parses what follows `sqlite://`.
pub(super) fn parse(rest: &str) -> Result<SqliteEndpoint, EndpointError> {
    let rest = rest.strip_prefix("file:").unwrap_or(rest);
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    if path == ":memory:" {
        return Err(EndpointError::new(
            "an in-memory SQLite keeps nothing and is not supported; name a file",
        ));
    }
    if path.contains('\0') {
        return Err(EndpointError::new("the SQLite file's path has a zero byte"));
    }
    let mut endpoint = SqliteEndpoint {
        path: PathBuf::from(if path.is_empty() { DEFAULT_PATH } else { path }),
        busy_timeout: DEFAULT_BUSY_TIMEOUT,
        synchronous: Synchronous::Full,
    };
    for (name, value) in query::pairs(parameters)? {
        endpoint.apply(&name, &value)?;
    }
    Ok(endpoint)
}

impl SqliteEndpoint {
    fn apply(&mut self, name: &str, value: &str) -> Result<(), EndpointError> {
        match name {
            "_busy_timeout" | "_timeout" => {
                let millis: u32 = value.parse().map_err(|_| {
                    EndpointError::new(format!("SQLite's parameter {name} must be milliseconds"))
                })?;
                self.busy_timeout = Duration::from_millis(millis.into());
            }
            "_synchronous" | "_sync" => self.synchronous = synchronous(value)?,
            "_journal" | "_journal_mode" if value.eq_ignore_ascii_case("wal") => {}
            "_journal" | "_journal_mode" => {
                return Err(EndpointError::new(format!(
                    "SQLite's parameter {name} must be WAL: readers and the writer work side by side"
                )));
            }
            "mode" if matches!(value, "rwc" | "rw") => {}
            // What these ask for holds in any case, or has no meaning here.
            "_txlock" | "cache" | "_foreign_keys" | "_fk" | "_cache_size" | "_auto_vacuum" => {}
            _ => {
                return Err(EndpointError::new(format!(
                    "SQLite's parameter {name} is unknown or not supported"
                )));
            }
        }
        Ok(())
    }
}

fn synchronous(value: &str) -> Result<Synchronous, EndpointError> {
    match value.to_ascii_uppercase().as_str() {
        "0" | "OFF" => Ok(Synchronous::Off),
        "1" | "NORMAL" => Ok(Synchronous::Normal),
        "2" | "FULL" => Ok(Synchronous::Full),
        "3" | "EXTRA" => Ok(Synchronous::Extra),
        _ => Err(EndpointError::new("SQLite's parameter _synchronous must be OFF, NORMAL, FULL or EXTRA")),
    }
}
