//! The single checks behind health and readiness.

use bytes::Bytes;
use skiff_store::StoreExt;
use skiff_store::pb::etcdserverpb::{AlarmType, RangeRequest};

use crate::api::Api;

/// A check of `/livez` or `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// No member holds damaged data.
    DataCorruption,
    /// This member answers from its own state.
    SerializableRead,
    /// The cluster agrees.
    LinearizableRead,
    /// This member votes.
    NonLearner,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// Runs the check; the error is the reason it failed.
    pub(super) async fn run(self, api: &Api) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let corrupt = api.store.status().alarms.iter().any(|a| a.alarm() == AlarmType::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Check::SerializableRead => read(api, true).await,
            Check::LinearizableRead => read(api, false).await,
            Check::NonLearner => {
                let learner = api.store.vitals().is_learner;
                if learner { Err("not supported for learner".to_owned()) } else { Ok(()) }
            }
        }
    }
}

/// Reads next to nothing, within the time of a request.
pub(super) async fn read(api: &Api, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        key: Bytes::from_static(&[0]),
        limit: 1,
        keys_only: true,
        serializable,
        ..Default::default()
    };
    match tokio::time::timeout(api.config.request_timeout, api.store.range(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}
