//! Putting the parts of a store together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use skiff_store::auth::SimpleTokens;
use skiff_store::clock::Clock;
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{NodeError, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::contact::Contact;
use super::db_clock::DbClock;
use super::jobs::Job;
use super::leases::{self, KeepAlives};
use super::reads::{self, Reads};
use super::replica::{Engines, Replica};
use super::tail::Tail;
use super::writer::Writer;
use super::{
    Core, blocking, compaction, head, housekeeping, load, repair, schema, store_error, supervise, sync,
    takeover,
};
use crate::config::SqlConfig;
use crate::db::Database;

/// How long giving all unused space back may take, for each table.
const RECLAIM_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// What the tasks read from.
pub(crate) struct Queues {
    jobs: mpsc::Receiver<Job>,
    reads: reads::ReadQueue,
    renewals: mpsc::Receiver<(i64, oneshot::Sender<Result<i64>>)>,
}

/// Makes a database ready and fills the replica.
///
/// # Errors
/// As [`crate::SqlStore::open`].
pub(crate) async fn open(
    db: Arc<dyn Database>,
    mut config: SqlConfig,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<(Core, Queues)> {
    schema::prepare(db.as_ref()).await?;
    crate::transfer::refuse_unfinished(db.as_ref()).await?;
    repair::repair(db.as_ref(), config.migrate_schema).await?;
    takeover::take_over(db.as_ref(), &config.cluster_version).await?;
    let cluster_id = takeover::cluster_id(db.as_ref()).await?;
    let mut engines = Engines::new(config.replica_dir.clone())?;
    let engine = engines.make()?;
    let tail = Tail::default();
    let (loaded, hold) = load(&db, engine.clone()).await?;
    loaded.note(&tail);
    engines.installed();
    let mvcc_config = config.mvcc.clone();
    let mvcc = blocking(move || Mvcc::open(engine, mvcc_config)).await?;
    let head = head::read_now(db.as_ref()).await.map_err(|error| store_error(&error))?;
    let hold = hold.filter(|_| mvcc.applied_index() < head.index);
    if config.member.id == 0 {
        // All servers on one database are one member.
        config.member.id = cluster_id.rotate_left(17) | 1;
    }
    let member: pb::Member = config.member.clone();
    let (jobs, job_queue) = mpsc::channel(config.max_waiting);
    let (reads, read_queue) = Reads::new();
    let (keep_alives, renewals) = KeepAlives::new();
    let core = Core {
        tokens: SimpleTokens::new(config.token_ttl, mvcc.applied_index()),
        contact: Contact::new(member.id),
        db_clock: DbClock::default(),
        tail,
        applied: watch::Sender::new(mvcc.applied_index()),
        replica: tokio::sync::Mutex::new(Replica { engines, broken: false, hold }),
        db_size: AtomicI64::new(0),
        compacted: watch::Sender::new(0),
        config,
        db,
        mvcc,
        clock,
        cluster_id,
        member,
        jobs,
        reads,
        keep_alives,
        stop,
    };
    housekeeping::measure(&core).await.map_err(|error| store_error(&error))?;
    Ok((core, Queues { jobs: job_queue, reads: read_queue, renewals }))
}

/// Starts the tasks.
pub(crate) fn spawn(core: &Arc<Core>, queues: Queues, tasks: &mut JoinSet<()>) {
    let writer = Writer::new(core.clone(), queues.jobs).run();
    tasks.spawn(supervise::vital(core.clone(), "writer", writer));
    let reader = reads::run(core.clone(), queues.reads);
    tasks.spawn(supervise::vital(core.clone(), "reader of the head", reader));
    let renewals = leases::run_renewals(core.clone(), queues.renewals);
    tasks.spawn(supervise::vital(core.clone(), "writer of renewals", renewals));
    tasks.spawn(supervise::again(core.clone(), "expiry", leases::run_expiry));
    tasks.spawn(supervise::again(core.clone(), "sync", sync::run));
    tasks.spawn(supervise::again(core.clone(), "compaction", compaction::run));
    tasks.spawn(supervise::again(core.clone(), "housekeeping", housekeeping::run));
}

/// A folder for a copy of the replica, that does not exist.
pub(crate) fn scratch_dir(core: &Core) -> PathBuf {
    // Of all stores in this process.
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let name = format!("skiff-snapshot-{}-{}", std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed));
    core.config.replica_dir.clone().unwrap_or_else(std::env::temp_dir).join(name)
}

/// Gives unused space of the database back, as far as that goes while others
/// work.
///
/// # Errors
/// The database failed.
pub(crate) async fn give_space_back(core: &Core) -> Result<()> {
    core.check_running()?;
    let work = async {
        let mut session = core.db.session().await?;
        session.set_limit(RECLAIM_LIMIT);
        for sql in schema::TABLES.iter().flat_map(|table| core.db.dialect().defragment_sql(table)) {
            session.execute(&sql, &[]).await?;
        }
        Ok(())
    };
    work.await.map_err(|error| store_error(&error))?;
    let _ = housekeeping::measure(core).await;
    Ok(())
}

impl Drop for Core {
    fn drop(&mut self) {
        self.mvcc.close_watches(NodeError::Stopped.into());
    }
}
