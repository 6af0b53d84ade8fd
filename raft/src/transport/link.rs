//! The connections to one peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost::Message;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::connector::{Addresses, Connector};
use super::faults::Faults;
use super::identity::{Identity, RefusalKind, RefusalLog};
use super::metrics::{Sent, hex};
use super::options::TransportOptions;
use super::pb::peer_client::PeerClient;
use super::tls::PeerTls;
use super::url::PeerUrl;

/// Kinds of traffic, each on a connection of its own so that none waits behind
/// another's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Heartbeats, votes, read indexes: small and urgent.
    Control,
    /// Log entries.
    Log,
    /// Clients' requests on their way to the leader.
    Forward,
    /// Snapshots.
    Bulk,
}

const LANES: usize = 4;

/// HTTP/2 flow-control windows of one stream and of a whole connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One peer: its URLs, its connections (opened when first used, reopened when
/// lost) and what is known of its health.
pub(crate) struct Link {
    identity: Identity,
    connector: Connector,
    options: Arc<TransportOptions>,
    channels: [Mutex<Option<Channel>>; LANES],
    active: AtomicBool,
    refusals: RefusalLog,
    faults: Option<Arc<Faults>>,
    pub(crate) sent: Sent,
}

impl Link {
    pub(crate) fn new(
        identity: Identity,
        urls: Vec<PeerUrl>,
        tls: Option<Arc<dyn PeerTls>>,
        options: Arc<TransportOptions>,
        faults: Option<Arc<Faults>>,
    ) -> Self {
        let sent = Sent::new(identity.from, identity.to);
        sent.known.set(1.0);
        let connector =
            Connector { addresses: Arc::new(Addresses::new(urls)), tls, options: options.clone() };
        Link {
            identity,
            connector,
            options,
            channels: Default::default(),
            active: AtomicBool::new(false),
            refusals: RefusalLog::default(),
            faults,
            sent,
        }
    }

    pub(crate) fn options(&self) -> &TransportOptions {
        &self.options
    }

    pub(crate) fn peer(&self) -> u64 {
        self.identity.to
    }

    pub(crate) fn local(&self) -> u64 {
        self.identity.from
    }

    pub(crate) fn urls(&self) -> Arc<[PeerUrl]> {
        self.connector.addresses.urls()
    }

    /// Uses other URLs from now on. Calls under way finish where they are.
    pub(crate) fn set_urls(&self, urls: Vec<PeerUrl>) {
        if self.connector.addresses.set(urls) {
            for channel in &self.channels {
                *channel.lock() = None;
            }
        }
    }

    /// A client for one kind of traffic.
    pub(crate) fn client(&self, lane: Lane) -> PeerClient<Channel> {
        let mut slot = self.channels[lane as usize].lock();
        let channel = slot.get_or_insert_with(|| self.open()).clone();
        let limit = self.options.max_message_bytes;
        PeerClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    fn open(&self) -> Channel {
        // The connector decides where to connect; this is only the requests'
        // authority.
        Endpoint::from_static("http://skiff-peer")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(self.connector.clone())
    }

    /// A call carrying this link's identity.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.identity.write(request.metadata_mut());
        request
    }

    /// Runs one call and its bookkeeping. `timeout` is for the whole call.
    pub(crate) async fn call<T, R, F>(
        &self,
        message: T,
        timeout: Duration,
        send: impl FnOnce(Request<T>) -> F,
    ) -> Result<R, Status>
    where
        T: Message,
        R: Message,
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let bytes = message.encoded_len() as u64;
        let since = Instant::now();
        let exchange = async {
            self.cross_out().await?;
            let reply = send(self.request(message)).await?;
            self.cross_back().await?;
            Ok(reply)
        };
        let outcome = match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("peer did not answer in {timeout:?}"))),
        };
        match &outcome {
            Ok(reply) => {
                self.sent.bytes.inc_by(bytes);
                self.sent.answered.inc_by(reply.encoded_len() as u64);
                self.answered(Some(since.elapsed()));
            }
            Err(status) => self.failed(status),
        }
        outcome
    }

    /// Lets a message pass to the peer, faults permitting.
    pub(crate) async fn cross_out(&self) -> Result<(), Status> {
        self.cross(self.local(), self.peer()).await
    }

    /// Lets an answer pass from the peer, faults permitting.
    pub(crate) async fn cross_back(&self) -> Result<(), Status> {
        self.cross(self.peer(), self.local()).await
    }

    async fn cross(&self, from: u64, to: u64) -> Result<(), Status> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => {
                faults.cross(from, to).await.map_err(|_| Status::unavailable("refused by a fault"))
            }
        }
    }

    /// Notes that the peer answered, and how long that took if the answer
    /// needed nothing but the way there and back.
    pub(crate) fn answered(&self, round_trip: Option<Duration>) {
        if let Some(elapsed) = round_trip {
            self.sent.round_trip.observe(elapsed.as_secs_f64());
        }
        if !self.active.swap(true, Ordering::Relaxed) {
            self.sent.active.set(1.0);
            tracing::info!(peer = hex(self.peer()), "peer became active");
        }
    }

    /// Notes that a call failed. What a peer answers, even an error, shows
    /// that it is there; only silence makes it inactive.
    pub(crate) fn failed(&self, status: &Status) {
        self.sent.failures.inc();
        if let Some(kind) = RefusalKind::of(status) {
            if self.refusals.admit(self.peer(), kind) {
                let (peer, message) = (hex(self.peer()), status.message());
                tracing::error!(peer, message, "peer refuses this member's requests");
            }
            return;
        }
        let silent = matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded);
        if silent && self.active.swap(false, Ordering::Relaxed) {
            self.sent.active.set(0.0);
            self.sent.disconnected.inc();
            tracing::warn!(peer = hex(self.peer()), error = describe(status), "peer became inactive");
        }
    }

    /// True if the last call was answered.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }
}

/// A status with the causes below it, which tonic keeps apart.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
