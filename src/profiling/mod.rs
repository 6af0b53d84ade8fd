//! `--enable-pprof`: profiles of the process under `/debug/pprof/`, in the
//! format and at the paths of Go's, so that `go tool pprof` reads them.
//!
//! A CPU profile interrupts whatever runs a hundred times a second of CPU time
//! and notes the stack. One at a time, and no longer than [`MAX_SECONDS`].
//!
//! Not here: profiles of the heap. They need another allocator (jemalloc with
//! profiling), which costs a minute of building and a configure script; and
//! what is Go's own: goroutines, blocking, mutexes, execution traces.

mod cpu;
mod encode;

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use tokio::sync::Semaphore;

/// Length of a profile if none is asked for, as with Go.
const DEFAULT_SECONDS: u64 = 30;
/// Longest profile; a longer one is cut to it.
const MAX_SECONDS: u64 = 300;

/// One profile at a time: there is one timer for all.
static FREE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(1));

const INDEX: &str = "\
<html><head><title>/debug/pprof/</title></head><body>
/debug/pprof/<br>
<p>Types of profiles available:</p>
<table>
<tr><td><a href='cmdline'>cmdline</a></td><td>the command line of this process</td></tr>
<tr><td><a href='profile?seconds=30'>profile</a></td><td>CPU profile, for <code>go tool pprof</code>; its length \
in seconds is a parameter</td></tr>
</table>
</body></html>
";

/// The paths of profiles.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/debug/pprof", get(|| async { Redirect::permanent("/debug/pprof/") }))
        .route("/debug/pprof/", get(|| async { Html(INDEX) }))
        .route("/debug/pprof/cmdline", get(command_line))
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/heap", get(heap))
}

async fn command_line() -> String {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\0")
}

async fn heap() -> Response {
    let text = "profiles of the heap are not offered: the allocator of this process does not keep them; \
                /metrics tells process_resident_memory_bytes\n";
    (StatusCode::NOT_IMPLEMENTED, text).into_response()
}

async fn profile(Query(query): Query<Vec<(String, String)>>) -> Response {
    let seconds = match query.iter().find(|(name, _)| name == "seconds").map(|(_, text)| text.parse::<u64>())
    {
        None => DEFAULT_SECONDS,
        Some(Ok(seconds)) if seconds > 0 => seconds.min(MAX_SECONDS),
        Some(_) => return (StatusCode::BAD_REQUEST, "seconds must be a number above zero\n").into_response(),
    };
    let Ok(_turn) = FREE.try_acquire() else {
        let text = "Could not enable CPU profiling: cpu profiling already in use\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    match cpu::profile(Duration::from_secs(seconds)).await {
        Ok(bytes) => {
            let headers = [
                (CONTENT_TYPE, "application/octet-stream"),
                (CONTENT_DISPOSITION, "attachment; filename=\"profile\""),
            ];
            (headers, bytes).into_response()
        }
        Err(problem) => {
            tracing::warn!(problem, "cannot make a CPU profile");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("Could not enable CPU profiling: {problem}\n"))
                .into_response()
        }
    }
}
