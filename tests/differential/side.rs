//! One of the two servers: sends it steps, collects what its watches see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::rpc::{cancel_watch, create_watch, watch_progress};
use skiff_test_support::{Client, Duplex, Fault, Member, MemberOptions, Program};
use tonic::Status;

use crate::answer::{Answer, Normalizer, StreamSeen};
use crate::generate::STREAMS;
use crate::op::{Meaning, Op, SLOTS, Step};

/// How long watches may take to catch up before they count as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often progress is asked for while watches catch up.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The id of the watch that each stream has from its start, so that progress has something to be about.
const SENTINEL: i64 = 1 << 40;

/// A watch may start this many revisions ahead.
const REACHABLE: i64 = 8;

/// A lease that lives no longer than this is revoked at once, in seconds.
const SHORT_LEASE: i64 = 600;

struct Stream {
    duplex: Duplex<WatchRequest, WatchResponse>,
    seen: StreamSeen,
    active: BTreeSet<i64>,
    /// Watches that were ended by the server and then once more by the client.
    swept: BTreeSet<i64>,
    progress: i64,
    /// Up to where each watch was reported to be complete.
    complete: BTreeMap<i64, i64>,
    /// The watch whose last answer was a fragment with more to come.
    fragment: Option<i64>,
}

/// One of the two servers.
pub(crate) struct Side {
    /// The process.
    pub(crate) member: Member,
    /// What symbols stand for here.
    pub(crate) meaning: Meaning,
    /// How its answers become comparable.
    pub(crate) normalizer: Normalizer,
    client: Client,
    /// By slot; the last one, nobody's, stays empty.
    tokens: Vec<Option<String>>,
    streams: Vec<Option<Stream>>,
    /// The newest revision that a watch of this sequence starts at.
    last_start: i64,
}

impl Side {
    /// Starts a fresh server in `dir`.
    pub(crate) async fn start(program: Program, dir: &Path) -> Result<Side, Fault> {
        let mut options = MemberOptions::single(program, dir);
        options = match options.program.is_kine() {
            // kine has no flag for the cost; progress is reported as rarely as by etcd.
            true => options.flag("--watch-progress-notify-interval=10m"),
            false => options.flag("--bcrypt-cost=4"),
        };
        if options.program.is_etcd() {
            // Its durability is not what is looked at.
            options = options.flag("--unsafe-no-fsync").flag("--log-level=error");
        }
        let mut member = Member::new(options);
        member.start()?;
        member.ready().await?;
        let client = member.client();
        let status = client.status(StatusRequest {}).await?;
        let id = status.header.map(|header| header.member_id).unwrap_or_default();
        let meaning = Meaning { member: id, current: 1, base: 1, ..Meaning::default() };
        let name = member.options().program.is_kine().then(|| member.name().to_owned());
        let normalizer = Normalizer { member: id, name, ..Normalizer::default() };
        Ok(Side {
            member,
            meaning,
            normalizer,
            client,
            tokens: vec![None; SLOTS + 1],
            streams: (0..STREAMS).map(|_| None).collect(),
            last_start: 0,
        })
    }

    /// A client that shows the token of a slot.
    pub(crate) fn client(&self, slot: usize, json: bool) -> Client {
        let client = match &self.tokens[slot] {
            Some(token) => self.client.clone().with_token(token),
            None => self.client.clone(),
        };
        if json { client.through_gateway() } else { client }
    }

    /// True when the first slot has logged in.
    pub(crate) fn guarded(&self) -> bool {
        self.tokens[0].is_some()
    }

    /// Starts a new sequence: closes its streams and forgets its leases.
    pub(crate) fn begin(&mut self) {
        self.streams.iter_mut().for_each(|stream| *stream = None);
        self.last_start = 0;
        self.meaning.base = self.meaning.current;
        self.meaning.leases.clear();
    }

    /// True when a watch has been started in this sequence.
    pub(crate) fn watches(&self) -> bool {
        self.streams.iter().any(Option::is_some)
    }

    /// True when a watch waits for a revision that is still to come.
    pub(crate) fn waits_for_revision(&self) -> bool {
        self.last_start > self.meaning.current
    }

