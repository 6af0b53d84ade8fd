//! What all services share.

use std::sync::Arc;

use skiff_store::pb::etcdserverpb::ResponseHeader;
use skiff_store::{Cluster, Store};

use crate::ApiConfig;
use crate::auth::Passwords;

/// The store, the membership and the settings behind every service.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) config: Arc<ApiConfig>,
    pub(crate) passwords: Arc<Passwords>,
}

impl Api {
    /// Puts the parts together.
    pub(crate) fn new(store: Arc<dyn Store>, cluster: Arc<dyn Cluster>, config: ApiConfig) -> Self {
        let passwords = Arc::new(Passwords::new(config.bcrypt_cost));
        Self { store, cluster, config: Arc::new(config), passwords }
    }

    /// Completes the header of an answer. The store has filled in the revision
    /// the request saw; where it had none to tell, the current one is told.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |h| h.revision);
        *header = Some(self.header(revision));
    }

    /// A header with the given revision, or the current one for 0.
    pub(crate) fn header(&self, revision: i64) -> ResponseHeader {
        let vitals = self.store.vitals();
        ResponseHeader {
            cluster_id: vitals.cluster_id,
            member_id: vitals.member_id,
            revision: if revision == 0 { vitals.revision } else { revision },
            raft_term: vitals.raft_term,
        }
    }
}
