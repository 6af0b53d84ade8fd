//! What the API serves over plain HTTP.

mod checks;
mod health;
mod info;
mod probes;

pub(crate) use info::{gathered, metrics_routes};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, StatusCode};

use crate::api::Api;

/// Everything but metrics.
pub(crate) fn routes(api: Api) -> Router {
    health_routes(api.clone()).merge(info::routes(api))
}

/// `/health`, `/livez` and `/readyz`.
pub(crate) fn health_routes(api: Api) -> Router {
    let health = Router::new().route("/health", any(health::handle)).with_state(api.clone());
    health.merge(probes::routes(api))
}

/// The answer to a method other than GET, if it is one.
fn only_get(method: &Method) -> Option<Response> {
    if method == Method::GET {
        return None;
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET"));
    Some(response)
}

/// A text answer, as Go's http package makes it.
pub(crate) fn plain(status: StatusCode, body: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, body).into_response()
}

/// The values of a query parameter, empty ones left out.
fn values<'a>(query: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    query.iter().filter(|(key, value)| key == name && !value.is_empty()).map(|(_, v)| v.as_str()).collect()
}
