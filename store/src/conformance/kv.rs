//! Puts and deletions.

use bytes::Bytes;

use super::Make;
use super::support::*;
use crate::api::StoreExt;
use crate::error::ApiError;
use crate::pb::etcdserverpb as pb;

/// A new store is at revision 1 and has no keys.
pub async fn empty_store(make: &dyn Make) {
    let s = make.make().await;
    let all = s.range(everything()).await.unwrap();
    assert_eq!((revision(&all.header), all.count, all.kvs.len(), all.more), (1, 0, 0, false));
}

/// Versions and revisions of a key over its lives.
pub async fn versions(make: &dyn Make) {
    let s = make.make().await;
    let describe = async || {
        let kv = get(&*s, "a").await.unwrap();
        (kv.create_revision, kv.mod_revision, kv.version, text(&kv.value))
    };
    assert_eq!(put(&*s, "a", "1").await, 2);
    assert_eq!(describe().await, (2, 2, 1, "1".to_owned()));
    assert_eq!(put(&*s, "a", "2").await, 3);
    assert_eq!(describe().await, (2, 3, 2, "2".to_owned()));
    assert_eq!(delete(&*s, "a").await, 4);
    assert!(get(&*s, "a").await.is_none());
    assert_eq!(put(&*s, "a", "3").await, 5);
    assert_eq!(describe().await, (5, 5, 1, "3".to_owned()));
}

/// Keys and values are any bytes.
pub async fn binary_keys(make: &dyn Make) {
    let s = make.make().await;
    let keys: [&[u8]; 8] = [b"\0", b"\0\0", b"\0\xff", b"a\0", b"a\0\0b", b"\xff", b"\xff\0", b"\xff\xff"];
    for key in keys {
        let key = Bytes::copy_from_slice(key);
        s.put(pb::PutRequest { value: key.clone(), key, ..Default::default() }).await.unwrap();
    }
    let all = s.range(everything()).await.unwrap();
    assert_eq!(all.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), keys);
    assert!(all.kvs.iter().all(|kv| kv.key == kv.value));
    for key in keys {
        let one = pb::RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        assert_eq!(s.range(one).await.unwrap().count, 1);
    }
}

/// A put answers the pair before it, on request.
pub async fn put_prev_kv(make: &dyn Make) {
    let s = make.make().await;
    let request = |value| pb::PutRequest { prev_kv: true, ..put_request("a", value) };
    assert_eq!(s.put(request("1")).await.unwrap().prev_kv, None);
    let before = get(&*s, "a").await;
    assert_eq!(s.put(request("2")).await.unwrap().prev_kv, before);
    assert_eq!(s.put(put_request("a", "3")).await.unwrap().prev_kv, None);
    delete(&*s, "a").await;
    assert_eq!(s.put(request("4")).await.unwrap().prev_kv, None);
}

/// `ignore_value` and `ignore_lease` keep what is there, and need it there.
pub async fn put_ignore(make: &dyn Make) {
    let s = make.make().await;
    let keep_value = pb::PutRequest { ignore_value: true, ..put_request("a", "") };
    let keep_lease = pb::PutRequest { ignore_lease: true, ..put_request("a", "2") };
    assert_error(s.put(keep_value.clone()).await, ApiError::KeyNotFound);
    assert_error(s.put(keep_lease.clone()).await, ApiError::KeyNotFound);
    assert_eq!(revision(&s.range(everything()).await.unwrap().header), 1);

    grant(&*s, 7, 1000).await;
    put_leased(&*s, "a", 7).await;
    s.put(keep_lease).await.unwrap();
    let kv = get(&*s, "a").await.unwrap();
    assert_eq!((text(&kv.value).as_str(), kv.lease, kv.version), ("2", 7, 2));
    s.put(keep_value.clone()).await.unwrap();
    let kv = get(&*s, "a").await.unwrap();
    assert_eq!((text(&kv.value).as_str(), kv.lease, kv.version), ("2", 0, 3));
    assert!(lease_keys(&*s, 7).await.is_empty());

    delete(&*s, "a").await;
    assert_error(s.put(keep_value).await, ApiError::KeyNotFound);
}

/// Deletions count, and take one revision, or none.
pub async fn delete_range(make: &dyn Make) {
    let s = make.make().await;
    for key in ["a", "b", "c", "d"] {
        put(&*s, key, key).await;
    }
    let nothing = s.delete_range(delete_request("x", "z")).await.unwrap();
    assert_eq!((nothing.deleted, revision(&nothing.header)), (0, 5));
    let before = s.range(range_request("b", "d")).await.unwrap().kvs;
    let request = pb::DeleteRangeRequest { prev_kv: true, ..delete_request("b", "d") };
    let two = s.delete_range(request).await.unwrap();
    assert_eq!((two.deleted, revision(&two.header)), (2, 6));
    assert_eq!(two.prev_kvs, before);
    let rest = s.delete_range(delete_request("\0", "\0")).await.unwrap();
    assert_eq!((rest.deleted, revision(&rest.header), rest.prev_kvs.len()), (2, 7, 0));
    assert_eq!(s.range(everything()).await.unwrap().count, 0);
}

/// Writes of many clients take one revision each, and all of them are kept.
pub async fn concurrent_writes(make: &dyn Make) {
    let s = make.make().await;
    let writers = (0..16).map(|writer| {
        let s = &s;
        async move {
            let mut revisions = Vec::new();
            for i in 0..16 {
                revisions.push(put(&**s, &format!("{writer:02}/{i:02}"), "v").await);
            }
            assert!(revisions.is_sorted());
            revisions
        }
    });
    let mut revisions = futures::future::join_all(writers).await.concat();
    revisions.sort();
    assert_eq!(revisions, (2..258).collect::<Vec<i64>>());
    assert_eq!(s.range(everything()).await.unwrap().count, 256);
}
