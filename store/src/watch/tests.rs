//! Tests of the hub against a history that forgets nothing but on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use proptest::prelude::*;

use super::batch::{event_bytes, key_of, revision_of};
use super::*;
use crate::error::{NodeError, Result};
use crate::mvcc::KeyRange;
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};

/// A history in memory. Events hold their `prev_kv`.
#[derive(Default)]
struct Log {
    events: RwLock<Vec<Event>>,
    revision: AtomicI64,
    compacted: AtomicI64,
    broken: AtomicBool,
}

impl Log {
    /// Adds one revision that writes to some keys (true) or deletes them.
    fn commit(&self, changes: &[(u8, bool)], size: usize) -> Vec<PublishedEvent> {
        let mut events = self.events.write();
        let revision = self.revision.load(Ordering::Acquire) + 1;
        let mut published = Vec::new();
        for (key, put) in changes {
            let prev = events.iter().rev().find(|event| key_of(event) == [*key]).cloned();
            let prev = prev.filter(|event| event.r#type() == EventType::Put).and_then(|event| event.kv);
            let event = change(*key, *put, revision, prev, size);
            published.push(Event { prev_kv: None, ..event.clone() }.into());
            events.push(event);
        }
        drop(events);
        self.revision.store(revision, Ordering::Release);
        published
    }

    fn expect(&self, spec: &WatchSpec, from: i64) -> Vec<Event> {
        let range = KeyRange::new(&spec.key, &spec.range_end);
        let events = self.events.read();
        let wanted = events.iter().filter(|event| {
            let unwanted = if event.r#type() == EventType::Put { spec.no_put } else { spec.no_delete };
            revision_of(event) >= from && range.contains(key_of(event)) && !unwanted
        });
        wanted
            .map(|event| match spec.prev_kv {
                true => event.clone(),
                false => Event { prev_kv: None, ..event.clone() },
            })
            .collect()
    }
}

fn change(key: u8, put: bool, revision: i64, prev: Option<KeyValue>, size: usize) -> Event {
    let mut kv = KeyValue { key: Bytes::from(vec![key]), mod_revision: revision, ..KeyValue::default() };
    if put {
        kv.create_revision = prev.as_ref().map_or(revision, |prev| prev.create_revision);
        kv.version = prev.as_ref().map_or(0, |prev| prev.version) + 1;
        kv.value = Bytes::from(vec![b'v'; size]);
    }
    let kind = if put { EventType::Put } else { EventType::Delete };
    Event { r#type: kind as i32, kv: Some(kv), prev_kv: prev }
}

impl History for Log {
    fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    fn compact_revision(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    fn read(
        &self,
        key: &[u8],
        range_end: &[u8],
        from: i64,
        max_bytes: usize,
    ) -> Result<HistoryPage, HistoryError> {
        let compacted = self.compact_revision();
        if from < compacted {
            return Err(HistoryError::Compacted(compacted));
        }
        let range = KeyRange::new(&Bytes::copy_from_slice(key), &Bytes::copy_from_slice(range_end));
        let mut page = HistoryPage { events: Vec::new(), through: self.revision() };
        let mut bytes = 0;
        for event in self.events.read().iter().filter(|event| revision_of(event) >= from) {
            let last = page.events.last().map_or(i64::MAX, revision_of);
            if revision_of(event) > page.through {
                break;
            }
            if bytes >= max_bytes && last < revision_of(event) {
                page.through = revision_of(event) - 1;
                break;
            }
            if range.contains(key_of(event)) {
                bytes += event_bytes(event);
                page.events.push(Event { prev_kv: None, ..event.clone() });
            }
        }
        Ok(page)
    }

    fn prev_kv(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Error::Storage("broken".to_owned()));
        }
        let events = self.events.read();
        let event = events.iter().find(|event| key_of(event) == key && revision_of(event) == mod_revision);
        Ok(event.and_then(|event| event.prev_kv.clone()))
    }
}

/// A consumer that checks every item against the log.
struct Consumer {
    log: Arc<Log>,
    watcher: Watcher,
    spec: WatchSpec,
    start: i64,
    received: Vec<Event>,
    reported: i64,
    compacted: Option<i64>,
    ended: bool,
}

impl Consumer {
    fn new(hub: &Hub, log: &Arc<Log>, spec: WatchSpec) -> Self {
        let visible = log.revision();
        let start = if spec.start_revision > 0 { spec.start_revision } else { visible + 1 };
        let watcher = hub.watch(spec.clone());
        let (received, log) = (Vec::new(), Arc::clone(log));
        Self { log, watcher, spec, start, received, reported: 0, compacted: None, ended: false }
    }

