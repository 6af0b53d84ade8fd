//! A replica of a running etcd: its snapshot, and a watch of everything since.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use skiff_sql::endpoint::EtcdEndpoint;
use skiff_store::mvcc::{Entry, Mvcc};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::{Event, event::EventType};
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Adopt, Command, LeaseRevoke};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::blocking;
use super::etcd::{Etcd, told};
use super::place::Login;
use super::source::unpacked;

/// Commands applied at once, at most.
const BATCH: usize = 500;
/// How long the watch may be behind what a read has seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for news before progress is asked for.
const ASK: Duration = Duration::from_millis(500);
/// TTL of a lease that ended before its TTL could be asked for.
const ENDED_TTL: i64 = 600;

/// A replica that follows an etcd.
pub(super) struct Following {
    client: Etcd,
    mvcc: Arc<Mvcc>,
    identity: u64,
    index: u64,
    auth_revision: Option<u64>,
    watch: Option<Watch>,
    /// Events whose revision is not whole yet.
    pending: Vec<Event>,
    /// Leases that had ended before their TTL could be asked for.
    ended: BTreeSet<i64>,
}

/// A watch of all keys.
struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Following {
    /// Takes a snapshot, and begins to watch from there.
    pub(super) async fn start(etcd: &EtcdEndpoint, login: &Login, dir: PathBuf) -> Result<Self, String> {
        let client = Etcd::connect(etcd, login).await?;
        let status = client.status().await?;
        let identity = status.header.map_or(0, |header| header.cluster_id);
        let auth_revision = client.auth_revision().await?;
        let file = dir.with_extension("snapshot");
        client.snapshot(&file, |_| {}).await?;
        let mvcc = blocking(move || {
            let mvcc = unpacked(&file, &dir)?;
            // Its contents are in the replica now.
            let _ = std::fs::remove_file(&file);
            Ok(mvcc)
        })
        .await?;
        let index = mvcc.applied_index();
        let mut following = Self {
            client,
            mvcc,
            identity,
            index,
            auth_revision,
            watch: None,
            pending: Vec::new(),
            ended: BTreeSet::new(),
        };
        following.check_auth().await?;
        Ok(following)
    }

    pub(super) fn mvcc(&self) -> &Arc<Mvcc> {
        &self.mvcc
    }

    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// Takes everything that was written before this was called.
    pub(super) async fn advance(&mut self) -> Result<(), String> {
        let (revision, _) = self.client.revision().await?;
        let begun = Instant::now();
        while self.mvcc.revision() < revision {
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "the watch of the source is at revision {}, a read there saw {revision}",
                    self.mvcc.revision()
                ));
            }
            self.take_news().await?;
        }
        Ok(())
    }

    /// Waits for news, for a while, and applies them.
    async fn take_news(&mut self) -> Result<(), String> {
        if self.watch.is_none() {
            self.watch = Some(self.start_watch().await?);
        }
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let answer = match tokio::time::timeout(ASK, watch.answers.message()).await {
            Err(_) => {
                // It may be that nothing changed at the last revisions.
                let request = pb::watch_request::RequestUnion::ProgressRequest(Default::default());
                let request = pb::WatchRequest { request_union: Some(request) };
                if watch.requests.try_send(request).is_err() {
                    self.drop_watch();
                }
                return Ok(());
            }
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => {
                self.drop_watch();
                return Ok(());
            }
            Ok(Err(status)) => {
                self.drop_watch();
                if !self.client.passes(&status).await {
                    return Err(told(&status));
                }
                tracing::warn!(%status, "the watch of the source broke; it is started again");
                tokio::time::sleep(ASK).await;
                return Ok(());
            }
        };
        self.take(answer).await
    }

    fn drop_watch(&mut self) {
        self.watch = None;
        self.pending.clear();
    }

    async fn start_watch(&self) -> Result<Watch, String> {
        let (requests, outgoing) = mpsc::channel(4);
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: self.mvcc.revision() + 1,
            progress_notify: true,
            fragment: true,
            ..Default::default()
        };
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        let _ = requests.send(pb::WatchRequest { request_union: Some(create) }).await;
        let outgoing = stream::unfold(outgoing, async |mut outgoing| {
            outgoing.recv().await.map(|request| (request, outgoing))
        });
        let answer = self.client.watches().watch(Box::pin(outgoing)).await;
        let answers = answer.map_err(|status| told(&status))?.into_inner();
        Ok(Watch { requests, answers })
    }

    async fn take(&mut self, answer: pb::WatchResponse) -> Result<(), String> {
        if answer.canceled {
            return Err(match answer.compact_revision {
                0 => format!("the source ended the watch: {}", answer.cancel_reason),
                at => format!(
                    "the source was compacted at revision {at} before it was copied up to there: run again with \
                     --restart, with compactions paused meanwhile"
                ),
            });
        }
        let progress = answer.events.is_empty() && !answer.created;
        self.pending.extend(answer.events);
        if answer.fragment {
            return Ok(());
        }
        let events = std::mem::take(&mut self.pending);
        let mut commands = self.commands(events).await?;
        let through = answer.header.map_or(0, |header| header.revision);
        if progress && through > self.mvcc.revision() {
            commands.push(skip_to(through));
        }
        while !commands.is_empty() {
            let rest = commands.split_off(commands.len().min(BATCH));
            self.apply(std::mem::replace(&mut commands, rest)).await?;
        }
        Ok(())
    }

    /// The commands that do what the events tell.
    async fn commands(&mut self, events: Vec<Event>) -> Result<Vec<Command>, String> {
        let mut commands = Vec::new();
        let mut granted = BTreeSet::new();
        let mut at = self.mvcc.revision();
        let mut events = events.into_iter().peekable();
        while let Some(first) = events.next() {
            let revision = revision_of(&first);
            let mut ops = vec![first];
            while let Some(next) = events.next_if(|next| revision_of(next) == revision) {
                ops.push(next);
            }
            // A watch that was started again may tell again.
            if revision <= at {
                continue;
            }
            if revision > at + 1 {
                commands.push(skip_to(revision - 1));
            }
            at = revision;
            let leases: BTreeSet<i64> =
                ops.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.lease).collect();
            for lease in leases.into_iter().filter(|lease| *lease != 0) {
                self.grant_for(lease, &mut granted, &mut commands).await?;
            }
            let success = ops.into_iter().filter_map(op).collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            commands.push(Command::from(Op::Txn(txn)));
        }
        Ok(commands)
    }

    /// The commands after which a lease is there that a key has now.
    async fn grant_for(
        &mut self,
        lease: i64,
        granted: &mut BTreeSet<i64>,
        commands: &mut Vec<Command>,
    ) -> Result<(), String> {
        let there = self.mvcc.lease(lease).is_some() || granted.contains(&lease);
        if there && !self.ended.contains(&lease) {
            return Ok(());
        }
        let ttl = self.client.lease_ttl(lease).await?;
        match (ttl, there) {
            // The one that had ended has no keys any more: this is another one.
            (Some(ttl), true) => {
                self.ended.remove(&lease);
                commands.extend([revoke(lease), grant(lease, ttl)]);
            }
            (Some(ttl), false) => commands.push(grant(lease, ttl)),
            (None, true) => {}
            (None, false) => {
                self.ended.insert(lease);
                commands.push(grant(lease, ENDED_TTL));
            }
        }
        granted.insert(lease);
        Ok(())
    }

    async fn apply(&mut self, commands: Vec<Command>) -> Result<(), String> {
        self.index += 1;
        let position: Bytes = self.mvcc.position();
        let entry = Entry { term: 1, index: self.index, position, commands };
        let mvcc = self.mvcc.clone();
        blocking(move || {
            let outcomes = mvcc.apply(&[entry]).map_err(|error| error.to_string())?;
            let mut replies = outcomes.into_iter().flat_map(|outcome| outcome.replies);
            replies.find_map(Result::err).map_or(Ok(()), |error| Err(error.to_string()))
        })
        .await
    }

    /// Brings the leases to where they are there.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.check_auth().await?;
        let there = self.client.lease_ids().await?;
        // What an ended lease took with it has been seen when this is done.
        self.advance().await?;
        let mut commands = Vec::new();
        for lease in &there {
            let found = self.mvcc.lease(*lease).map(|lease| lease.ttl);
            match (self.client.lease_ttl(*lease).await?, found) {
                (Some(ttl), None) => commands.push(grant(*lease, ttl)),
                // Another one of the same id; the old one's keys are gone.
                (Some(ttl), Some(found)) if ttl != found => {
                    commands.extend([revoke(*lease), grant(*lease, ttl)]);
                }
                _ => {}
            }
        }
        let gone = self.mvcc.leases().into_iter().filter(|lease| !there.contains(&lease.id));
        commands.extend(gone.map(|lease| revoke(lease.id)));
        let revision = self.mvcc.revision();
        if !commands.is_empty() {
            self.apply(commands).await?;
        }
        if self.mvcc.revision() != revision {
            return Err(
                "keys of a lease that has ended were still there; run again with --restart".to_owned()
            );
        }
        Ok(())
    }

    /// Users and roles cannot be watched.
    async fn check_auth(&mut self) -> Result<(), String> {
        let now = self.client.auth_revision().await?;
        if now == self.auth_revision {
            return Ok(());
        }
        Err("users or roles were changed at the source while it was copied: run again with --restart"
            .to_owned())
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn grant(id: i64, ttl: i64) -> Command {
    Command::from(Op::LeaseGrant(pb::LeaseGrantRequest { ttl, id }))
}

fn revoke(id: i64) -> Command {
    Command::from(Op::LeaseRevoke(LeaseRevoke { id, ..Default::default() }))
}

/// Nothing changed up to a revision.
fn skip_to(through: i64) -> Command {
    Command::from(Op::Adopt(Adopt { changes: Vec::new(), through }))
}

fn op(event: Event) -> Option<pb::RequestOp> {
    use pb::request_op::Request;
    let kv = event.kv?;
    let request = if event.r#type == EventType::Delete as i32 {
        Request::RequestDeleteRange(pb::DeleteRangeRequest { key: kv.key, ..Default::default() })
    } else {
        let put = pb::PutRequest { key: kv.key, value: kv.value, lease: kv.lease, ..Default::default() };
        Request::RequestPut(put)
    };
    Some(pb::RequestOp { request: Some(request) })
}
