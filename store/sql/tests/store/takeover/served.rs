//! What a store serves, beside what it should.

use skiff_sql::SqlStore;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::{Event, KeyValue};
use skiff_store::watch::WatchSpec;
use skiff_store::{Store, StoreExt};

use super::model::{Change, Model, Pair, State};
use crate::servers::events_until;

fn pair(kv: &KeyValue) -> Pair {
    Pair {
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn change(event: &Event) -> Change {
    let kv = event.kv.as_ref().expect("a pair");
    Change {
        revision: kv.mod_revision,
        key: text(&kv.key),
        now: (event.r#type == 0).then(|| pair(kv)),
        before: event.prev_kv.as_ref().map(pair),
    }
}

async fn state_at(store: &SqlStore, revision: i64) -> State {
    let all = store.range(pb::RangeRequest { revision, ..everything() }).await.expect("a list");
    let mut names = keys(&all);
    names.sort();
    assert_eq!(keys(&all), names, "keys are in the order of their bytes");
    all.kvs.iter().map(|kv| (text(&kv.key), pair(kv))).collect()
}

/// The keys that a store serves now.
pub(super) async fn state(store: &SqlStore) -> State {
    state_at(store, 0).await
}

/// Checks everything that a store serves: the keys at each revision, the
/// history, the leases.
pub(super) async fn check(store: &SqlStore, model: &Model, of: &str) {
    assert_eq!(state(store).await, model.state(), "{of}: now");
    let status = store.status();
    assert_eq!((status.revision, status.compact_revision), (model.revision, model.compacted), "{of}");
    for revision in model.compacted..=model.revision {
        assert_eq!(state_at(store, revision).await, model.state_at(revision), "{of}: at {revision}");
    }
    let below = pb::RangeRequest { revision: model.compacted - 1, ..everything() };
    assert_error(store.range(below).await, skiff_store::ApiError::Compacted);
    if model.revision > model.compacted {
        let spec = WatchSpec { prev_kv: true, ..watch_all(model.compacted + 1) };
        let events = events_until(&mut store.watch(spec), model.revision).await;
        let seen: Vec<Change> = events.iter().map(change).collect();
        assert_eq!(seen, model.changes, "{of}: history");
    }
    let mut leases: Vec<i64> = model.state().values().map(|pair| pair.lease).filter(|id| *id > 0).collect();
    leases.dedup();
    for id in leases {
        let left = time_to_live(store, id).await;
        assert!(left.granted_ttl == id && left.ttl > id - 300 && left.ttl <= id, "{of}: {left:?}");
        let mut of_lease: Vec<String> = left.keys.iter().map(|key| text(key)).collect();
        of_lease.sort();
        let state = model.state();
        let expected = state.iter().filter(|(_, pair)| pair.lease == id).map(|(key, _)| key.clone());
        assert_eq!(of_lease, expected.collect::<Vec<_>>(), "{of}: keys of the lease {id}");
    }
}
