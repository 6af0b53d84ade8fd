//! What every store must do, done by this one.

use std::sync::Arc;

use skiff_store::Store;
use skiff_store::conformance::Subject;

use crate::base::{Base, Kind};

async fn subject(kind: Kind) -> Subject {
    let base = Base::new(kind).await.expect("the database is there: asked for before");
    let store: Arc<dyn Store> = base.server().await;
    Subject::new(store).keep(base)
}

mod sqlite {
    use super::*;

    skiff_store::store_conformance!(|| subject(Kind::Sqlite));
}

mod postgres {
    use super::*;

    skiff_store::store_conformance!(|| subject(Kind::Postgres));
}

mod mariadb {
    use super::*;

    skiff_store::store_conformance!(|| subject(Kind::MariaDb));
}

/// One test for all cases: MySQL is not to be had everywhere.
mod mysql {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_cases() {
        if Base::new(Kind::MySql).await.is_some() {
            skiff_store::conformance::run_all(&|| subject(Kind::MySql)).await;
        }
    }
}
