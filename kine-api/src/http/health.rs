//! `/health`.

use axum::extract::{Query, State};
use axum::response::Response;
use http::{Method, StatusCode};
use skiff_store::pb::etcdserverpb::AlarmType;

use super::{checks, only_get, plain, values};
use crate::api::Api;
use crate::metrics;

/// Answers whether the member, or with it the cluster, can serve.
pub(super) async fn handle(
    State(api): State<Api>,
    method: Method,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if let Some(refusal) = only_get(&method) {
        return refusal;
    }
    let serializable = query.iter().any(|(key, value)| key == "serializable" && value == "true");
    match reason(&api, &values(&query, "exclude"), serializable).await {
        None => {
            metrics::HEALTH_SUCCESS.inc();
            plain(StatusCode::OK, body("true", ""))
        }
        Some(reason) => {
            metrics::HEALTH_FAILURES.inc();
            tracing::warn!(reason, "serving /health false");
            plain(StatusCode::SERVICE_UNAVAILABLE, body("false", &reason) + "\n")
        }
    }
}

fn body(health: &str, reason: &str) -> String {
    // Written out: serde_json's map would not promise etcd's order of fields.
    format!(r#"{{"health":"{health}","reason":{}}}"#, serde_json::Value::from(reason))
}

/// Why the member is not healthy.
async fn reason(api: &Api, excluded_alarms: &[&str], serializable: bool) -> Option<String> {
    let status = api.store.status();
    for alarm in &status.alarms {
        if excluded_alarms.contains(&alarm.alarm().as_str_name()) {
            continue;
        }
        return Some(match AlarmType::try_from(alarm.alarm) {
            Ok(AlarmType::Nospace) => "ALARM NOSPACE".to_owned(),
            Ok(AlarmType::Corrupt) => "ALARM CORRUPT".to_owned(),
            _ => "ALARM UNKNOWN".to_owned(),
        });
    }
    if !serializable && status.leader == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    checks::read(api, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}
