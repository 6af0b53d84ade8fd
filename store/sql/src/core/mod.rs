//! What the store's tasks share.

pub(crate) mod adopt;
pub(crate) mod batch;
mod compaction;
mod contact;
mod db_clock;
mod doubt;
mod drawn;
mod failure;
pub(crate) mod foreign;
mod head;
mod hold;
mod housekeeping;
mod jobs;
mod leases;
mod load;
pub(crate) mod log;
pub(crate) mod names;
mod open;
mod reads;
pub(crate) mod repair;
mod replica;
pub(crate) mod rows;
pub(crate) mod schema;
mod statements;
mod supervise;
mod sync;
pub(crate) mod tail;
mod takeover;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use skiff_store::auth::SimpleTokens;
use skiff_store::clock::Clock;
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{ApiError, Error, NodeError, Result};
use tokio::sync::{MutexGuard, watch};

pub(crate) use self::contact::Contact;
pub(crate) use self::db_clock::DbClock;
pub(crate) use self::head::read_head;
pub(crate) use self::jobs::{Job, Work};
pub(crate) use self::leases::{KeepAlives, TimeLeft};
pub(crate) use self::load::{load, read_only};
pub(crate) use self::open::{give_space_back, open, scratch_dir, spawn};
pub(crate) use self::reads::Reads;
pub(crate) use self::replica::{Engines, Replica};
pub(crate) use self::takeover::cluster_id;

use self::failure::Failure;
use crate::config::SqlConfig;
use crate::db::{Database, DbError, DbErrorKind};

/// How long a transaction that holds the head waits for the replica.
const REPLICA_PATIENCE: Duration = Duration::from_millis(100);

/// The term of a store that has no elections.
pub(crate) const TERM: u64 = 1;

/// What requests and tasks share.
pub(crate) struct Core {
    pub(crate) config: SqlConfig,
    pub(crate) db: Arc<dyn Database>,
    pub(crate) mvcc: Arc<Mvcc>,
    pub(crate) tokens: SimpleTokens,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster_id: u64,
    pub(crate) member: pb::Member,
    /// The right to apply entries to the replica.
    pub(crate) replica: tokio::sync::Mutex<Replica>,
    /// Who wrote the last applied entry.
    pub(crate) tail: tail::Tail,
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) jobs: tokio::sync::mpsc::Sender<Job>,
    pub(crate) reads: Reads,
    pub(crate) keep_alives: KeepAlives,
    pub(crate) contact: Contact,
    pub(crate) db_clock: DbClock,
    pub(crate) db_size: AtomicI64,
    /// Everything up to this revision has been compacted in the database.
    pub(crate) compacted: watch::Sender<i64>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Core {
    /// Waits for an event, or for the store to stop: `None`.
    pub(crate) async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            done = work => Some(done),
        }
    }

    /// Sleeps; false where the store stops meanwhile.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        self.until_stop(tokio::time::sleep(time)).await.is_some()
    }

    /// # Errors
    /// [`NodeError::Stopped`]; why the store does not serve any more.
    pub(crate) fn check_running(&self) -> Result<()> {
        if *self.stop.borrow() {
            return Err(NodeError::Stopped.into());
        }
        self.contact.check()
    }

    /// True while no lease ends, and every one can be renewed: the database was
    /// away, or its clock has jumped.
    pub(crate) fn leases_rest(&self) -> bool {
        self.contact.in_grace() || self.db_clock.has_jumped()
    }

    /// Locks the replica within a transaction that others wait for: not for as
    /// long as filling it takes.
    ///
    /// # Errors
    /// [`Failure::Busy`]: to be tried again once it is free.
    pub(crate) async fn lock_replica_briefly(&self) -> Result<MutexGuard<'_, Replica>, Failure> {
        tokio::time::timeout(REPLICA_PATIENCE, self.replica.lock()).await.map_err(|_| Failure::Busy)
    }

    /// Waits for something as long as a request may take.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.config.request_timeout, self.until_stop(work)).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(NodeError::Stopped.into()),
            Err(_) => Err(self.contact.timeout_error()),
        }
    }
}

/// Runs blocking work on the replica.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|error| Error::Other(format!("running a request: {error}")))?
}

/// What a client is told when the database fails.
pub(crate) fn store_error(error: &DbError) -> Error {
    match error.kind() {
        DbErrorKind::DiskFull => ApiError::NoSpace.into(),
        _ => Error::Unavailable(format!("the datastore failed: {error}")),
    }
}
