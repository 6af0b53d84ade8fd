//! The connection to one endpoint.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connect::{self, Io, Protocol};
use super::endpoint::Endpoint;
use super::metrics;
use super::options::Options;
use super::replay::{Attempt, Replay};

/// Bytes an answer may be ahead of its reader.
const STREAM_WINDOW: u32 = 256 << 10;
/// As large as HTTP/2 allows: a slow reader must hold up its own stream alone,
/// which [`STREAM_WINDOW`] bounds, and not the others of the connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const MAX_HEADER_BYTES: u32 = 1 << 20;
/// Connections that take no new calls and end with the ones they have.
const MAX_DRAINING: usize = 4;

pub(super) type Sender = http2::SendRequest<Attempt>;
type Driver = http2::Connection<TokioIo<Box<dyn Io>>, Attempt, TokioExecutor>;

/// One endpoint and the connection to it.
pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    pub(super) name: String,
    state: Mutex<State>,
    renew: Notify,
    /// Told whenever a link's state changes.
    changed: Arc<Notify>,
}

enum State {
    /// Not up, but may be any moment.
    Connecting,
    /// Up, with the number of the connection.
    Up(Sender, u64),
    /// The last attempt failed, like this.
    Down(String),
}

/// What a link is good for now.
pub(super) enum Readiness {
    Up(Sender, u64),
    Connecting,
    Down(String),
}

impl Link {
    pub(super) fn new(endpoint: Endpoint, changed: Arc<Notify>) -> Self {
        let name = endpoint.to_string();
        metrics::init(&name);
        Link { endpoint, name, state: Mutex::new(State::Connecting), renew: Notify::new(), changed }
    }

    pub(super) fn readiness(&self) -> Readiness {
        match &*self.state.lock() {
            State::Connecting => Readiness::Connecting,
            State::Up(sender, _) if sender.is_closed() => Readiness::Connecting,
            State::Up(sender, number) => Readiness::Up(sender.clone(), *number),
            State::Down(error) => Readiness::Down(error.clone()),
        }
    }

    /// Lets connection `number` take no more calls, and opens another.
    pub(super) fn retire(&self, number: u64) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Up(_, current) if *current == number) {
            *state = State::Connecting;
            self.renew.notify_one();
        }
    }

    pub(super) fn count_failure(&self, kind: &str) {
        metrics::FAILURES.with_label_values(&[&self.name, kind]).inc();
    }

    fn set(&self, state: State) {
        let up = matches!(state, State::Up(..));
        metrics::HEALTHY.with_label_values(&[&self.name]).set(i64::from(up));
        *self.state.lock() = state;
        self.changed.notify_waiters();
    }

    /// Keeps a connection up for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, options: Arc<Options>) {
        let mut draining = JoinSet::new();
        let mut failures = 0;
        for number in 0.. {
            match open(&self.endpoint, &options).await {
                Ok((sender, drivers)) => {
                    tracing::info!(endpoint = self.name, "connected to an endpoint");
                    let since = Instant::now();
                    self.set(State::Up(sender, number));
                    self.hold(drivers, &mut draining).await;
                    self.set(State::Connecting);
                    tracing::warn!(endpoint = self.name, "connection to an endpoint is gone");
                    // One that breaks as soon as it is up counts as a failure.
                    failures = if since.elapsed() > options.reconnect_max { 0 } else { failures + 1 };
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(endpoint = self.name, error, "connect to an endpoint");
                    }
                    self.count_failure("connect");
                    failures += 1;
                    self.set(State::Down(error));
                }
            }
            tokio::time::sleep(pause(failures, &options)).await;
        }
    }

    /// Waits until the connection ends or must be replaced.
    async fn hold(&self, mut drivers: JoinSet<()>, draining: &mut JoinSet<()>) {
        tokio::select! {
            _ = drivers.join_next() => {}
            () = self.renew.notified() => {
                while draining.try_join_next().is_some() {}
                if draining.len() >= MAX_DRAINING {
                    draining.abort_all();
                }
                draining.spawn(async move { while drivers.join_next().await.is_some() {} });
            }
        }
    }
}

fn pause(failures: u32, options: &Options) -> Duration {
    let doubled = options.reconnect_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(options.reconnect_max)
}

/// Opens a connection and sees that a gRPC server answers on it.
async fn open(endpoint: &Endpoint, options: &Options) -> Result<(Sender, JoinSet<()>), String> {
    let attempt = async {
        let io = connect::dial(endpoint, options.tls.as_ref(), Protocol::Http2).await;
        let io = io.map_err(|error| error.to_string())?;
        let (mut sender, driver) = handshake(io, options).await.map_err(|error| describe(&error))?;
        let mut drivers = JoinSet::new();
        drivers.spawn(async move {
            // Its calls learn of the error; here it only ends.
            let _ = driver.await;
        });
        probe(&mut sender, endpoint).await?;
        Ok((sender, drivers))
    };
    let timeout = options.connect_timeout;
    tokio::time::timeout(timeout, attempt)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

async fn handshake(io: Box<dyn Io>, options: &Options) -> hyper::Result<(Sender, Driver)> {
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .keep_alive_interval(options.ping_interval)
        .keep_alive_timeout(options.ping_timeout)
        // etcd takes pings without calls for an attack.
        .keep_alive_while_idle(false)
        .handshake(TokioIo::new(io))
        .await
}

/// Asks gRPC's health service; any gRPC answer will do, as also a server that
/// has no such service is one. Shows what a TLS handshake does not: that our
/// certificate was accepted.
async fn probe(sender: &mut Sender, endpoint: &Endpoint) -> Result<(), String> {
    let path = Uri::from_static("/grpc.health.v1.Health/Check");
    let uri = endpoint.uri(&path).map_err(|error| error.to_string())?;
    // A frame's flag and length: an empty message.
    let body = Replay::new(axum::body::Body::from(vec![0; 5]), 0);
    let body = body.attempt().ok_or("no probe")?;
    let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(body).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| describe(&error))?;
    if crate::layer::is_grpc(response.headers()) {
        return Ok(());
    }
    Err(format!("no gRPC server: it answers with HTTP status {}", response.status()))
}

/// An error with its causes.
pub(super) fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
