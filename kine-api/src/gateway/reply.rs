//! HTTP responses made of answers.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status};

use super::call::Answer;
use super::{metadata, write};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The HTTP status of a gRPC code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // What nginx made of "client closed request"; the crate has no name for it.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An error as the whole answer.
pub(super) fn error(status: &Status) -> Response {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
    if status.code() == Code::Unauthenticated
        && let Ok(message) = HeaderValue::try_from(status.message())
    {
        headers.insert(WWW_AUTHENTICATE, message);
    }
    response(http_status(status.code()), headers, write::status(status).into())
}

/// The one message of a call.
pub(super) async fn single(mut answer: Answer, output: &MessageDescriptor) -> Response {
    let json = match answer.only().await {
        Ok(message) => write::message(output, message),
        Err(status) => Err(status),
    };
    match json {
        Ok(json) => {
            let mut headers = metadata::outgoing(&answer.metadata);
            headers.insert(CONTENT_TYPE, JSON);
            response(StatusCode::OK, headers, json.into())
        }
        Err(status) => error(&status),
    }
}

/// The messages of a call, a line each, as they come. The head waits for the
/// first, since a call that fails before it has another status.
pub(super) async fn lines(mut answer: Answer, output: MessageDescriptor) -> Response {
    let mut headers = metadata::outgoing(&answer.metadata);
    match answer.next().await {
        Ok(None) => response(StatusCode::OK, headers, Body::empty()),
        Ok(Some(first)) => {
            headers.insert(CONTENT_TYPE, JSON);
            response(StatusCode::OK, headers, Body::from_stream(rest(first, answer, output)))
        }
        Err(status) => error_line(&status),
    }
}

/// An error as the only line of a stream.
pub(super) fn error_line(status: &Status) -> Response {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
    response(http_status(status.code()), headers, write::line("error", &write::status(status)).into())
}

fn rest(
    first: Bytes,
    answer: Answer,
    output: MessageDescriptor,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Some((Some(first), answer, output)), |state| async {
        let (first, mut answer, output) = state?;
        let next = match first {
            Some(first) => Ok(Some(first)),
            None => answer.next().await,
        };
        let json = next.and_then(|next| next.map(|next| write::message(&output, next)).transpose());
        match json {
            Ok(Some(json)) => Some((Ok(write::line("result", &json)), Some((None, answer, output)))),
            Ok(None) => None,
            Err(status) => Some((Ok(write::line("error", &write::status(&status))), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_as_etcds_gateway_maps_them() {
        let want = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (code, want) in want.into_iter().enumerate() {
            assert_eq!(http_status(Code::from_i32(code as i32)).as_u16(), want, "{code}");
        }
    }
}
