//! `/livez` and `/readyz`, whole and check by check.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::any;
use http::{Method, StatusCode};

use super::checks::Check;
use super::{only_get, plain, values};
use crate::api::Api;
use crate::metrics;

/// A set of checks under one path.
#[derive(Debug, Clone, Copy)]
struct Probe {
    name: &'static str,
    checks: &'static [Check],
}

const PROBES: [Probe; 2] = [
    Probe { name: "livez", checks: &[Check::SerializableRead] },
    Probe {
        name: "readyz",
        checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
    },
];

#[derive(Clone)]
struct Target {
    api: Api,
    probe: Probe,
    checks: Vec<Check>,
}

/// The paths of all probes.
pub(super) fn routes(api: Api) -> Router {
    let mut router = Router::new();
    let mut add = |path: String, probe: Probe, checks: Vec<Check>| {
        let target = Target { api: api.clone(), probe, checks };
        let old = std::mem::take(&mut router);
        router = old.merge(Router::new().route(&path, any(handle)).with_state(target));
    };
    for probe in PROBES {
        add(format!("/{}", probe.name), probe, probe.checks.to_vec());
        for check in probe.checks {
            add(format!("/{}/{}", probe.name, check.name()), probe, vec![*check]);
        }
    }
    router
}

async fn handle(
    State(target): State<Target>,
    method: Method,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if let Some(refusal) = only_get(&method) {
        return refusal;
    }
    let excluded = values(&query, "exclude");
    let mut details = String::new();
    let mut healthy = true;
    for check in &target.checks {
        // A single check cannot be excluded from itself.
        if target.checks.len() > 1 && excluded.contains(&check.name()) {
            continue;
        }
        healthy &= run(&target, *check, &mut details).await;
    }
    if !healthy {
        tracing::error!(probe = target.probe.name, details, "health check failed");
        return plain(StatusCode::SERVICE_UNAVAILABLE, details + "\n");
    }
    if !query.iter().any(|(key, _)| key == "verbose") {
        details.clear();
    }
    plain(StatusCode::OK, details + "ok\n")
}

/// Runs one check and writes its line.
async fn run(target: &Target, check: Check, details: &mut String) -> bool {
    let outcome = check.run(&target.api).await;
    let labels = [target.probe.name, check.name()];
    metrics::HEALTHCHECK.with_label_values(&labels).set(outcome.is_ok().into());
    let status = if outcome.is_ok() { "success" } else { "error" };
    metrics::HEALTHCHECKS.with_label_values(&[labels[0], labels[1], status]).inc();
    let written = match &outcome {
        Ok(()) => writeln!(details, "[+]{} ok", check.name()),
        Err(reason) => writeln!(details, "[-]{} failed: {reason}", check.name()),
    };
    debug_assert!(written.is_ok(), "writing to a string");
    outcome.is_ok()
}
