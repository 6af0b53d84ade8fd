//! Clients that write, read and watch while faults happen, and record what they were told.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::history::{Change, Observed, Record, Written};
use crate::pb::etcdserverpb::*;
use crate::pb::mvccpb::{Event, event::EventType};
use crate::rpc::{create_watch, watch_progress};
use crate::{Client, Fault, Rng};

/// How long a client waits for one answer before it counts the outcome as unknown.
const CALL_DEADLINE: Duration = Duration::from_secs(3);

/// The keys of the load start with this.
pub const PREFIX: &str = "load/";

/// The end of the range of the load's keys.
pub const PREFIX_END: &str = "load0";

/// How many keys each writer has to itself.
const KEYS_PER_WRITER: u64 = 5;

/// How many keys the writers that compare and swap share.
const SHARED_KEYS: u64 = 3;

/// How much load to make.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Clients that put and delete keys of their own, alone and several in a transaction.
    pub writers: u64,
    /// Clients that compare and swap shared keys.
    pub swappers: u64,
    /// Clients that read.
    pub readers: u64,
    /// Clients that watch everything, each from the first revision on.
    pub watchers: u64,
    /// The pause between two calls of a client.
    pub pause: Duration,
    /// The seed of all choices.
    pub seed: u64,
}

/// What all clients share.
#[derive(Debug)]
struct Shared {
    addresses: Mutex<Vec<String>>,
    stop: AtomicBool,
    records: Mutex<Vec<Record>>,
    observed: Mutex<Vec<Observed>>,
    faults: Mutex<Vec<String>>,
    /// The highest revision anyone was told: a linearizable read that starts later must not be below it.
    told: AtomicI64,
    next_value: AtomicU64,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    started: Instant,
}

/// Running clients.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<Result<Vec<Change>, String>>>,
    /// Where each watcher has to get to before it ends; 0 for not known yet.
    goal: Arc<AtomicI64>,
}

/// What the clients of a load were told.
#[derive(Debug)]
pub struct Told {
    /// Writes, with their outcome.
    pub records: Vec<Record>,
    /// Linearizable reads.
    pub observed: Vec<Observed>,
    /// What each watcher saw.
    pub watched: Vec<Vec<Change>>,
    /// Rules broken while it ran.
    pub faults: Vec<String>,
}

