//! When leases end: deadlines in the database, by its clock. They outlive every
//! server, and any server may renew or end one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Command, LeaseRevoke};
use skiff_store::{ApiError, Error, NodeError, Result};
use tokio::sync::{mpsc, oneshot};

use super::db_clock::Look;
use super::jobs::{Job, Work};
use super::{Core, TERM, statements, store_error};
use crate::db::{DbError, DbErrorKind, Session, Value};

/// Renewals that may wait, and those written together.
const QUEUE: usize = 65_536;
const MAX_TOGETHER: usize = 512;
/// Leases ended together.
const MAX_EXPIRED: usize = 256;
/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A renewal and who waits for the TTL; 0 where there is no such lease.
type Renewal = (i64, oneshot::Sender<Result<i64>>);

/// The entrance for renewals.
pub(crate) struct KeepAlives {
    queue: mpsc::Sender<Renewal>,
}

impl KeepAlives {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Renewal>) {
        let (queue, renewals) = mpsc::channel(QUEUE);
        (Self { queue }, renewals)
    }

    /// Renews a lease; answers its TTL, 0 where there is none.
    ///
    /// # Errors
    /// The time is over, too many wait, the store stops.
    pub(crate) async fn renew(&self, core: &Core, id: i64) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((id, reply)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NodeError::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
        })?;
        core.in_time(async { answer.await.map_err(|_| Error::from(NodeError::Stopped))? }).await
    }
}

