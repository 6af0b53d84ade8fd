//! What is written.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_sql::db::{self, PoolOptions};
use skiff_sql::endpoint::Endpoint;
use skiff_sql::transfer::Import;
use skiff_store::mvcc::{Chronicle, Mvcc};

use super::blocking;
use super::etcd_target::{EtcdTarget, check_users};
use super::place::Place;
use super::source::{Source, unpacked};
use crate::config::Config;
use crate::util::arguments::Arguments;
use crate::util::{Problem, export, restore};

/// A target that is open.
pub(super) enum Target {
    /// A database.
    Database(Box<Import>),
    /// A running etcd.
    Etcd(Box<EtcdTarget>),
    /// The data directory of a member that is to be.
    DataDir(Box<Config>),
    /// A snapshot: the file, and what it is called until it is whole.
    Snapshot(PathBuf, PathBuf),
}

/// The state that was read back from a target, and what holds it.
pub(super) struct ReadBack {
    pub(super) chronicle: Chronicle,
    _source: Option<Source>,
}

impl Target {
    /// Opens a target for a state: an empty one, or one where it goes on.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn open(
        place: &Place,
        arguments: &Arguments,
        identity: u64,
        chronicle: &Chronicle,
    ) -> Result<Self, String> {
        let compacted = chronicle.stored().compact_revision;
        match place {
            Place::Database(endpoint) => {
                let db = db::connect(endpoint, &PoolOptions::default()).await.map_err(|e| e.to_string())?;
                let import = Import::begin(db, identity, compacted, arguments.bool("restart")).await;
                Ok(Target::Database(Box::new(import.map_err(|error| error.to_string())?)))
            }
            Place::Etcd(etcd, login) => {
                if !arguments.bool("skip-auth") {
                    check_users(chronicle)?;
                }
                EtcdTarget::begin(etcd, login, identity, compacted).await.map(Box::new).map(Target::Etcd)
            }
            Place::DataDir(_) | Place::Snapshot(_) => Self::files(place, arguments),
        }
    }

    fn files(place: &Place, arguments: &Arguments) -> Result<Self, String> {
        match place {
            Place::DataDir(path) => {
                let mut config = restore::config(arguments).map_err(words)?;
                config.data_dir.clone_from(path);
                restore::check_target(path)?;
                Ok(Target::DataDir(Box::new(config)))
            }
            Place::Snapshot(path) if path.exists() => {
                Err(format!("{} exists already: name a new file", path.display()))
            }
            Place::Snapshot(path) => {
                let part = export::beside(path).map_err(words)?;
                Ok(Target::Snapshot(path.clone(), part))
            }
            Place::Database(_) | Place::Etcd(..) => Err(format!("{place} is no file")),
        }
    }

    /// Looks whether a place could be a target, and changes nothing there.
    ///
    /// # Errors
    /// It could not; a sentence.
    pub(super) async fn look(place: &Place, arguments: &Arguments) -> Result<String, String> {
        match place {
            // To ask a database is to make it, where it is missing.
            Place::Database(Endpoint::Sqlite(file)) => Ok(match file.path.exists() {
                true => {
                    format!("{} exists; whether it is empty is seen when it is opened", file.path.display())
                }
                false => format!("{} will be made", file.path.display()),
            }),
            Place::Database(_) => Ok("whether the database is empty is seen when it is opened".to_owned()),
            Place::Etcd(etcd, login) => {
                let client = super::etcd::Etcd::connect(etcd, login).await?;
                let (revision, keys) = client.revision().await?;
                Ok(format!("the target answers, at revision {revision} with {keys} keys"))
            }
            Place::DataDir(_) | Place::Snapshot(_) => {
                Self::files(place, arguments).map(|_| "the target can be made".to_owned())
            }
        }
    }

    /// Up to which revision everything is there.
    pub(super) fn through(&self) -> i64 {
        match self {
            Target::Database(import) => import.through(),
            Target::Etcd(etcd) => etcd.revision(),
            // They are written at once in the end.
            Target::DataDir(_) | Target::Snapshot(..) => 0,
        }
    }

    /// Whether revisions are written one after the other.
    pub(super) fn is_gradual(&self) -> bool {
        matches!(self, Target::Database(..) | Target::Etcd(_))
    }

    /// Writes everything that a state has beyond what is there.
    ///
    /// # Errors
    /// A sentence; what was written stays, and another attempt goes on there.
    pub(super) async fn append(
        &mut self,
        chronicle: Arc<Chronicle>,
        report: impl Fn(i64),
    ) -> Result<(), String> {
        match self {
            Target::Database(import) => {
                import.append(chronicle, report).await.map_err(|error| error.to_string())
            }
            Target::Etcd(etcd) => etcd.append(chronicle, report).await,
            Target::DataDir(_) | Target::Snapshot(..) => Ok(()),
        }
    }

    /// Completes the target: all revisions have been appended. Only a running etcd
    /// may be left without users and roles. It is [released](Target::release)
    /// once it has been verified.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn finish(&mut self, mvcc: &Arc<Mvcc>, with_auth: bool) -> Result<(), String> {
        match self {
            Target::Database(import) => {
                import.finish(&mvcc.chronicle()).await.map_err(|error| error.to_string())
            }
            Target::Etcd(etcd) => etcd.finish(&mvcc.chronicle(), with_auth).await,
            Target::DataDir(config) => {
                let (config, mvcc) = (config.clone(), mvcc.clone());
                blocking(move || {
                    let made = restore::make(&config, None, |dir| mvcc.checkpoint(dir).map(drop));
                    made.map(drop).map_err(|unmade| match unmade {
                        restore::Unmade::Contents(error) => error.to_string(),
                        restore::Unmade::Place(problem) => problem,
                    })
                })
                .await
            }
            Target::Snapshot(path, part) => {
                let (path, part, mvcc) = (path.clone(), part.clone(), mvcc.clone());
                blocking(move || export::export(&mvcc, &part, &path, |error| error.to_string()).map(drop))
                    .await
            }
        }
    }

    /// Lets a target serve that has been verified.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn release(&mut self, chronicle: &Chronicle, with_auth: bool) -> Result<(), String> {
        match self {
            Target::Database(import) => import.release().await.map_err(|error| error.to_string()),
            Target::Etcd(etcd) => etcd.release(chronicle, with_auth).await,
            Target::DataDir(_) | Target::Snapshot(..) => Ok(()),
        }
    }

    /// Reads a completed target as anyone would.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn read_back(
        &self,
        scratch: PathBuf,
        arguments: &Arguments,
    ) -> Result<ReadBack, String> {
        let dir = scratch.join("target");
        let place = match self {
            Target::Database(import) => {
                let reader = import.read_back(dir).await.map_err(|error| error.to_string())?;
                let chronicle = reader.mvcc().chronicle();
                return Ok(ReadBack { chronicle, _source: Some(Source::Database(reader)) });
            }
            Target::Etcd(etcd) => {
                let file = scratch.join("target.snapshot");
                etcd.client().snapshot(&file, |_| {}).await?;
                let mvcc = blocking(move || unpacked(&file, &dir)).await?;
                return Ok(ReadBack { chronicle: mvcc.chronicle(), _source: None });
            }
            Target::DataDir(config) => Place::DataDir(config.data_dir.clone()),
            Target::Snapshot(path, _) => Place::Snapshot(path.clone()),
        };
        let source = Source::open(&place, &scratch, arguments).await?;
        Ok(ReadBack { chronicle: source.mvcc().chronicle(), _source: Some(source) })
    }
}

/// What a tool's problem says.
fn words(problem: Problem) -> String {
    match problem {
        Problem::Usage(text) | Problem::Failed(text) => text,
        Problem::Unread => String::new(),
    }
}