    /// Takes one item, if there is one.
    fn poll(&mut self) -> bool {
        match self.watcher.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(item)) => self.check(item),
            Poll::Ready(None) => {
                self.ended = true;
                return false;
            }
            Poll::Pending => return false,
        }
        true
    }

    fn check(&mut self, item: WatchItem) {
        assert!(self.compacted.is_none(), "an item after the last");
        match item {
            WatchItem::Events { revision, events } => {
                assert!(!events.is_empty());
                assert!(revision > self.reported);
                assert!(
                    events.iter().all(|event| (self.reported + 1..=revision).contains(&revision_of(event)))
                );
                self.received.extend(events);
                self.reported = revision;
                self.check_through(revision);
            }
            WatchItem::Compacted { compact_revision } => {
                assert!(self.start.max(self.reported + 1) < compact_revision);
                self.compacted = Some(compact_revision);
            }
            WatchItem::Closed(error) => panic!("closed: {error}"),
        }
    }

    /// Everything up to `revision` has been received, and nothing else.
    fn check_through(&self, revision: i64) {
        let mut expected = self.log.expect(&self.spec, self.start);
        expected.retain(|event| revision_of(event) <= revision);
        assert_eq!(self.received, expected, "{:?} from {} through {revision}", self.spec, self.start);
    }

    fn check_progress(&self) {
        if let Some(revision) = self.watcher.progress() {
            assert!(revision >= self.reported);
            self.check_through(revision);
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// Make revisions, of some changes each, visible.
    Commit(Vec<Vec<(u8, bool)>>),
    /// Publish what is visible.
    Publish,
    Watch(WatchSpec),
    Drain(usize, usize),
    Drop(usize),
    Step(usize),
    Compact(i64),
    Reset,
}

const KEYS: u8 = 12;

fn any_spec() -> impl Strategy<Value = WatchSpec> {
    let end = prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(&[0])),
        4 => (0..=KEYS).prop_map(|end| Bytes::from(vec![end])),
    ];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (0..KEYS, end, -1i64..60, flags).prop_map(|(key, range_end, start_revision, flags)| WatchSpec {
        key: Bytes::from(vec![key]),
        range_end,
        start_revision: if start_revision % 3 == 0 { 0 } else { start_revision },
        prev_kv: flags.0,
        no_put: flags.1,
        no_delete: flags.2,
    })
}

fn any_revisions() -> impl Strategy<Value = Vec<Vec<(u8, bool)>>> {
    // A transaction changes a key once at most.
    let revision = prop::collection::btree_map(0..KEYS, prop::bool::weighted(0.7), 1..4);
    prop::collection::vec(revision.prop_map(|changes| changes.into_iter().collect()), 1..8)
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any_revisions().prop_map(Op::Commit),
        4 => Just(Op::Publish),
        3 => any_spec().prop_map(Op::Watch),
        4 => (0usize..8, 1usize..4).prop_map(|(who, items)| Op::Drain(who, items)),
        1 => (0usize..8).prop_map(Op::Drop),
        8 => (1usize..6).prop_map(Op::Step),
        1 => (0i64..60).prop_map(Op::Compact),
        1 => Just(Op::Reset),
    ]
}

/// Sizes so small that everything overflows now and then.
fn small(scale: usize) -> HubConfig {
    HubConfig {
        ring_bytes: 1500 * scale,
        watcher_queue_bytes: 600 * scale,
        inbox_bytes: 2000 * scale,
        chunk_bytes: 300 * scale,
    }
}

