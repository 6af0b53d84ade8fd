//! What the store's tasks share.

mod adopt;
mod batch;
mod compaction;
mod contact;
mod head;
mod housekeeping;
mod leases;
mod load;
mod log;
mod names;
mod open;
mod reads;
mod repair;
mod replica;
mod rows;
mod schema;
mod statements;
mod sync;
mod takeover;
mod vanished;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use skiff_store::auth::SimpleTokens;
use skiff_store::clock::Clock;
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{ApiError, Error, NodeError, Result};
use tokio::sync::watch;

pub(crate) use self::contact::Contact;
pub(crate) use self::leases::{KeepAlives, TimeLeft};
pub(crate) use self::load::load;
pub(crate) use self::open::{give_space_back, open, scratch_dir, spawn};
pub(crate) use self::reads::Reads;
pub(crate) use self::replica::Replica;
pub(crate) use self::writer::{Job, Work};

use crate::config::SqlConfig;
use crate::db::{Database, DbError, DbErrorKind};

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
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) jobs: tokio::sync::mpsc::Sender<Job>,
    pub(crate) reads: Reads,
    pub(crate) keep_alives: KeepAlives,
    pub(crate) contact: Contact,
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
