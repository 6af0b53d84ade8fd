//! Why a request is refused: a status, and a sentence in the shape of Kubernetes'
//! own errors.

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use skiff_token::wire::{self, Refused};

use super::body::Json;

/// Seconds after which to try again what did not go now.
const RETRY_SECONDS: u64 = 2;

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    text: String,
    reason: Option<Refused>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), reason: None }
    }

    /// Who asks has shown nothing that counts.
    pub(super) fn unauthorized(reason: Refused, text: &str) -> Refusal {
        Refusal { reason: Some(reason), ..Refusal::new(StatusCode::UNAUTHORIZED, text) }
    }

    /// Who asks may not.
    pub(super) fn forbidden(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, text)
    }

    /// The node's password is another one.
    pub(super) fn node_password(text: impl Into<String>) -> Refusal {
        Refusal { reason: Some(Refused::NodePassword), ..Refusal::forbidden(text) }
    }

    /// The request makes no sense.
    pub(super) fn bad_request(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, text)
    }

    /// There is nothing here.
    pub(super) fn not_found(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, text)
    }

    /// It contradicts what there is.
    pub(super) fn conflict(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::CONFLICT, text)
    }

    /// It may go later.
    pub(super) fn unavailable(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// Too many ask.
    pub(super) fn too_many() -> Refusal {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests at a time; try again")
    }

    /// Something is wrong with this server. The reason goes to its log alone.
    pub(super) fn internal(problem: impl std::fmt::Display) -> Refusal {
        tracing::warn!(%problem, "a request to the supervisor failed");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "this server has a problem; its log says which")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": self.text,
            "code": self.status.as_u16(),
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(reason) = self.reason {
            headers.insert(HeaderName::from_static(wire::REFUSED), HeaderValue::from_static(reason.name()));
        }
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"skiff\""));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
            }
            _ => {}
        }
        response
    }
}