    /// Sends a step whose symbols have been replaced and waits for its answer.
    pub(crate) async fn execute(&mut self, step: Step) -> Answer {
        let client = self.client(step.caller, step.json);
        match step.op {
            Op::Range(request) => Answer::of(client.range(request).await, Answer::Range),
            Op::Put(request) => Answer::of(client.put(request).await, Answer::Put),
            Op::Delete(request) => Answer::of(client.delete_range(request).await, Answer::Delete),
            Op::Txn(request) => Answer::of(client.txn(request).await, Answer::Txn),
            Op::Compact(request) => Answer::of(client.compact(request).await, Answer::Compact),
            Op::Grant(request) => Answer::of(grant(&client, request).await, Answer::Grant),
            Op::Revoke(request) => Answer::of(client.lease_revoke(request).await, Answer::Revoke),
            Op::KeepAlive(ids) => Answer::of(keep_alive(&client, ids).await, Answer::KeepAlive),
            Op::TimeToLive(request) => {
                Answer::of(client.lease_time_to_live(request).await, Answer::TimeToLive)
            }
            Op::Leases => Answer::of(client.lease_leases(LeaseLeasesRequest {}).await, Answer::Leases),
            Op::Watch(stream, request) => {
                let answer = self.watch(stream, request).await;
                Answer::of(answer, |(created, ended)| Answer::Watch(created, ended))
            }
            Op::CancelWatch(stream, id) => Answer::of(self.cancel(stream, id).await, Answer::Cancel),
            Op::Barrier => Answer::of(self.barrier().await, Answer::Barrier),
            Op::HashKv(request) => Answer::of(client.hash_kv(request).await, Answer::HashKv),
            Op::Status => Answer::of(client.status(StatusRequest {}).await, Answer::Status),
            Op::Alarm(request) => Answer::of(client.alarm(request).await, Answer::Alarm),
            Op::Defragment => Answer::of(client.defragment(DefragmentRequest {}).await, Answer::Defragment),
            Op::MoveLeader(request) => Answer::of(client.move_leader(request).await, Answer::MoveLeader),
            Op::Members(request) => Answer::of(client.member_list(request).await, Answer::Members),
            Op::Call(call) => call.ask(client).await,
            Op::LogIn(slot, request) => Answer::of(client.authenticate(request).await, |mut answer| {
                self.tokens[slot] = Some(std::mem::take(&mut answer.token));
                Answer::LogIn(answer)
            }),
            Op::Peek(request) => Answer::of(peek(&client, request).await, Answer::Peek),
            // Both servers at once: see the line.
            Op::Unlock(_) | Op::AsLeader(..) | Op::Observe(_) | Op::Leave(_) => {
                Answer::Error(-1, "this step is not for a single server".to_owned())
            }
        }
    }

    async fn stream(&mut self, index: usize) -> Result<&mut Stream, Status> {
        if self.streams[index].is_none() {
            let sentinel = WatchCreateRequest {
                key: "sentinel".into(),
                watch_id: SENTINEL,
                ..WatchCreateRequest::default()
            };
            // A connection of its own: events that wait to be read must not hold up other answers.
            let duplex = self.member.client().watch(create_watch(sentinel)).await?;
            let mut stream = Stream {
                duplex,
                seen: StreamSeen::default(),
                active: BTreeSet::new(),
                swept: BTreeSet::new(),
                progress: 0,
                complete: BTreeMap::new(),
                fragment: None,
            };
            stream.until_control(SENTINEL).await?;
            self.streams[index] = Some(stream);
        }
        self.streams[index].as_mut().ok_or_else(|| Status::internal("no stream"))
    }

    async fn watch(
        &mut self,
        index: usize,
        request: WatchCreateRequest,
    ) -> Result<(WatchResponse, Option<WatchResponse>), Status> {
        let (start, current) = (request.start_revision, self.meaning.current);
        let compacted = if self.meaning.compacted > 0 { self.meaning.compacted } else { -1 };
        let stream = self.stream(index).await?;
        stream.duplex.send(create_watch(request)).await?;
        let created = stream.until(|answer| answer.created).await?;
        let id = created.watch_id;
        if created.canceled {
            return Ok((created, None));
        }
        stream.active.insert(id);
        // An answer to the end of a watch that had this id before would have come first.
        stream.swept.remove(&id);
        // What was reported before says nothing about this watch.
        stream.progress = 0;
        if start != 0 && start < compacted {
            let ended = stream.until_control(id).await?;
            // etcd forgets such a watch, and reports progress of the stream again, only when asked to.
            stream.duplex.send(cancel_watch(id)).await?;
            stream.swept.insert(id);
            return Ok((created, Some(ended)));
        }
        if start > current + REACHABLE {
            // Progress is not reported while a watch waits for its first revision.
            self.cancel(index, id).await?;
        } else {
            self.last_start = self.last_start.max(start);
        }
        Ok((created, None))
    }

    async fn cancel(&mut self, index: usize, id: i64) -> Result<Option<WatchResponse>, Status> {
        let Some(stream) = self.streams[index].as_mut() else { return Ok(None) };
        stream.duplex.send(cancel_watch(id)).await?;
        if !stream.active.contains(&id) {
            return Ok(None);
        }
        stream.until_control(id).await.map(Some)
    }

    /// Waits until every watch has caught up with the current revision; takes what they saw.
    async fn barrier(&mut self) -> Result<Vec<StreamSeen>, Status> {
        let mut all = Vec::new();
        for stream in &mut self.streams {
            let Some(stream) = stream else {
                all.push(StreamSeen::default());
                continue;
            };
            stream.catch_up(self.meaning.current).await?;
            all.push(std::mem::take(&mut stream.seen));
        }
        Ok(all)
    }
}

