//! What servers keep in the datastore beside Kubernetes' objects: small values
//! under keys of their own, changed by compare-and-swap.

use std::sync::Arc;

use bytes::Bytes;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Error, Store, StoreExt};

use pb::compare::{CompareResult, CompareTarget, TargetUnion};

/// The most records that are read at once.
const MAX_LISTED: i64 = 10_000;

/// A value and the revision it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// Compared when it is replaced.
    pub revision: i64,
}

/// A change that happens together with others, or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes a key that must not be there.
    Create(String, Bytes),
    /// Writes a key, whatever is there.
    Put(String, Bytes),
    /// Deletes a key that must be at this revision.
    DeleteAt(String, i64),
    /// Changes nothing, but the key must be at this revision; 0 for not there.
    Expect(String, i64),
}

/// The servers' own records.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn Store>,
}

impl Records {
    /// Those in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Records {
        Records { store }
    }

    /// Reads one.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        let request = pb::RangeRequest { key: bytes_of(key), ..Default::default() };
        let mut reply = self.store.range(request).await?;
        Ok(reply.kvs.pop().map(|kv| Record { value: kv.value, revision: kv.mod_revision }))
    }

    /// Reads all below a prefix, by the rest of their keys.
    ///
    /// # Errors
    /// The store's; or there are too many.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, Record)>, Error> {
        let request = pb::RangeRequest {
            key: bytes_of(prefix),
            range_end: end_of(prefix),
            limit: MAX_LISTED,
            ..Default::default()
        };
        let reply = self.store.range(request).await?;
        if reply.more {
            return Err(Error::Other(format!("more than {MAX_LISTED} records below {prefix}")));
        }
        let named = reply.kvs.into_iter().map(|kv| {
            let key = String::from_utf8_lossy(&kv.key);
            let rest = key.strip_prefix(prefix).unwrap_or(&key).to_owned();
            (rest, Record { value: kv.value, revision: kv.mod_revision })
        });
        Ok(named.collect())
    }

    /// Makes all changes, or none; answers whether they were made.
    ///
    /// # Errors
    /// The store's.
    pub async fn change(&self, changes: &[Change]) -> Result<bool, Error> {
        let mut request = pb::TxnRequest::default();
        for change in changes {
            match change {
                Change::Create(key, value) => {
                    request.compare.push(is_at(key, 0));
                    request.success.push(put(key, value));
                }
                Change::Put(key, value) => request.success.push(put(key, value)),
                Change::DeleteAt(key, revision) => {
                    request.compare.push(is_at(key, *revision));
                    request.success.push(delete(key));
                }
                Change::Expect(key, revision) => request.compare.push(is_at(key, *revision)),
            }
        }
        Ok(self.store.txn(request).await?.succeeded)
    }

    /// Deletes a key; answers whether it was there.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        let request = pb::DeleteRangeRequest { key: bytes_of(key), ..Default::default() };
        Ok(self.store.delete_range(request).await?.deleted > 0)
    }
}

fn bytes_of(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// The first key after all that begin with this prefix, which ends with "/".
fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // "/" becomes "0"
    }
    end.into()
}

fn is_at(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: bytes_of(key),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn put(key: &str, value: &Bytes) -> pb::RequestOp {
    let put = pb::PutRequest { key: bytes_of(key), value: value.clone(), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

fn delete(key: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: bytes_of(key), ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(delete)) }
}

/// Records in memory, for tests.
#[cfg(test)]
pub(crate) fn in_memory() -> Records {
    use skiff_store::clock::SystemClock;
    use skiff_store::engine::mem::MemEngine;
    use skiff_store::local::{LocalConfig, LocalStore};
    let store = LocalStore::open(
        Arc::new(MemEngine::new()),
        LocalConfig::default(),
        Arc::new(SystemClock::default()),
    );
    Records::new(store.expect("a store in memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_happen_together_or_not_at_all() {
        let records = in_memory();
        let create = |key: &str| Change::Create(key.to_owned(), Bytes::from_static(b"1"));
        assert!(records.change(&[create("/x/a"), create("/x/b")]).await.unwrap());
        assert!(!records.change(&[create("/x/c"), create("/x/a")]).await.unwrap());
        assert_eq!(records.get("/x/c").await.unwrap(), None);
        let at = records.get("/x/a").await.unwrap().unwrap().revision;
        let stale = [Change::DeleteAt("/x/a".into(), at + 1), create("/x/d")];
        assert!(!records.change(&stale).await.unwrap());
        let replace = [Change::DeleteAt("/x/a".into(), at), create("/x/d"), Change::Expect("/x/e".into(), 0)];
        assert!(records.change(&replace).await.unwrap());
        let keys: Vec<String> = records.list("/x/").await.unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["b", "d"]);
        assert!(records.delete("/x/b").await.unwrap() && !records.delete("/x/b").await.unwrap());
    }
}
