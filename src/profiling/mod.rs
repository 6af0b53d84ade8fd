//! `--enable-pprof`: profiles of the process under `/debug/pprof/`, in the
//! format and at the paths of Go's, so that `go tool pprof` reads them.
//!
//! A CPU profile interrupts whatever runs a hundred times a second of CPU time
//! and notes the stack. One at a time, and no longer than [`MAX_SECONDS`].
//!
//! Profiles of the heap are kept by the allocator from the start of the process
//! on; without `--enable-pprof` it keeps none.
//!
//! Not here: the difference of two heap profiles (`seconds`), and what is Go's
//! own: goroutines, blocking, mutexes, execution traces.

mod cpu;
mod dump;
mod encode;
mod heap;

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use tokio::sync::Semaphore;

use heap::First;

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
<tr><td><a href='allocs'>allocs</a></td><td>what was allocated since the start, sampled</td></tr>
<tr><td><a href='cmdline'>cmdline</a></td><td>the command line of this process</td></tr>
<tr><td><a href='heap'>heap</a></td><td>what is allocated now, sampled</td></tr>
<tr><td><a href='profile?seconds=30'>profile</a></td><td>CPU profile, for <code>go tool pprof</code>; its length \
in seconds is a parameter</td></tr>
</table>
</body></html>
";

/// Begins what must run before anything can be profiled.
pub(crate) fn start() {
    heap::start();
}

/// The paths of profiles.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/debug/pprof", get(|| async { Redirect::permanent("/debug/pprof/") }))
        .route("/debug/pprof/", get(|| async { Html(INDEX) }))
        .route("/debug/pprof/cmdline", get(command_line))
        .route("/debug/pprof/profile", get(profile))
        .route("/debug/pprof/heap", get(|query| memory(query, "heap", First::InUse)))
        .route("/debug/pprof/allocs", get(|query| memory(query, "allocs", First::Allocated)))
}

async fn command_line() -> String {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\0")
}

async fn memory(Query(query): Query<Vec<(String, String)>>, name: &str, first: First) -> Response {
    if query.iter().any(|(parameter, _)| parameter == "seconds") {
        let text = "the difference of two profiles of the heap is not offered: take two, and use \
                    go tool pprof -base\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    // Finding names takes a while.
    match tokio::task::spawn_blocking(move || heap::profile(first)).await {
        Ok(Ok(bytes)) => attachment(name, bytes),
        Ok(Err(problem)) => {
            tracing::warn!(problem, "cannot make a profile of the heap");
            (StatusCode::NOT_IMPLEMENTED, format!("no profile of the heap: {problem}\n")).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn attachment(name: &str, bytes: Vec<u8>) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, bytes).into_response()
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
        Ok(bytes) => attachment("profile", bytes),
        Err(problem) => {
            tracing::warn!(problem, "cannot make a CPU profile");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("Could not enable CPU profiling: {problem}\n"))
                .into_response()
        }
    }
}