async fn grant(client: &Client, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    let granted = client.lease_grant(request).await?;
    if granted.ttl <= SHORT_LEASE {
        // It may have expired already, on one server or on both.
        let _ = client.lease_revoke(LeaseRevokeRequest { id: granted.id }).await;
    }
    Ok(granted)
}

async fn keep_alive(client: &Client, ids: Vec<i64>) -> Result<Vec<LeaseKeepAliveResponse>, Status> {
    let mut answers = Vec::new();
    let mut open: Option<Duplex<_, _>> = None;
    for id in ids {
        let request = LeaseKeepAliveRequest { id };
        let duplex = match &mut open {
            Some(duplex) => {
                duplex.send(request).await?;
                duplex
            }
            None => open.insert(client.lease_keep_alive(request).await?),
        };
        answers.extend(duplex.next(PATIENCE).await?);
    }
    Ok(answers)
}

async fn peek(client: &Client, request: WatchCreateRequest) -> Result<Option<WatchResponse>, Status> {
    client.watch(create_watch(request)).await?.next(PATIENCE).await
}

impl Stream {
    async fn catch_up(&mut self, revision: i64) -> Result<(), Status> {
        let deadline = Instant::now() + PATIENCE;
        while self.progress < revision {
            self.duplex.send(watch_progress()).await?;
            let ask_again = Instant::now() + ASK_EVERY;
            while self.progress < revision && Instant::now() < ask_again {
                let patience = ask_again.saturating_duration_since(Instant::now());
                match self.duplex.next(patience).await {
                    Ok(Some(answer)) => self.take(answer),
                    Ok(None) => return Err(Status::cancelled("the watch stream has ended")),
                    Err(error) if error.message() == "no message on the stream" => {}
                    Err(error) => return Err(error),
                }
            }
            if Instant::now() > deadline {
                return Err(Status::deadline_exceeded("the watches do not catch up"));
            }
        }
        Ok(())
    }

    async fn until_control(&mut self, id: i64) -> Result<WatchResponse, Status> {
        self.until(|answer| answer.watch_id == id && (answer.created || answer.canceled)).await
    }

    /// Reads until an answer that is `wanted`; the others are kept for the next barrier.
    async fn until(&mut self, wanted: impl Fn(&WatchResponse) -> bool) -> Result<WatchResponse, Status> {
        loop {
            match self.duplex.next(PATIENCE).await? {
                Some(answer)
                    if wanted(&answer) && !(answer.canceled && self.swept.contains(&answer.watch_id)) =>
                {
                    if answer.canceled {
                        self.ended(answer.watch_id);
                    }
                    return Ok(answer);
                }
                Some(answer) => self.take(answer),
                None => return Err(Status::cancelled("the watch stream has ended")),
            }
        }
    }

    fn ended(&mut self, id: i64) {
        self.active.remove(&id);
        self.complete.remove(&id);
    }

    fn take(&mut self, answer: WatchResponse) {
        let id = answer.watch_id;
        let revision = answer.header.as_ref().map(|header| header.revision).unwrap_or_default();
        if answer.created || answer.canceled {
            if answer.canceled && self.swept.remove(&id) {
                return;
            }
            if answer.canceled {
                self.ended(id);
            }
            self.seen.watches.entry(id).or_default().control.push(answer);
        } else if answer.events.is_empty() {
            if id == -1 {
                self.progress = self.progress.max(revision);
                self.complete.extend(self.active.iter().map(|id| (*id, revision)));
            }
        } else {
            self.check(&answer, revision);
            self.fragment = answer.fragment.then_some(id);
            self.seen.watches.entry(id).or_default().events.extend(answer.events);
        }
    }

    /// Checks what holds for every server: no revision is split, no header is behind its events, nothing
    /// comes after progress was reported beyond it.
    fn check(&mut self, answer: &WatchResponse, revision: i64) {
        let revisions =
            || answer.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let (first, last) = (revisions().next().unwrap_or(0), revisions().max().unwrap_or(0));
        if revision < last {
            self.seen.faults.push(format!("header at {revision} with an event of {last}"));
        }
        let complete = self.complete.get(&answer.watch_id).copied().unwrap_or(0);
        if first <= complete {
            self.seen.faults.push(format!("event of {first} after progress to {complete}"));
        }
        if self.fragment.is_some_and(|id| id != answer.watch_id) {
            self.seen.faults.push("another watch's events between two fragments".to_owned());
        }
        let before = self.seen.watches.get(&answer.watch_id).and_then(|seen| seen.events.last());
        let before = before.and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
        if self.fragment.is_none() && before == first {
            self.seen.faults.push(format!("revision {first} is split over two answers"));
        }
    }
}
