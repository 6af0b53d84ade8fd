//! The clock of the database is set while servers run.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use skiff_sql::SqlConfig;
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;

use super::hooks::{self, Hook};
use super::until;
use crate::base::Base;

crate::on_each! { a_clock_that_jumps_ends_no_lease }

/// Milliseconds in an hour.
const HOUR: i64 = 3_600_000;

/// Sets the clock off.
struct Clock {
    now: &'static str,
    offset: AtomicI64,
}

impl Hook for Clock {
    fn instead(&self, sql: &str) -> String {
        sql.replace(self.now, &format!("({} + {})", self.now, self.offset.load(Ordering::Relaxed)))
    }
}

async fn a_clock_that_jumps_ends_no_lease(base: Base) {
    let db = base.database().await;
    let now: &'static str = Box::leak(db.dialect().now_millis().to_owned().into_boxed_str());
    let clock = Arc::new(Clock { now, offset: AtomicI64::new(0) });
    let server = hooks::server(&base, &clock, SqlConfig::default()).await;
    grant(&*server, 7, 600).await;
    put_leased(&*server, "leased", 7).await;
    // Once more than a look at the clock: from here on it is known.
    let rewind = format!("UPDATE skiff_lease SET expires_at = {now} + 300000");
    for offset in [HOUR, -HOUR, 0] {
        super::run(
            db.as_ref(),
            &rewind.replace(now, &format!("({now} + {})", clock.offset.load(Ordering::Relaxed))),
        )
        .await;
        let left = time_to_live(&*server, 7).await.ttl;
        assert!((200..=300).contains(&left), "{left} s are left");
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        clock.offset.store(offset, Ordering::Relaxed);
        // Renewed by its holder in the same moment, too.
        let renewed = server.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 7 }).await.unwrap();
        assert_eq!(renewed.ttl, 600, "at {offset}");
        until("the lease has its full time", async || {
            (500..=600).contains(&time_to_live(&*server, 7).await.ttl)
        })
        .await;
        assert!(get(&*server, "leased").await.is_some(), "at {offset}");
    }
    server.stop().await;
}