impl Load {
    /// Starts clients of the servers at `addresses`.
    pub fn start(addresses: Vec<String>, options: &LoadOptions) -> Load {
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses),
            stop: AtomicBool::new(false),
            records: Mutex::default(),
            observed: Mutex::default(),
            faults: Mutex::default(),
            told: AtomicI64::new(0),
            next_value: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            started: Instant::now(),
        });
        let mut clients = Vec::new();
        for index in 0..options.writers + options.swappers + options.readers {
            let agent = Agent {
                shared: shared.clone(),
                rng: Rng::derive(options.seed, index),
                index,
                pause: options.pause,
                connections: Vec::new(),
                version: Vec::new(),
            };
            clients.push(if index < options.writers {
                tokio::spawn(agent.write())
            } else if index < options.writers + options.swappers {
                tokio::spawn(agent.swap())
            } else {
                tokio::spawn(agent.read())
            });
        }
        let goal = Arc::new(AtomicI64::new(0));
        let watchers = (0..options.watchers)
            .map(|index| {
                let rng = Rng::derive(options.seed, 1_000_000 + index);
                tokio::spawn(watch_to(shared.clone(), rng, goal.clone()))
            })
            .collect();
        Load { shared, clients, watchers, goal }
    }

    /// Changes the servers that the clients talk to.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        *lock(&self.shared.addresses) = addresses;
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// How many writes have ended without a clear answer so far.
    pub fn unknown(&self) -> u64 {
        self.shared.unknown.load(Ordering::SeqCst)
    }

    /// Waits until `count` more writes have been acknowledged.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub async fn progress(&self, count: u64, patience: Duration) -> Result<(), Fault> {
        let (goal, deadline) = (self.acknowledged() + count, Instant::now() + patience);
        while self.acknowledged() < goal {
            if Instant::now() > deadline {
                return Err(format!("fewer than {count} writes acknowledged in {patience:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops the clients; the watchers end when they have seen what `through` has.
    ///
    /// # Errors
    /// When a watcher does not get there, or saw something it must not.
    pub async fn stop(self, through: &Client) -> Result<Told, Fault> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await?;
        }
        // The last event is the watchers' goal: one they all see.
        let last = PutRequest { key: format!("{PREFIX}last").into(), ..PutRequest::default() };
        let put = crate::cluster::retry(|| through.put(last.clone())).await?;
        let goal = put.header.map(|header| header.revision).ok_or("an answer without a header")?;
        self.goal.store(goal, Ordering::SeqCst);
        let mut watched = Vec::new();
        for watcher in self.watchers {
            watched.push(watcher.await??);
        }
        Ok(Told {
            records: std::mem::take(&mut lock(&self.shared.records)),
            observed: std::mem::take(&mut lock(&self.shared.observed)),
            faults: std::mem::take(&mut lock(&self.shared.faults)),
            watched,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client that calls.
struct Agent {
    shared: Arc<Shared>,
    rng: Rng,
    index: u64,
    pause: Duration,
    connections: Vec<(String, Client)>,
    /// Last mod revision seen of each shared key.
    version: Vec<i64>,
}

impl Agent {
    fn client(&mut self) -> Client {
        let addresses = lock(&self.shared.addresses).clone();
        let address: String = self.rng.pick(&addresses).clone();
        if let Some((_, client)) = self.connections.iter().find(|(known, _)| *known == address) {
            return client.clone();
        }
        let client = Client::new(&address).with_deadline(CALL_DEADLINE);
        self.connections.push((address, client.clone()));
        client
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::SeqCst)
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// A value that nobody else writes.
    fn value(&self) -> u64 {
        self.shared.next_value.fetch_add(1, Ordering::SeqCst)
    }

    fn told(&self, revision: i64) {
        self.shared.told.fetch_max(revision, Ordering::SeqCst);
    }

    fn record(&self, start: Duration, writes: Vec<Written>, revision: Option<i64>) {
        let counter = if revision.is_some() { &self.shared.acknowledged } else { &self.shared.unknown };
        counter.fetch_add(1, Ordering::SeqCst);
        revision.into_iter().for_each(|revision| self.told(revision));
        let record = Record { client: self.index, start, end: self.now(), writes, revision };
        lock(&self.shared.records).push(record);
    }

    async fn write(mut self) {
        while !self.stopped() {
            let count = if self.rng.chance(15) { 1 + self.rng.below(3) } else { 1 };
            let mut writes: Vec<Written> = Vec::new();
            for _ in 0..count {
                let key = format!("{PREFIX}w{}/{}", self.index, self.rng.below(KEYS_PER_WRITER));
                if writes.iter().all(|write| write.key != key) {
                    let value = (!self.rng.chance(8)).then(|| self.value());
                    writes.push(Written { key, value });
                }
            }
            let client = self.client();
            let start = self.now();
            let revision = if writes.len() == 1 && self.rng.chance(70) {
                single(&client, &writes[0]).await
            } else {
                several(&client, &writes).await
            };
            match revision {
                Some((_, false)) => {}
                Some((revision, true)) => self.record(start, writes, Some(revision)),
                None => self.record(start, writes, None),
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Compares the mod revision of a shared key with the last one seen and swaps its value.
    async fn swap(mut self) {
        self.version = vec![0; SHARED_KEYS as usize];
        while !self.stopped() {
            let slot = self.rng.below(SHARED_KEYS) as usize;
            let key = format!("{PREFIX}shared/{slot}");
            let value = self.value();
            let request = swap_request(&key, self.version[slot], value);
            let client = self.client();
            let start = self.now();
            match client.txn(request).await {
                Ok(answer) => {
                    let revision = answer.header.as_ref().map(|header| header.revision).unwrap_or(0);
                    if answer.succeeded {
                        self.version[slot] = revision;
                        self.record(start, vec![Written { key, value: Some(value) }], Some(revision));
                    } else {
                        self.told(revision);
                        self.version[slot] = mod_revision(&answer);
                    }
                }
                Err(_) => self.record(start, vec![Written { key, value: Some(value) }], None),
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn read(mut self) {
        let mut last = 0;
        while !self.stopped() {
            let request =
                RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
            let client = self.client();
            let at_least = self.shared.told.load(Ordering::SeqCst);
            if let Ok(answer) = client.range(request).await {
                let revision = answer.header.as_ref().map(|header| header.revision).unwrap_or(0);
                if revision < at_least || revision < last {
                    lock(&self.shared.faults).push(format!(
                        "stale read: revision {revision} after {at_least} was known to all and {last} to this client"
                    ));
                }
                last = revision;
                self.told(revision);
                let pairs = answer.kvs.iter().map(|kv| (text(&kv.key), number(&kv.value), kv.mod_revision));
                lock(&self.shared.observed).push(Observed { revision, pairs: pairs.collect() });
            }
            tokio::time::sleep(self.pause * 10).await;
        }
    }
}

/// Writes one key; answers the revision and whether anything was written; nothing for an unknown outcome.
async fn single(client: &Client, write: &Written) -> Option<(i64, bool)> {
    let key = write.key.clone().into();
    match write.value {
        Some(value) => {
            let request = PutRequest { key, value: value.to_string().into(), ..PutRequest::default() };
            let answer = client.put(request).await.ok()?;
            Some((answer.header?.revision, true))
        }
        None => {
            let answer = client.delete_range(DeleteRangeRequest { key, ..Default::default() }).await.ok()?;
            Some((answer.header?.revision, answer.deleted > 0))
        }
    }
}

/// Writes several keys in one transaction.
async fn several(client: &Client, writes: &[Written]) -> Option<(i64, bool)> {
    use request_op::Request;
    let success = writes.iter().map(|write| {
        let key = write.key.clone().into();
        let request = match write.value {
            Some(value) => {
                Request::RequestPut(PutRequest { key, value: value.to_string().into(), ..Default::default() })
            }
            None => Request::RequestDeleteRange(DeleteRangeRequest { key, ..Default::default() }),
        };
        RequestOp { request: Some(request) }
    });
    let request = TxnRequest { success: success.collect(), ..TxnRequest::default() };
    let answer = client.txn(request).await.ok()?;
    let wrote = answer.responses.iter().any(|response| match &response.response {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        _ => false,
    });
    Some((answer.header?.revision, wrote))
}

fn swap_request(key: &str, mod_revision: i64, value: u64) -> TxnRequest {
    use request_op::Request;
    let key: bytes::Bytes = key.to_owned().into();
    let put = PutRequest { key: key.clone(), value: value.to_string().into(), ..PutRequest::default() };
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    TxnRequest {
        compare: vec![Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key,
            target_union: Some(compare::TargetUnion::ModRevision(mod_revision)),
            ..Compare::default()
        }],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    }
}

fn mod_revision(answer: &TxnResponse) -> i64 {
    match answer.responses.first().and_then(|response| response.response.as_ref()) {
        Some(response_op::Response::ResponseRange(range)) => {
            range.kvs.first().map_or(0, |kv| kv.mod_revision)
        }
        _ => 0,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(bytes: &[u8]) -> u64 {
    text(bytes).parse().unwrap_or(0)
}

/// Watches everything from the first revision to the goal, on a random server, and on another one after
/// each failure.
async fn watch_to(shared: Arc<Shared>, mut rng: Rng, goal: Arc<AtomicI64>) -> Result<Vec<Change>, String> {
    let mut changes: Vec<Change> = Vec::new();
    let mut give_up: Option<Instant> = None;
    loop {
        let addresses = lock(&shared.addresses).clone();
        let client = Client::new(rng.pick(&addresses).as_str()).with_deadline(CALL_DEADLINE);
        // Now and then on to another server, faults or not.
        let until = Instant::now() + Duration::from_millis(2_000 + rng.below(15_000));
        let wanted = goal.load(Ordering::SeqCst);
        watch_once(&client, &mut changes, until, &goal).await?;
        if wanted != 0 && changes.last().is_some_and(|change| change.revision >= wanted) {
            return Ok(changes);
        }
        if wanted != 0 && Instant::now() > *give_up.get_or_insert(Instant::now() + Duration::from_secs(60)) {
            return Err(format!("a watcher got to {:?} of {wanted} only", changes.last()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One watch stream, from after the last change on; an error only for what must never happen.
async fn watch_once(
    client: &Client,
    changes: &mut Vec<Change>,
    until: Instant,
    goal: &AtomicI64,
) -> Result<(), String> {
    let last = changes.last().map_or(0, |change| change.revision);
    let request = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        start_revision: last + 1,
        ..WatchCreateRequest::default()
    };
    let Ok(mut stream) = client.watch(create_watch(request)).await else { return Ok(()) };
    while Instant::now() < until {
        let answer = match stream.next(Duration::from_millis(500)).await {
            Ok(Some(answer)) => answer,
            Err(error) if error.message() == "no message on the stream" => {
                if stream.send(watch_progress()).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Ok(None) | Err(_) => return Ok(()),
        };
        if answer.canceled {
            return Ok(());
        }
        take_events(changes, answer.events)?;
        let (goal, seen) = (goal.load(Ordering::SeqCst), changes.last().map_or(0, |change| change.revision));
        if goal != 0 && seen >= goal {
            return Ok(());
        }
    }
    Ok(())
}

/// Adds the events of one answer, all revisions of which must be new: a revision is never split.
fn take_events(changes: &mut Vec<Change>, events: Vec<Event>) -> Result<(), String> {
    let last = changes.last().map_or(0, |change| change.revision);
    for event in events {
        let Some(kv) = event.kv else { return Err("an event without a key".to_owned()) };
        let newest = changes.last().map_or(0, |change| change.revision);
        if kv.mod_revision <= last || kv.mod_revision < newest {
            return Err(format!("an event of {} after {newest} (answer after {last})", kv.mod_revision));
        }
        let value = (event.r#type != EventType::Delete as i32).then(|| number(&kv.value));
        changes.push(Change {
            revision: kv.mod_revision,
            key: text(&kv.key),
            value,
            version: kv.version,
            create_revision: kv.create_revision,
        });
    }
    Ok(())
}

/// Reads the whole history of the load's keys from one server, up to `revision`.
///
/// # Errors
/// When it does not get there.
pub async fn history(client: &Client, revision: i64) -> Result<Vec<Change>, Fault> {
    let (mut changes, goal) = (Vec::new(), AtomicI64::new(revision));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        watch_once(client, &mut changes, deadline, &goal).await?;
        if changes.last().is_some_and(|change| change.revision >= revision) {
            return Ok(changes);
        }
        if Instant::now() > deadline {
            return Err(format!("the history ends at {:?}, not at {revision}", changes.last()).into());
        }
    }
}
