//! What a client port lets in: which names HTTP clients may address this
//! server by (`--host-whitelist`), which origins browsers may call from
//! (`--cors`), and gRPC or HTTP alone (`--listen-client-http-urls`).
//!
//! The names guard browsers against DNS rebinding. gRPC clients are let
//! through, since a browser cannot speak HTTP/2 without TLS; so are clients on
//! TLS, whose name was checked.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::HeaderValue;
use hyper::{Method, StatusCode, Version};

/// Which protocols a port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    /// Both.
    All,
    /// gRPC alone; HTTP has URLs of its own.
    Grpc,
    /// HTTP alone.
    Http,
}

/// Texts that are allowed.
#[derive(Debug, Clone)]
struct Allowed(Option<Vec<String>>);

impl Allowed {
    /// None given, or a `*` among them, allows everything.
    fn new(texts: &[String]) -> Allowed {
        let any = texts.is_empty() || texts.iter().any(|text| text == "*");
        Allowed((!any).then(|| texts.to_vec()))
    }

    fn any(&self) -> bool {
        self.0.is_none()
    }

    fn has(&self, text: &str) -> bool {
        self.0.as_ref().is_none_or(|texts| texts.iter().any(|allowed| allowed == text))
    }
}

/// The rules of a port.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    serves: Serves,
    hosts: Allowed,
    /// `None` where browsers' questions are not answered at all.
    origins: Option<Allowed>,
}

impl Access {
    /// The rules for these host names. A port with TLS has none: its name is
    /// in its certificate.
    pub(crate) fn new(hosts: &[String], tls: bool) -> Access {
        let hosts = if tls { Allowed(None) } else { Allowed::new(hosts) };
        Access { serves: Serves::All, hosts, origins: None }
    }

    /// The same with origins that browsers may call from.
    pub(crate) fn with_origins(self, origins: &[String]) -> Access {
        Access { origins: Some(Allowed::new(origins)), ..self }
    }

    /// The same for some protocols alone.
    pub(crate) fn serving(self, serves: Serves) -> Access {
        Access { serves, ..self }
    }

    /// Puts the rules before a router.
    pub(crate) fn guard(self, router: Router) -> Router {
        if self.serves == Serves::All && self.hosts.any() && self.origins.is_none() {
            return router; // nothing to check, and layering is not free
        }
        router.layer(from_fn(move |request, next| {
            let rules = self.clone();
            rules.check(request, next)
        }))
    }

    /// Passes a request on, or answers it.
    async fn check(self, request: Request, next: Next) -> Response {
        match (is_grpc(&request), self.serves) {
            (true, Serves::Http) => {
                let text = "this URL serves HTTP alone; gRPC is at --listen-client-urls";
                return tonic::Status::unimplemented(text).into_http::<Body>();
            }
            (true, _) => return next.run(request).await,
            (false, Serves::Grpc) => {
                let text = "this URL serves gRPC alone; HTTP is at --listen-client-http-urls\n";
                return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned());
            }
            (false, _) => {}
        }
        let host = host(&request);
        if !self.hosts.has(&host) {
            tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
            return plain(StatusCode::MISDIRECTED_REQUEST, misdirected(&host));
        }
        let origin = self.origin(&request);
        let mut response = if self.origins.is_some() && request.method() == Method::OPTIONS {
            StatusCode::OK.into_response()
        } else {
            next.run(request).await
        };
        if let Some(origin) = origin {
            allow(&mut response, origin);
        }
        response
    }

    /// The origin to tell a browser.
    fn origin(&self, request: &Request) -> Option<HeaderValue> {
        let origins = self.origins.as_ref()?;
        if origins.any() {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.headers().get(ORIGIN)?;
        origin.to_str().ok().filter(|origin| origins.has(origin)).map(|_| origin.clone())
    }
}

/// Tells a browser that pages of this origin may call.
fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
    headers.append(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let names = HeaderValue::from_static("accept, content-type, authorization");
    headers.append(ACCESS_CONTROL_ALLOW_HEADERS, names);
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The host a request is for, without the port.
fn host(request: &Request) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or(header).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => host.to_owned(),
    }
}

/// etcd's words, which people search for.
fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n\n"
    )
}

fn plain(status: StatusCode, text: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::routing::any;
    use tower::ServiceExt;

    use super::*;

    async fn ask(
        access: &Access,
        build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Response {
        let router = access.clone().guard(Router::new().route("/v3/kv/range", any(|| async { "in" })));
        let request = build(Request::builder().uri("/v3/kv/range")).body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_strange_host_is_misdirected_whatever_it_claims_to_be() {
        let access = Access::new(&texts(&["good", "::1"]), false);
        for host in ["good", "good:2379", "[::1]:2379"] {
            assert_eq!(ask(&access, |r| r.header(HOST, host)).await.status(), StatusCode::OK, "{host}");
        }
        for host in ["evil", "evil:2379", "good.evil", ""] {
            let response = ask(&access, |r| r.header(HOST, host)).await;
            assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        // A page of a rebound name may set any content type.
        let grpc = |r: hyper::http::request::Builder| {
            r.header(HOST, "evil").header(CONTENT_TYPE, "application/grpc")
        };
        assert_eq!(ask(&access, grpc).await.status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(ask(&access, |r| grpc(r).version(Version::HTTP_2)).await.status(), StatusCode::OK);
        let tls = Access::new(&texts(&["good"]), true);
        assert_eq!(ask(&tls, |r| r.header(HOST, "evil")).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn origins_are_told_to_those_that_are_allowed() {
        let allowed = |response: &Response| {
            response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap().to_owned())
        };
        let all = Access::new(&[], false).with_origins(&texts(&["*"]));
        assert_eq!(allowed(&ask(&all, |r| r).await).as_deref(), Some("*"));
        let some = Access::new(&[], false).with_origins(&texts(&["http://a:1", "http://b:1"]));
        assert_eq!(
            allowed(&ask(&some, |r| r.header(ORIGIN, "http://b:1")).await).as_deref(),
            Some("http://b:1")
        );
        assert_eq!(allowed(&ask(&some, |r| r.header(ORIGIN, "http://c:1")).await), None);
        assert_eq!(allowed(&ask(&some, |r| r).await), None);
        let preflight = ask(&some, |r| r.method(Method::OPTIONS).header(ORIGIN, "http://a:1")).await;
        assert_eq!(
            (preflight.status(), allowed(&preflight).as_deref()),
            (StatusCode::OK, Some("http://a:1"))
        );
        assert_eq!(allowed(&ask(&Access::new(&[], false), |r| r).await), None);
    }

    #[tokio::test]
    async fn a_port_for_one_protocol_refuses_the_other() {
        let access = |serves| Access::new(&[], false).serving(serves);
        let grpc = |r: hyper::http::request::Builder| {
            r.version(Version::HTTP_2).header(CONTENT_TYPE, "application/grpc")
        };
        assert_eq!(ask(&access(Serves::Grpc), |r| r).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(ask(&access(Serves::Http), |r| r).await.status(), StatusCode::OK);
        assert!(!ask(&access(Serves::Grpc), grpc).await.headers().contains_key("grpc-status"));
        assert_eq!(ask(&access(Serves::Http), grpc).await.headers()["grpc-status"], "12");
    }
}