/// Writes renewals until the store stops.
pub(crate) async fn run_renewals(core: Arc<Core>, mut queue: mpsc::Receiver<Renewal>) {
    let mut session: Option<Box<dyn Session>> = None;
    loop {
        let Some(first) = core.until_stop(queue.recv()).await.flatten() else { return };
        let mut renewals = vec![first];
        while renewals.len() < MAX_TOGETHER
            && let Ok(renewal) = queue.try_recv()
        {
            renewals.push(renewal);
        }
        loop {
            renewals.retain(|(_, reply)| !reply.is_closed());
            if renewals.is_empty() {
                break;
            }
            let ids: Vec<i64> = renewals.iter().map(|(id, _)| *id).collect();
            match renew(&core, &mut session, ids).await {
                Ok(ttls) => {
                    core.contact.written();
                    for (id, reply) in renewals.drain(..) {
                        let _ = reply.send(Ok(ttls.get(&id).copied().unwrap_or(0)));
                    }
                }
                Err(error) => {
                    session = None;
                    let pause = match error.kind() {
                        DbErrorKind::Retry => Duration::from_millis(5),
                        _ => {
                            core.contact.write_failed();
                            core.contact.failed(&error)
                        }
                    };
                    if matches!(error.kind(), DbErrorKind::ReadOnly | DbErrorKind::Denied) {
                        renewals.drain(..).for_each(|(_, reply)| _ = reply.send(Err(store_error(&error))));
                    }
                    if !core.sleep(pause).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Sets new deadlines; answers the TTLs of the leases that are there.
async fn renew(
    core: &Core,
    session: &mut Option<Box<dyn Session>>,
    mut ids: Vec<i64>,
) -> Result<HashMap<i64, i64>, DbError> {
    if session.is_none() {
        *session = Some(core.db.session().await?);
    }
    let session = session.as_deref_mut().expect("just opened");
    // In one order everywhere, so that servers do not wait for each other in a circle.
    ids.sort_unstable();
    ids.dedup();
    let ids: Vec<_> = ids.into_iter().map(Value::Int).collect();
    let now = core.db.dialect().now_millis();
    loop {
        // While the database was away nobody could renew: those leases live on.
        let rest = core.leases_rest();
        let alive = if rest { String::new() } else { format!(" AND expires_at > {now}") };
        let update = format!("UPDATE skiff_lease SET expires_at = {now} + ttl_ms WHERE id IN ({{}}){alive}");
        statements::for_each(session, &update, &ids).await?;
        let select = format!("SELECT id, ttl_ms FROM skiff_lease WHERE id IN ({{}}) AND expires_at > {now}");
        let rows = statements::query_each(session, &select, &ids, &[]).await?;
        // That a lease is over is told only by a clock that is as it was.
        if rows.len() == ids.len() || rest || look(core, session).await? {
            return rows.iter().map(|row| Ok((row.int(0)?, row.int(1)? / 1000))).collect();
        }
    }
}

/// Looks at the database's clock; true where it can be relied on.
async fn look(core: &Core, session: &mut dyn Session) -> Result<bool, DbError> {
    let asked = Instant::now();
    let rows = session.query(&format!("SELECT {}", core.db.dialect().now_millis()), &[]).await?;
    let millis = rows.first().map(|row| row.int(0)).transpose()?;
    Ok(millis.is_none_or(|millis| core.db_clock.look(Look::since(asked, millis))))
}

/// What a lease has left.
pub(crate) struct TimeLeft;

impl TimeLeft {
    /// Seconds until a lease ends; `None` where there is none.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn of(core: &Core, id: i64) -> Result<Option<i64>> {
        let read = async {
            let mut session = core.db.session().await?;
            let now = core.db.dialect().now_millis();
            let sql = format!("SELECT expires_at - {now} FROM skiff_lease WHERE id = ?");
            let rows = session.query(&sql, &[Value::Int(id)]).await?;
            rows.first().map(|row| row.int(0)).transpose()
        };
        let left = core.in_time(async { read.await.map_err(|error| store_error(&error)) }).await?;
        Ok(left.map(|millis| (millis / 1000).max(0)))
    }
}

/// Has the writer end leases until the store stops.
pub(crate) async fn run_expiry(core: Arc<Core>) {
    while core.sleep(TICK).await {
        // Where nothing was written since an outage this is what tries.
        let trial = core.contact.writes_unproven();
        if core.contact.in_grace() && !trial {
            continue;
        }
        match any_expired(&core).await.map(|expired| expired || trial) {
            Ok(true) => {
                let (reply, answer) = oneshot::channel();
                if core.jobs.send(Job { work: Work::Expire, reply }).await.is_err() {
                    return;
                }
                match core.until_stop(answer).await {
                    None => return,
                    Some(Ok(Err(error))) if !matches!(error, Error::Api(ApiError::LeaseNotFound)) => {
                        tracing::warn!(%error, "expired leases could not be ended");
                    }
                    Some(_) => {}
                }
            }
            Ok(false) => core.contact.answered(),
            Err(error) => {
                if !core.sleep(core.contact.failed(&error)).await {
                    return;
                }
            }
        }
    }
}

/// Whether a lease is over by a clock that can be relied on. Where it cannot, the
/// leases get their time.
async fn any_expired(core: &Core) -> Result<bool, DbError> {
    let mut session = core.db.session().await?;
    let now = core.db.dialect().now_millis();
    if !look(core, session.as_mut()).await? {
        session.execute(&format!("UPDATE skiff_lease SET expires_at = {now} + ttl_ms"), &[]).await?;
        core.db_clock.settled();
        return Ok(false);
    }
    let sql = format!("SELECT id FROM skiff_lease WHERE expires_at <= {now} LIMIT 1");
    Ok(!session.query(&sql, &[]).await?.is_empty())
}

/// Ends the leases whose time is over, within the writer's transaction: none
/// can be renewed meanwhile.
pub(crate) async fn expired(
    core: &Core,
    session: &mut dyn Session,
    limit: usize,
) -> Result<Vec<Command>, DbError> {
    if core.leases_rest() || !look(core, session).await? {
        return Ok(Vec::new());
    }
    let (now, lock) = (core.db.dialect().now_millis(), core.db.dialect().for_update());
    let limit = limit.min(MAX_EXPIRED);
    let sql = format!("SELECT id FROM skiff_lease WHERE expires_at <= {now} ORDER BY id LIMIT {limit}{lock}");
    let rows = session.query(&sql, &[]).await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<_>, _>>()?;
    let (known, orphans): (Vec<i64>, Vec<i64>) =
        ids.into_iter().partition(|id| core.mvcc.lease(*id).is_some());
    if !orphans.is_empty() {
        let orphans: Vec<_> = orphans.into_iter().map(Value::Int).collect();
        statements::for_each(session, "DELETE FROM skiff_lease WHERE id IN ({})", &orphans).await?;
    }
    let revoke = |id| Command::from(Op::LeaseRevoke(LeaseRevoke { id, expired_in_term: TERM }));
    Ok(known.into_iter().map(revoke).collect())
}