fn hub(log: &Arc<Log>, config: HubConfig) -> Hub {
    let weak: std::sync::Weak<Log> = Arc::downgrade(log);
    Hub::without_threads(config, log.revision(), weak)
}

struct Run {
    log: Arc<Log>,
    hub: Hub,
    consumers: Vec<Consumer>,
    unpublished: Vec<PublishedEvent>,
    size: usize,
}

impl Run {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Commit(revisions) => {
                for changes in revisions {
                    self.unpublished.extend(self.log.commit(&changes, self.size));
                }
            }
            Op::Publish => self.hub.publish(self.log.revision(), std::mem::take(&mut self.unpublished)),
            Op::Watch(spec) => self.consumers.push(Consumer::new(&self.hub, &self.log, spec)),
            Op::Drain(who, items) => {
                if let Some(consumer) = self.consumers.get_mut(who) {
                    (0..items).take_while(|_| consumer.poll()).count();
                }
            }
            Op::Drop(who) => {
                if who < self.consumers.len() {
                    self.consumers.swap_remove(who);
                }
            }
            Op::Step(times) => (0..times).for_each(|_| _ = self.hub.step()),
            Op::Compact(revision) => {
                let revision = revision.min(self.log.revision());
                self.log.compacted.fetch_max(revision, Ordering::AcqRel);
            }
            Op::Reset => {
                self.unpublished.clear();
                self.hub.reset();
            }
        }
    }

    fn finish(mut self) {
        self.apply(Op::Publish);
        let mut busy = true;
        while busy {
            busy = self.hub.step();
            for consumer in &mut self.consumers {
                busy |= consumer.poll();
            }
        }
        let newest = self.log.revision();
        for consumer in &self.consumers {
            if consumer.compacted.is_some() {
                assert!(consumer.ended);
                continue;
            }
            consumer.check_through(newest);
            assert_eq!(consumer.watcher.progress(), Some(newest));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn every_event_once_in_order(
        ops in prop::collection::vec(any_op(), 1..80),
        scale in 1usize..4,
        size in prop_oneof![Just(1usize), Just(100), Just(900)],
    ) {
        let log = Arc::new(Log::default());
        log.revision.store(1, Ordering::Release);
        let hub = hub(&log, small(scale));
        let mut run = Run { log, hub, consumers: Vec::new(), unpublished: Vec::new(), size };
        for op in ops {
            run.apply(op);
            run.consumers.iter().for_each(Consumer::check_progress);
        }
        run.finish();
    }
}

fn everything() -> WatchSpec {
    let zero = Bytes::from_static(&[0]);
    WatchSpec { key: zero.clone(), range_end: zero, ..WatchSpec::default() }
}

/// Consumers on several threads come and go while one thread publishes, with
/// queues that overflow all the time.
#[test]
fn threads_lose_nothing() {
    const REVISIONS: i64 = 3000;
    let log = Arc::new(Log::default());
    let weak: std::sync::Weak<Log> = Arc::downgrade(&log);
    let hub = Arc::new(Hub::new(small(4), 0, weak).unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let tasks: Vec<_> = (0..12u8)
        .map(|who| runtime.spawn(consume(Arc::clone(&hub), Arc::clone(&log), who, REVISIONS)))
        .collect();
    for revision in 1..=REVISIONS {
        let key = (revision % i64::from(KEYS)) as u8;
        let events = log.commit(&[(key, revision % 5 != 0), (0, true)], 50);
        hub.publish(revision, events);
    }
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}

async fn consume(hub: Arc<Hub>, log: Arc<Log>, who: u8, last: i64) {
    let mut next = 1;
    loop {
        // Half of the consumers come back at where they were, again and again.
        let (again, prev_kv) = (who.is_multiple_of(2), who.is_multiple_of(3));
        let mut left = if again { usize::MAX } else { 20 };
        let spec = WatchSpec { start_revision: next, prev_kv, ..everything() };
        let mut watcher = hub.watch(spec);
        while left > 0 && next <= last {
            let item = tokio::time::timeout(Duration::from_secs(60), watcher.next()).await;
            let Ok(Some(WatchItem::Events { revision, events })) = item else { panic!("{item:?}") };
            let mut at = events.iter().map(revision_of);
            for expected in next..=revision {
                assert_eq!((at.next(), at.next()), (Some(expected), Some(expected)));
            }
            assert_eq!(at.next(), None);
            let prevs = events.iter().filter(|event| event.prev_kv.is_some()).count();
            assert!(prevs == 0 || prev_kv);
            next = revision + 1;
            left = left.saturating_sub(1);
        }
        if next > last {
            assert_eq!(log.revision(), last);
            return until_synced(&watcher, last).await;
        }
    }
}

async fn until_synced(watcher: &Watcher, revision: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while watcher.progress() != Some(revision) {
        assert!(Instant::now() < deadline, "progress is {:?}", watcher.progress());
        tokio::task::yield_now().await;
    }
}

/// As above, while history is compacted and the state replaced under way.
#[test]
fn threads_survive_compaction_and_resets() {
    const REVISIONS: i64 = 2000;
    let log = Arc::new(Log::default());
    let weak: std::sync::Weak<Log> = Arc::downgrade(&log);
    let hub = Arc::new(Hub::new(small(2), 0, weak).unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let tasks: Vec<_> = (0..8u8)
        .map(|who| runtime.spawn(follow(Arc::clone(&hub), Arc::clone(&log), who, REVISIONS)))
        .collect();
    for revision in 1..=REVISIONS {
        let events = log.commit(&[((revision % i64::from(KEYS)) as u8, revision % 5 != 0)], 20);
        match revision % 97 {
            // As a snapshot does: what came before is never published.
            0 => hub.reset(),
            50 => {
                log.compacted.fetch_max(revision - 60, Ordering::AcqRel);
                hub.publish(revision, events);
            }
            _ => hub.publish(revision, events),
        }
    }
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}

/// Follows to the end; starts anew where compaction has overtaken it.
async fn follow(hub: Arc<Hub>, log: Arc<Log>, who: u8, last: i64) {
    let range_end = if who.is_multiple_of(2) { vec![0] } else { vec![KEYS / 2] };
    let mut start = 1;
    loop {
        let spec = WatchSpec {
            key: Bytes::from_static(&[1]),
            range_end: range_end.clone().into(),
            start_revision: start,
            prev_kv: who.is_multiple_of(4),
            ..WatchSpec::default()
        };
        let mut consumer = Consumer::new(&hub, &log, spec);
        while consumer.compacted.is_none() {
            if consumer.watcher.progress() == Some(last) {
                return consumer.check_through(last);
            }
            consumer.check_progress();
            // Progress is polled for too, hence the short wait.
            let next = tokio::time::timeout(Duration::from_millis(20), consumer.watcher.next()).await;
            if let Ok(item) = next {
                consumer.check(item.expect("an item"));
            }
        }
        start = consumer.compacted.expect("just seen");
    }
}

fn synced_log(revision: i64) -> (Arc<Log>, Hub) {
    let log = Arc::new(Log::default());
    log.revision.store(revision, Ordering::Release);
    let hub = hub(&log, HubConfig::default());
    (log, hub)
}

fn next_now(watcher: &mut Watcher) -> Option<WatchItem> {
    match watcher.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => item,
        Poll::Pending => panic!("nothing to take"),
    }
}

#[test]
fn start_at_the_compacted_revision_is_allowed() {
    let (log, _) = synced_log(0);
    (0..5).for_each(|_| drop(log.commit(&[(1, true)], 1)));
    let hub = hub(&log, HubConfig::default());
    log.compacted.store(3, Ordering::Release);
    let mut below = hub.watch(WatchSpec { start_revision: 2, ..everything() });
    assert!(matches!(next_now(&mut below), Some(WatchItem::Compacted { compact_revision: 3 })));
    assert!(next_now(&mut below).is_none());
    let mut at = hub.watch(WatchSpec { start_revision: 3, ..everything() });
    while hub.step() {}
    let Some(WatchItem::Events { revision: 5, events }) = next_now(&mut at) else { panic!() };
    assert_eq!(events.len(), 3);
}

#[test]
fn a_revision_larger_than_the_queue_gets_through() {
    let (log, hub) = synced_log(1);
    let mut watcher = hub.watch(everything());
    let events = log.commit(&[(1, true), (2, true), (3, true)], 1 << 20);
    hub.publish(2, events);
    while hub.step() {}
    let Some(WatchItem::Events { revision: 2, events }) = next_now(&mut watcher) else { panic!() };
    assert_eq!(events.len(), 3);
}

#[test]
fn idle_watchers_progress() {
    let (log, hub) = synced_log(1);
    let watcher = hub.watch(WatchSpec { key: Bytes::from_static(b"no such"), ..WatchSpec::default() });
    assert_eq!(watcher.progress(), Some(1));
    let events = log.commit(&[(1, true)], 1);
    hub.publish(2, events);
    while hub.step() {}
    assert_eq!(watcher.progress(), Some(2));
}

#[test]
fn a_previous_pair_that_cannot_be_read_ends_only_who_wants_it() {
    let (log, hub) = synced_log(1);
    hub.publish(2, log.commit(&[(1, true)], 1));
    while hub.step() {}
    log.broken.store(true, Ordering::Release);
    let mut with = hub.watch(WatchSpec { prev_kv: true, ..everything() });
    let mut without = hub.watch(everything());
    hub.publish(3, log.commit(&[(1, true)], 1));
    while hub.step() {}
    assert!(matches!(next_now(&mut with), Some(WatchItem::Closed(Error::Storage(_)))));
    assert!(matches!(next_now(&mut without), Some(WatchItem::Events { revision: 3, .. })));
}

#[test]
fn closing_reports_the_reason_after_what_is_queued() {
    let (log, hub) = synced_log(1);
    let mut watcher = hub.watch(everything());
    hub.publish(2, log.commit(&[(1, true)], 1));
    while hub.step() {}
    drop(hub);
    assert!(matches!(next_now(&mut watcher), Some(WatchItem::Events { revision: 2, .. })));
    assert!(matches!(next_now(&mut watcher), Some(WatchItem::Closed(Error::Node(NodeError::Stopped)))));
    assert!(next_now(&mut watcher).is_none());
}

#[test]
fn a_consumer_that_waits_is_woken() {
    let log = Arc::new(Log::default());
    let weak: std::sync::Weak<Log> = Arc::downgrade(&log);
    let hub = Hub::new(HubConfig::default(), 0, weak).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut watcher = hub.watch(everything());
        let publish = async {
            tokio::task::yield_now().await;
            hub.publish(1, log.commit(&[(1, true)], 1));
        };
        let both = futures::future::join(watcher.next(), publish);
        let item = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap().0;
        assert!(matches!(item, Some(WatchItem::Events { revision: 1, .. })));
    });
}

#[test]
fn many_watchers_and_prefixes_are_matched() {
    let (log, hub) = synced_log(1);
    let prefix = |i: u32| WatchSpec {
        key: Bytes::from(format!("/p/{i:05}/")),
        range_end: Bytes::from(format!("/p/{i:05}0")),
        ..WatchSpec::default()
    };
    let mut apart: Vec<_> = (0..10_000).map(|i| hub.watch(prefix(i))).collect();
    let mut same: Vec<_> = (0..10_000).map(|_| hub.watch(prefix(77))).collect();
    let kv = KeyValue {
        key: Bytes::from_static(b"/p/00077/x"),
        mod_revision: 2,
        version: 1,
        ..KeyValue::default()
    };
    log.revision.store(2, Ordering::Release);
    hub.publish(2, vec![Event { kv: Some(kv), ..Event::default() }.into()]);
    while hub.step() {}
    let mut has =
        |watcher: &mut Watcher| watcher.poll_next(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(same.iter_mut().all(&mut has));
    let hits: Vec<usize> = (0..apart.len()).filter(|i| has(&mut apart[*i])).collect();
    assert_eq!(hits, [77]);
}
