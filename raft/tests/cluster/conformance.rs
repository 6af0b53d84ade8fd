//! What every store must do, done by members of a cluster.

use std::sync::Arc;

use skiff_store::Store;
use skiff_store::conformance::Subject;

use crate::harness::Cluster;

async fn subject(members: usize, follower: bool) -> Subject {
    let cluster = Cluster::start(members).await;
    let leader = cluster.leader().await;
    let index = if follower { (leader + 1) % members } else { leader };
    let store: Arc<dyn Store> = cluster.node(index).clone();
    Subject::new(store).keep(cluster)
}

mod alone {
    use super::*;

    skiff_store::store_conformance!(|| subject(1, false));
}

/// Every request goes through a member that does not lead.
mod follower {
    use super::*;

    skiff_store::store_conformance!(|| subject(3, true));
}
