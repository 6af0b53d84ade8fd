//! JSON in requests and answers. axum's own would be one more feature for what is
//! a page, and would answer malformed requests in other words than ours.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Refusal;

/// A value as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body =
            Bytes::from_request(request, state).await.map_err(|e| Refusal::bad_request(e.body_text()))?;
        let value = serde_json::from_slice(&body);
        value.map(Json).map_err(|e| Refusal::bad_request(format!("the request cannot be read: {e}")))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => {
                let kind = HeaderValue::from_static("application/json");
                ([(CONTENT_TYPE, kind)], text).into_response()
            }
            Err(error) => Refusal::internal(error).into_response(),
        }
    }
}
