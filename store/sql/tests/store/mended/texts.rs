//! What a request has the database prepare: each text of a statement is prepared
//! once a connection, and thrown out again when there are too many. A value in a
//! text costs that for every request, and on MySQL the delayed acknowledgement
//! of a packet that the database does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, Session};
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;

use super::hooks::{self, Hook};
use crate::base::Base;

crate::on_each! { no_value_stands_in_a_text }

/// Texts of statements, by what they are without their digits.
#[derive(Default)]
struct Texts(Mutex<BTreeMap<String, BTreeSet<String>>>);

#[async_trait]
impl Hook for Texts {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        let shape: String = sql.chars().filter(|c| !c.is_ascii_digit()).collect();
        self.0.lock().expect("texts").entry(shape).or_default().insert(sql.to_owned());
        Ok(())
    }
}

async fn no_value_stands_in_a_text(base: Base) {
    let texts = Arc::new(Texts::default());
    let server = hooks::server(&base, &texts, SqlConfig::default()).await;
    for round in 0..8 {
        let lease = 100 + round;
        grant(&*server, lease, 60).await;
        put_leased(&*server, &format!("key/{round}"), lease).await;
        put(&*server, "the same", "x").await;
        server.lease_keep_alive(pb::LeaseKeepAliveRequest { id: lease }).await.expect("a renewal");
        let request = pb::DeleteRangeRequest { key: format!("key/{round}").into(), ..Default::default() };
        server.delete_range(request).await.expect("a deletion");
        put(&*server, &format!("key/{round}"), "again").await;
    }
    server.stop().await;
    let texts = texts.0.lock().expect("texts");
    assert!(texts.keys().any(|shape| shape.starts_with("INSERT INTO kine")), "{texts:?}");
    for (shape, texts) in texts.iter() {
        assert!(texts.len() < 4, "{shape}: {texts:?}");
    }
}
