//! The conformance suite on a local store over both engines.

use std::sync::Arc;

use super::{LocalConfig, LocalStore};
use crate::clock::ManualClock;
use crate::conformance::Subject;
use crate::engine::Engine;
use crate::engine::mem::MemEngine;
use crate::engine::rocks::{RocksEngine, RocksOptions};

fn subject(engine: Arc<dyn Engine>) -> Subject {
    let clock = Arc::new(ManualClock::default());
    let store = LocalStore::open(engine, LocalConfig::default(), clock.clone()).unwrap();
    Subject::new(store).with_clock(move |by| clock.advance(by))
}

mod memory {
    use super::*;

    crate::store_conformance!(|| async { subject(Arc::new(MemEngine::new())) });
}

mod rocksdb {
    use super::*;

    crate::store_conformance!(|| async {
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(&dir.path().join("db"), &RocksOptions::default()).unwrap();
        subject(Arc::new(engine)).keep(dir)
    });
}
