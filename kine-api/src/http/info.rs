//! `/version`, `/metrics` and `/debug/vars`.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use prometheus::{Encoder, TextEncoder};
use serde_json::{Value, json};

use super::{only_get, plain};
use crate::api::Api;
use crate::{ETCD_VERSION, metrics};

/// `/version` and `/debug/vars`.
pub(super) fn routes(api: Api) -> Router {
    Router::new().route("/version", any(version)).route("/debug/vars", any(vars)).with_state(api)
}

/// `/metrics`.
pub(crate) fn metrics_routes(api: Api) -> Router {
    Router::new().route("/metrics", any(collect)).with_state(api)
}

async fn version(State(api): State<Api>, method: Method) -> Response {
    if let Some(refusal) = only_get(&method) {
        return refusal;
    }
    let status = api.store.status();
    let or_undecided =
        |version: String| Value::from(if version.is_empty() { "not_decided".to_owned() } else { version });
    let cluster = or_undecided(status.cluster_version);
    let storage = or_undecided(status.storage_version);
    // Written out to keep etcd's order of fields.
    let body = format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":{cluster},"storage":{storage}}}"#);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn collect(State(api): State<Api>) -> Response {
    metrics::set_member(&api.store.status(), &api.store.vitals());
    gathered()
}

/// All metrics of this process.
pub(crate) fn gathered() -> Response {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    if let Err(error) = encoder.encode(&prometheus::gather(), &mut text) {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("encode metrics: {error}\n"));
    }
    ([(CONTENT_TYPE, encoder.format_type())], text).into_response()
}

/// A number the process exports of itself, 0 if it does not.
fn process(name: &str) -> u64 {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == name);
    let metric = family.and_then(|family| family.get_metric().first());
    metric.map_or(0, |metric| metric.get_gauge().get_value() as u64)
}

/// What of Go's expvar has a meaning here.
async fn vars(State(api): State<Api>) -> Response {
    let status = api.store.status();
    let state = if status.leader == 0 {
        "StateCandidate"
    } else if status.leader == status.member_id {
        "StateLeader"
    } else {
        "StateFollower"
    };
    let vars = json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "file_descriptor_limit": process("process_max_fds"),
        // Of Go's numbers the one that has a meaning without Go.
        "memstats": { "Sys": process("process_resident_memory_bytes") },
        "raft.status": {
            "id": format!("{:x}", status.member_id),
            "term": status.raft_term,
            "commit": status.raft_index,
            "applied": status.raft_applied_index,
            "lead": format!("{:x}", status.leader),
            "raftState": state,
        },
    });
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], vars.to_string()).into_response()
}
