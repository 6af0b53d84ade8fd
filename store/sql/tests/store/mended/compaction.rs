//! What a step of compaction costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use skiff_sql::SqlConfig;
use skiff_sql::db::DbError;
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;

use super::hooks::{self, Hook};
use super::number;
use crate::base::Base;

crate::on_each! { compaction_looks_at_what_it_compacts }

/// Counts the rows of `skiff_row` that are read.
#[derive(Default)]
struct Reading(AtomicUsize);

#[async_trait]
impl Hook for Reading {
    async fn after(&self, sql: &str, rows: usize) -> Result<(), DbError> {
        if sql.contains("skiff_row") {
            self.0.fetch_add(rows, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A key that `kine` cannot hold.
fn odd(number: u32) -> Bytes {
    [&[0xff, 0][..], &number.to_be_bytes()].concat().into()
}

fn put_odd(number: u32, value: &str) -> pb::RequestOp {
    let request = pb::PutRequest { key: odd(number), value: value.to_owned().into(), ..Default::default() };
    op(pb::request_op::Request::RequestPut(request))
}

async fn compaction_looks_at_what_it_compacts(base: Base) {
    let reading = Arc::new(Reading::default());
    let server = hooks::server(&base, &reading, SqlConfig::default()).await;
    for batch in 0..6 {
        let puts = (0..100).map(|n| put_odd(batch * 100 + n, "1")).collect();
        server.txn(txn_of(puts)).await.unwrap();
    }
    let at = put(&*server, "a", "1").await;
    compact(&*server, at, true).await;
    let db = base.database().await;
    let rows = "SELECT COUNT(*) FROM skiff_row";
    assert_eq!(number(db.as_ref(), rows).await, 600);
    // Some of them change: versions that are replaced go, those that are not stay.
    let before = reading.0.load(Ordering::Relaxed);
    server.txn(txn_of(vec![put_odd(3, "2"), put_odd(4, "2"), op_put("b", "1")])).await.unwrap();
    server.txn(txn_of(vec![op_put("a", "2"), op_put("b", "2"), put_odd(4, "3")])).await.unwrap();
    let gone = pb::DeleteRangeRequest { key: odd(500), range_end: odd(510), ..Default::default() };
    server.delete_range(gone).await.unwrap();
    delete(&*server, "b").await;
    let at = put(&*server, "a", "3").await;
    compact(&*server, at, true).await;
    assert_eq!(number(db.as_ref(), rows).await, 600 - 10);
    assert_eq!(number(db.as_ref(), "SELECT COUNT(*) FROM kine WHERE name = 'a' OR name = 'b'").await, 1);
    let read = reading.0.load(Ordering::Relaxed) - before;
    assert!(read < 100, "{read} rows were read for a few changes");
    let all = server.range(everything()).await.unwrap();
    server.stop().await;
    let again = base.server().await;
    assert_eq!(again.range(everything()).await.unwrap().kvs, all.kvs);
    assert_eq!(all.count, 591);
    again.stop().await;
}
