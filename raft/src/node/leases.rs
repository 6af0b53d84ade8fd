//! Leases as clients and peers ask for them.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::api::{Read, ReadReply};
use skiff_store::auth::Caller;
use skiff_store::error::{Error, NodeError, Result};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, LeaseRevoke, command::Op};

use super::core::Core;
use super::wire;
use crate::lessor::{CHECKPOINT_BATCH, REVOKES_PER_SECOND, Renewal};
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{LeaseRenew, LeaseTimeToLive, reply::Answer, request::Ask};

/// Pause before asking again who leads.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often expired leases are looked for.
const EXPIRY_TICK: Duration = Duration::from_millis(500);

/// Renews a lease, here or at the leader. TTL 0 where there is none.
pub(crate) async fn keep_alive(
    core: &Arc<Core>,
    caller: Option<&Caller>,
    id: i64,
) -> Result<pb::LeaseKeepAliveResponse> {
    let ttl = at_leader(
        core,
        || renew_here(core, caller, id),
        Ask::LeaseRenew(LeaseRenew { id, caller: caller.cloned() }),
        |answer| match answer {
            Answer::LeaseRenew(reply) => Some(reply.ttl),
            _ => None,
        },
    )
    .await?;
    Ok(pb::LeaseKeepAliveResponse { header: Some(header(core)), id, ttl })
}

/// Renews a lease as the leader.
///
/// # Errors
/// [`NodeError::NotLeader`] where this member does not keep time.
pub(crate) async fn renew_here(core: &Arc<Core>, caller: Option<&Caller>, id: i64) -> Result<i64> {
    // A leader that lost its quorum must not renew: its successor counts anew.
    core.reads.barrier(core).await?;
    core.shared.mvcc.authorize_renewal(caller, id)?;
    match core.lessor.renew(id) {
        Renewal::Renewed { ttl, clear } => {
            if clear {
                let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl: 0 }];
                let op = Op::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints });
                core.execute(Command::from(op)).await?;
            }
            Ok(ttl)
        }
        Renewal::NotFound => Ok(0),
        Renewal::NotPrimary => Err(NodeError::NotLeader.into()),
    }
}

/// Tells the time a lease has left, here or at the leader. TTL -1 where there
/// is none.
pub(crate) async fn time_to_live(
    core: &Arc<Core>,
    caller: Option<&Caller>,
    request: pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse> {
    let ask = match caller {
        Some(caller) => {
            Ask::LeaseTimeToLiveBy(LeaseTimeToLive { request: Some(request), caller: Some(caller.clone()) })
        }
        None => Ask::LeaseTimeToLive(request),
    };
    at_leader(
        core,
        || time_to_live_here(core, caller, request),
        ask,
        |answer| match answer {
            Answer::LeaseTimeToLive(reply) => Some(reply),
            _ => None,
        },
    )
    .await
}

/// Tells the time a lease has left, as the leader.
///
/// # Errors
/// [`NodeError::NotLeader`] where this member does not keep time.
pub(crate) async fn time_to_live_here(
    core: &Arc<Core>,
    caller: Option<&Caller>,
    request: pb::LeaseTimeToLiveRequest,
) -> Result<pb::LeaseTimeToLiveResponse> {
    core.reads.barrier(core).await?;
    if core.lessor.term().is_none() {
        return Err(NodeError::NotLeader.into());
    }
    let mvcc = &core.shared.mvcc;
    let ReadReply::LeaseTimeToLive(mut reply) = mvcc.read(caller, &Read::LeaseTimeToLive(request))? else {
        return Err(Error::Other("store answered a lease's time with something else".into()));
    };
    match core.lessor.time_to_live(request.id) {
        Some((ttl, granted)) => (reply.ttl, reply.granted_ttl) = (ttl, granted),
        None => {
            reply = pb::LeaseTimeToLiveResponse {
                header: Some(header(core)),
                id: request.id,
                ttl: -1,
                ..Default::default()
            }
        }
    }
    Ok(reply)
}

/// Does something at the leader, which may be this member; asks again while
/// there is none, until the request's time is up.
async fn at_leader<T, F: Future<Output = Result<T>>>(
    core: &Arc<Core>,
    here: impl Fn() -> F,
    ask: Ask,
    take: impl Fn(Answer) -> Option<T>,
) -> Result<T> {
    let work = async {
        loop {
            let leader = core.leader();
            let outcome = if leader == 0 {
                Err(NodeError::NotLeader.into())
            } else if leader == core.member_id {
                here().await
            } else {
                match core.call(leader, ask.clone(), core.config.request_timeout()).await {
                    Ok(Answer::Error(e)) => Err(wire::decode_error(e)),
                    Ok(answer) => match take(answer) {
                        Some(answer) => Ok(answer),
                        None => Err(Error::Other("a peer answered another question".into())),
                    },
                    Err(error) => {
                        tracing::debug!(%error, leader, "cannot ask the leader");
                        Err(NodeError::NotLeader.into())
                    }
                }
            };
            match outcome {
                Err(Error::Node(NodeError::NotLeader)) => tokio::time::sleep(RETRY_PAUSE).await,
                done => return done,
            }
        }
    };
    match tokio::time::timeout(core.config.request_timeout(), core.until_stop(work)).await {
        Ok(Some(done)) => done,
        Ok(None) => Err(NodeError::Stopped.into()),
        Err(_) if core.leader() == 0 => Err(NodeError::NoLeader.into()),
        Err(_) => Err(NodeError::Timeout.into()),
    }
}

/// Ends expired leases and records remaining times, as long as this member
/// leads.
pub(crate) async fn run(core: Arc<Core>) {
    let limit = REVOKES_PER_SECOND * EXPIRY_TICK.as_millis() as usize / 1000;
    let mut tick = tokio::time::interval(EXPIRY_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while core.until_stop(tick.tick()).await.is_some() {
        if let Some((term, expired)) = core.lessor.take_expired(limit) {
            METRICS.lease_expired.inc_by(expired.len() as u64);
            for id in expired {
                propose(&core, Op::LeaseRevoke(LeaseRevoke { id, expired_in_term: term }));
            }
        }
        let due = core.lessor.take_checkpoints(CHECKPOINT_BATCH);
        if !due.is_empty() {
            let checkpoints = due
                .into_iter()
                .map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl })
                .collect();
            propose(&core, Op::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints }));
        }
    }
}

/// Proposes without waiting: what does not come through comes again.
fn propose(core: &Arc<Core>, op: Op) {
    // Never forwarded: another leader keeps its own time.
    let Ok(wait) = core.proposer.submit(Command::from(op), true) else { return };
    core.spawn(async move {
        if let Ok(Err(error)) = wait.await {
            tracing::debug!(%error, "a lease's end was not replicated; it comes again");
        }
    });
}

pub(crate) fn header(core: &Core) -> pb::ResponseHeader {
    pb::ResponseHeader { revision: core.shared.mvcc.revision(), ..Default::default() }
}
