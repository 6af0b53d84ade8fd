//! Leases that nobody could renew, and those of a kine beside us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, DbErrorKind, Session};
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;

use super::hooks::{self, Hook};
use super::{number, run, until};
use crate::base::Base;
use crate::kine::{self, Row};

crate::on_each! { leases_outlive_an_outage_of_writes leases_of_kine_live_on_with_each_row }

/// A database that takes no writes for a while, and answers reads.
#[derive(Default)]
struct NoWrites {
    now: AtomicBool,
    refused_renewals: AtomicUsize,
}

#[async_trait]
impl Hook for NoWrites {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        let writes = ["BEGIN", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
        if !writes || !self.now.load(Ordering::Relaxed) {
            return Ok(());
        }
        if sql.starts_with("UPDATE skiff_lease") {
            self.refused_renewals.fetch_add(1, Ordering::Relaxed);
        }
        Err(DbError::new(DbErrorKind::Unreachable, "no writes now"))
    }
}

async fn leases_outlive_an_outage_of_writes(base: Base) {
    let outage = Arc::new(NoWrites::default());
    let config = SqlConfig { request_timeout: DEADLINE, ..SqlConfig::default() };
    let server = hooks::server(&base, &outage, config).await;
    grant(&*server, 7, 2).await;
    put_leased(&*server, "leased", 7).await;
    outage.now.store(true, Ordering::Relaxed);
    let holder = server.clone();
    let renewal =
        tokio::spawn(async move { holder.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 7 }).await });
    until("a renewal is refused", async || outage.refused_renewals.load(Ordering::Relaxed) > 0).await;
    let db = base.database().await;
    let over = format!("SELECT COUNT(*) FROM skiff_lease WHERE expires_at <= {}", db.dialect().now_millis());
    // Reads are answered meanwhile: only what writes knows of the outage.
    until("its time is over", async || {
        assert!(get(&*server, "leased").await.is_some());
        number(db.as_ref(), &over).await == 1
    })
    .await;
    outage.now.store(false, Ordering::Relaxed);
    assert_eq!(renewal.await.unwrap().unwrap().ttl, 2, "it lives on");
    assert!(get(&*server, "leased").await.is_some());
    // From now on it ends as any other.
    until("it ends", async || get(&*server, "leased").await.is_none()).await;
    server.stop().await;
}

/// kine writes the time that a row lives into it; all rows of one time are one
/// lease here, which must not end before the last of them.
async fn leases_of_kine_live_on_with_each_row(base: Base) {
    let server =
        base.server_with(SqlConfig { request_timeout: Duration::from_secs(30), ..Default::default() }).await;
    put(&*server, "a", "").await;
    let db = base.database().await;
    let written = async |id: i64, name: &'static str| {
        let row = Row {
            id,
            name: name.into(),
            created: true,
            deleted: false,
            create_revision: 0,
            prev_revision: 0,
            lease: 1000,
            value: Some("event".into()),
            old_value: None,
        };
        kine::insert(db.session().await.unwrap().as_mut(), &[row]).await;
    };
    written(3, "/events/1").await;
    assert_eq!(get(&*server, "/events/1").await.unwrap().lease, 1000);
    assert!((990..=1000).contains(&time_to_live(&*server, 1000).await.ttl));
    run(db.as_ref(), "UPDATE skiff_lease SET expires_at = expires_at - 900000").await;
    assert!(time_to_live(&*server, 1000).await.ttl <= 100);
    written(4, "/events/2").await;
    assert_eq!(get(&*server, "/events/2").await.unwrap().lease, 1000);
    assert!((980..=1000).contains(&time_to_live(&*server, 1000).await.ttl));
    assert_eq!(lease_keys(&*server, 1000).await, ["/events/1", "/events/2"]);
    // And its end is theirs.
    run(db.as_ref(), "UPDATE skiff_lease SET expires_at = expires_at - 1000000").await;
    until("both are gone", async || {
        get(&*server, "/events/1").await.is_none() && get(&*server, "/events/2").await.is_none()
    })
    .await;
    server.stop().await;
}
