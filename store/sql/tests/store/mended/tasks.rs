//! Tasks of the store that end although they should not.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, Session};
use skiff_store::conformance::support::*;
use skiff_store::{Code, Store, StoreExt};

use super::hooks::{self, Hook};
use super::until;
use crate::base::{Base, Kind};

/// Panics at a statement, once.
#[derive(Default)]
struct Fault(Mutex<Option<&'static str>>);

#[async_trait]
impl Hook for Fault {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        if self.0.lock().take_if(|part| sql.contains(*part)).is_some() {
            panic!("a fault of the test's");
        }
        Ok(())
    }
}

async fn server() -> (Base, Arc<Fault>, Arc<skiff_sql::SqlStore>) {
    let (base, fault) = (Base::new(Kind::Sqlite).await.unwrap(), Arc::new(Fault::default()));
    let server = hooks::server(&base, &fault, SqlConfig::default()).await;
    (base, fault, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_can_begin_again_does() {
    let (_base, fault, server) = server().await;
    *fault.0.lock() = Some("FROM skiff_lease WHERE expires_at");
    grant(&*server, 7, 2).await;
    put_leased(&*server, "leased", 7).await;
    until("the lease ends all the same", async || get(&*server, "leased").await.is_none()).await;
    assert!(fault.0.lock().is_none(), "the fault did not happen");
    for task in ["LENGTH(entry)", "FROM skiff_progress"] {
        *fault.0.lock() = Some(task);
        let last = put(&*server, "a", task).await;
        compact(&*server, last, false).await;
        until("the fault happens", async || fault.0.lock().is_none()).await;
    }
    let last = put(&*server, "a", "").await;
    compact(&*server, last, true).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_writer_the_store_does_not_serve() {
    for part in ["INSERT INTO skiff_log", "UPDATE skiff_lease", "SELECT log_index"] {
        let (_base, fault, server) = server().await;
        grant(&*server, 7, 500).await;
        *fault.0.lock() = Some(part);
        let _ = server.lease_keep_alive(skiff_store::pb::etcdserverpb::LeaseKeepAliveRequest { id: 7 }).await;
        let _ = server.put(put_request("a", "1")).await;
        until("it says so", async || server.status().leader == 0).await;
        let refused = server.put(put_request("a", "2")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.to_string().contains("a fault of the test's"), "{refused}");
        assert!(server.range(everything()).await.is_err());
        assert!(server.status().errors.iter().any(|error| error.contains("ended")));
        server.stop().await;
    }
}
