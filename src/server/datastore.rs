//! Where a server keeps its data: a store of its own, or a database.

use std::sync::Arc;

use skiff_raft::Node;
use skiff_sql::db::PoolOptions;
use skiff_sql::endpoint::Endpoint as Datastore;
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::Store;
use skiff_store::clock::SystemClock;

use crate::etcd::Running;
use crate::kine;

/// What a server keeps its data in.
pub(super) enum Data {
    /// A store of its own, one of the cluster's.
    Own(Box<Running>),
    /// A database.
    Sql(Arc<SqlStore>),
}

impl Data {
    /// Opens a database, for which it waits.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn sql(datastore: &Datastore) -> Result<Data, String> {
        let db = kine::connect(datastore, &PoolOptions::default()).await?;
        let store = SqlStore::open(db, SqlConfig::default(), Arc::new(SystemClock::default())).await;
        store.map(Data::Sql).map_err(|error| error.to_string())
    }

    /// The store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Data::Own(running) => running.node(),
            Data::Sql(store) => store.clone(),
        }
    }

    /// The member, where the store is the server's own.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        match self {
            Data::Own(running) => Some(running.node()),
            Data::Sql(_) => None,
        }
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&self) -> Result<(), String> {
        match self {
            Data::Own(running) => running.ended().await,
            Data::Sql(_) => std::future::pending().await,
        }
    }

    /// Ends it in order.
    pub(super) async fn stop(&mut self) {
        match self {
            Data::Own(running) => running.stop().await,
            Data::Sql(store) => store.stop().await,
        }
    }
}
