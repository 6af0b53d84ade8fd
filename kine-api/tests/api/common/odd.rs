//! A store that pretends: to have no leader, to be a learner, to be slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_store::clock::SystemClock;
use skiff_store::engine::mem::MemEngine;
use skiff_store::local::{LocalConfig, LocalStore};
use skiff_store::pb::etcdserverpb::{AlarmMember, RangeRequest};
use skiff_store::watch::{WatchSpec, Watcher};
use skiff_store::{
    Access, Caller, NodeError, RangeStream, Read, ReadReply, Result, SnapshotStream, Status, Store, Vitals,
    Write, WriteReply,
};
use tokio::sync::watch;

/// A store of one member whose state can be bent.
pub struct OddStore {
    pub inner: Arc<LocalStore>,
    pub leader: watch::Sender<u64>,
    pub learner: AtomicBool,
    pub alarms: Mutex<Vec<AlarmMember>>,
    pub delay_ms: AtomicU64,
}

impl OddStore {
    pub fn new() -> Arc<Self> {
        let engine = Arc::new(MemEngine::new());
        let inner =
            LocalStore::open(engine, LocalConfig::default(), Arc::new(SystemClock::default())).unwrap();
        let leader = watch::Sender::new(inner.vitals().leader);
        Arc::new(Self {
            inner,
            leader,
            learner: AtomicBool::new(false),
            alarms: Mutex::default(),
            delay_ms: AtomicU64::new(0),
        })
    }

    pub fn lose_leader(&self) {
        self.leader.send_replace(0);
    }
}

#[async_trait]
impl Store for OddStore {
    async fn read(&self, caller: Option<&Caller>, read: Read) -> Result<ReadReply> {
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))).await;
        let serializable = matches!(&read, Read::Range(request) if request.serializable);
        if *self.leader.borrow() == 0 && !serializable {
            return Err(NodeError::NoLeader.into());
        }
        self.inner.read(caller, read).await
    }

    async fn read_stream(&self, caller: Option<&Caller>, request: RangeRequest) -> Result<RangeStream> {
        self.inner.read_stream(caller, request).await
    }

    async fn write(&self, caller: Option<&Caller>, write: Write) -> Result<WriteReply> {
        self.inner.write(caller, write).await
    }

    fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()> {
        self.inner.authorize(caller, access)
    }

    async fn resolve_token(&self, token: &str) -> Result<Caller> {
        self.inner.resolve_token(token).await
    }

    fn watch(&self, spec: WatchSpec) -> Watcher {
        self.inner.watch(spec)
    }

    fn status(&self) -> Status {
        Status {
            leader: *self.leader.borrow(),
            is_learner: self.learner.load(Ordering::Relaxed),
            alarms: self.alarms.lock().clone(),
            ..self.inner.status()
        }
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            leader: *self.leader.borrow(),
            is_learner: self.learner.load(Ordering::Relaxed),
            ..self.inner.vitals()
        }
    }

    fn leader(&self) -> watch::Receiver<u64> {
        self.leader.subscribe()
    }

    async fn snapshot(&self) -> Result<SnapshotStream> {
        self.inner.snapshot().await
    }

    async fn defragment(&self) -> Result<()> {
        self.inner.defragment().await
    }
}
