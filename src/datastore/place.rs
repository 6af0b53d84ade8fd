//! Where a store is, or is to be.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use skiff_sql::endpoint::{Endpoint, EtcdEndpoint, TlsFiles};

/// A place from which or to which a store can be moved.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// A database: of `skiff kine`, or of kine.
    Database(Endpoint),
    /// A running etcd, `skiff etcd` or `skiff kine`, and who to be there.
    Etcd(EtcdEndpoint, Login),
    /// The data directory of a `skiff etcd` that does not run.
    DataDir(PathBuf),
    /// A snapshot of etcd, or of ours.
    Snapshot(PathBuf),
}

/// A user of an etcd; none where the name is empty.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)
    }
}

/// Words before a path that say what it is.
const DATA_DIR: &str = "data-dir:";
const SNAPSHOT: &str = "snapshot:";

impl Place {
    /// Reads a place that is there.
    ///
    /// # Errors
    /// A sentence for the user, without a password.
    pub(super) fn source(text: &str, tls: TlsFiles, login: Login) -> Result<Self, String> {
        if let Some(place) = Self::named(text, tls, login)? {
            return Ok(place);
        }
        let path = PathBuf::from(text);
        match path.metadata() {
            Ok(found) if found.is_dir() => Ok(Place::DataDir(path)),
            Ok(_) => Ok(Place::Snapshot(path)),
            Err(error) => Err(format!("{text}: {error}")),
        }
    }

    /// Reads a place that is to be.
    ///
    /// # Errors
    /// As [`Place::source`].
    pub(super) fn target(text: &str, tls: TlsFiles, login: Login) -> Result<Self, String> {
        Self::named(text, tls, login)?.ok_or_else(|| {
            format!(
                "{text:?} could be a data directory or a snapshot: write {DATA_DIR}{text} or {SNAPSHOT}{text}; \
                 a database or a server has a scheme, such as postgres:// or http://"
            )
        })
    }

    /// What says itself what it is.
    fn named(text: &str, tls: TlsFiles, login: Login) -> Result<Option<Self>, String> {
        for (word, place) in [(DATA_DIR, Place::DataDir as fn(PathBuf) -> Place), (SNAPSHOT, Place::Snapshot)]
        {
            match text.strip_prefix(word) {
                Some("") => return Err(format!("a path is missing behind {word}")),
                Some(path) => return Ok(Some(place(PathBuf::from(path)))),
                None => {}
            }
        }
        if text.is_empty() {
            return Err("it names no place".to_owned());
        }
        if !text.contains("://") {
            return Ok(None);
        }
        match Endpoint::parse(text, tls).map_err(|problem| problem.to_string())? {
            Endpoint::Etcd(etcd) => {
                crate::kine::upstream::check(&etcd)?;
                Ok(Some(Place::Etcd(etcd, login)))
            }
            endpoint => Ok(Some(Place::Database(endpoint))),
        }
    }

    /// Tells this place from others, and `what` it holds from what it held.
    pub(super) fn identity(&self, what: u64) -> u64 {
        let kind = match self {
            Place::Database(_) => "database",
            Place::Etcd(..) => "etcd",
            Place::DataDir(_) | Place::Snapshot(_) => "file",
        };
        let mut hash = Sha256::new();
        hash.update(kind);
        // A cluster is the same by whichever of its members it is reached.
        match what {
            0 => hash.update(self.to_string()),
            what => hash.update(what.to_be_bytes()),
        }
        let hash: [u8; 32] = hash.finalize().into();
        // Positive, as it becomes the id of a lease; never 0.
        hash.first_chunk::<8>().map_or(1, |first| (u64::from_be_bytes(*first) >> 1).max(1))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Database(endpoint) => endpoint.fmt(f),
            Place::Etcd(etcd, _) => f.write_str(&etcd.addresses.join(",")),
            Place::DataDir(path) => write!(f, "{DATA_DIR}{}", path.display()),
            Place::Snapshot(path) => write!(f, "{SNAPSHOT}{}", path.display()),
        }
    }
}
