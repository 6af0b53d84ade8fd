//! Pipelined log replication: many append messages in flight, in order.
//!
//! What is in flight is bounded in messages and in bytes. Replies come in the
//! order of the messages, so each answers the oldest. The stream lives as long
//! as the leader has something to send now or later; it is given up when the
//! oldest message has waited too long, never while nothing is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, Streaming};

use super::convert::{append_messages, append_result, last_log_id, malformed};
use super::link::{Lane, Link};
use super::pb;
use crate::types::{LogId, TypeConfig};

/// Bytes of entries are counted in these units, rounded up.
const PERMIT_BYTES: usize = 1024;

/// A message without its reply.
struct Inflight {
    prev: Option<LogId>,
    last: Option<LogId>,
    sent: Instant,
    _permits: [OwnedSemaphorePermit; 2],
}

/// What is in flight on one stream.
struct Window {
    messages: Arc<Semaphore>,
    kilobytes: Arc<Semaphore>,
    max_kilobytes: usize,
    inflight: Mutex<VecDeque<Inflight>>,
}

impl Window {
    fn new(max_messages: usize, max_bytes: usize) -> Self {
        let max_kilobytes = max_bytes.div_ceil(PERMIT_BYTES).clamp(1, u32::MAX as usize);
        Window {
            messages: Arc::new(Semaphore::new(max_messages.max(1))),
            kilobytes: Arc::new(Semaphore::new(max_kilobytes)),
            max_kilobytes,
            inflight: Mutex::default(),
        }
    }

    /// Waits until the message fits and notes it. A message that is longer
    /// than the whole window goes alone.
    async fn admit(&self, message: &pb::AppendRequest, bytes: usize) -> Option<()> {
        let kilobytes = bytes.div_ceil(PERMIT_BYTES).clamp(1, self.max_kilobytes) as u32;
        let first = self.messages.clone().acquire_owned().await.ok()?;
        let second = self.kilobytes.clone().acquire_many_owned(kilobytes).await.ok()?;
        self.inflight.lock().push_back(Inflight {
            prev: message.prev_log_id.map(crate::codec::decode_log_id),
            last: last_log_id(message),
            sent: Instant::now(),
            _permits: [first, second],
        });
        Some(())
    }

    /// The message the next reply answers.
    fn answered(&self) -> Option<Inflight> {
        self.inflight.lock().pop_front()
    }

    /// How long to wait for the next reply, or nothing if the oldest message
    /// has waited `idle` since it was sent and since any reply came. While
    /// nothing is in flight no reply is due.
    fn patience(&self, last_reply: Instant, now: Instant, idle: Duration) -> Option<Duration> {
        let since = match self.inflight.lock().front() {
            Some(oldest) => oldest.sent.max(last_reply),
            None => now,
        };
        idle.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())
    }
}

/// The messages of one stream on their way out.
struct Outgoing<S> {
    input: S,
    split: VecDeque<pb::AppendRequest>,
    window: Arc<Window>,
    link: Arc<Link>,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Outgoing<S> {
    async fn next(mut self) -> Option<(pb::AppendRequest, Self)> {
        if self.split.is_empty() {
            let request = self.input.next().await?;
            self.split = append_messages(request, self.link.options().max_append_bytes).into();
        }
        let message = self.split.pop_front()?;
        let bytes = message.encoded_len();
        self.window.admit(&message, bytes).await?;
        self.link.cross_out().await.ok()?;
        self.link.sent.bytes.inc_by(bytes as u64);
        Some((message, self))
    }
}

/// Replies of one stream on their way in.
struct Incoming {
    replies: Streaming<pb::AppendReply>,
    window: Arc<Window>,
    link: Arc<Link>,
    idle: Duration,
    last_reply: Instant,
}

impl Incoming {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Status>> {
        let reply = match self.wait().await {
            Ok(reply) => reply?,
            Err(status) => return Some(Err(status)),
        };
        if let Err(status) = self.link.cross_back().await {
            return Some(Err(status));
        }
        self.last_reply = Instant::now();
        self.link.sent.answered.inc_by(reply.encoded_len() as u64);
        self.link.answered(None);
        let Some(message) = self.window.answered() else {
            return Some(Err(malformed("an append reply without a request")));
        };
        Some(append_result(reply, message.prev, message.last))
    }

    /// The next reply, as long as the oldest message has not waited too long.
    async fn wait(&mut self) -> Result<Option<pb::AppendReply>, Status> {
        while let Some(wait) = self.window.patience(self.last_reply, Instant::now(), self.idle) {
            if let Ok(reply) = tokio::time::timeout(wait, self.replies.message()).await {
                return reply;
            }
        }
        Err(Status::deadline_exceeded(format!("no append reply for {:?}", self.idle)))
    }
}

/// A stream from its start to its end.
enum Session<S> {
    /// Nothing has been sent.
    New { link: Arc<Link>, input: S, idle: Duration },
    /// Messages and replies pass.
    Open(Box<Incoming>),
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static> Session<S> {
    /// The next reply, and what goes on after it.
    async fn step(self) -> Option<(Result<StreamAppendResult<TypeConfig>, Status>, Option<Self>)> {
        let mut incoming = match self {
            Session::Open(incoming) => incoming,
            Session::New { link, mut input, idle } => {
                // openraft pauses after errors by holding back requests: opened
                // before there is one, an unreachable peer would be tried
                // without any pause.
                let first = input.next().await?;
                match open(link.clone(), first, input, idle).await {
                    Ok(incoming) => incoming,
                    Err(status) => {
                        link.failed(&status);
                        return Some((Err(status), None));
                    }
                }
            }
        };
        let item = incoming.next().await?;
        if let Err(status) = &item {
            incoming.link.failed(status);
        }
        let go_on = matches!(&item, Ok(Ok(_)));
        Some((item, go_on.then_some(Session::Open(incoming))))
    }
}

/// Opens a stream for a first request and those of `input`.
async fn open<S>(
    link: Arc<Link>,
    first: AppendEntriesRequest<TypeConfig>,
    input: S,
    idle: Duration,
) -> Result<Box<Incoming>, Status>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let options = link.options();
    let window = Arc::new(Window::new(options.max_append_inflight, options.max_append_inflight_bytes));
    let split = append_messages(first, options.max_append_bytes).into();
    let outgoing = Outgoing { input, split, window: window.clone(), link: link.clone() };
    let request = link.request(stream::unfold(outgoing, Outgoing::next));
    let mut client = link.client(Lane::Log);
    let opened = match tokio::time::timeout(idle, client.append_stream(request)).await {
        Ok(opened) => opened,
        Err(_) => Err(Status::deadline_exceeded(format!("append stream was not opened in {idle:?}"))),
    };
    let replies = opened?.into_inner();
    Ok(Box::new(Incoming { replies, window, link, idle, last_reply: Instant::now() }))
}

/// Sends the requests of `input` until it ends, on a stream opened with the
/// first. The answer ends after the first item that is not a success.
pub(crate) fn stream_append<S>(
    link: Arc<Link>,
    input: S,
    idle: Duration,
) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Status>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let session = Session::New { link, input, idle };
    stream::unfold(Some(session), |session| async move { session?.step().await }).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_in_flight_is_bounded_in_messages_and_bytes() {
        let window = Window::new(2, 10_000);
        let message = pb::AppendRequest::default();
        let full = |bytes| {
            let admitted = futures::FutureExt::now_or_never(window.admit(&message, bytes));
            admitted.is_none()
        };
        assert!(!full(1) && !full(1) && full(1), "messages");
        window.answered();
        assert!(full(10_000), "bytes");
        window.answered();
        assert!(!full(1_000_000), "a huge message goes alone");
        assert!(full(1));
    }

    #[tokio::test]
    async fn patience_ends_only_while_something_is_asked() {
        let window = Window::new(2, 10_000);
        let start = Instant::now();
        let idle = Duration::from_secs(3);
        let hour = Duration::from_secs(3600);
        assert_eq!(window.patience(start, start + hour, idle), Some(idle), "nothing is asked");
        window.admit(&pb::AppendRequest::default(), 1).await.unwrap();
        let now = Instant::now();
        assert!(window.patience(start, now, idle) > Some(idle / 2), "just asked");
        assert_eq!(window.patience(start, now + idle, idle), None, "asked too long ago");
        let answered = now + idle;
        assert_eq!(window.patience(answered, answered, idle), Some(idle), "others are being answered");
        window.answered();
        assert_eq!(window.patience(start, now + hour, idle), Some(idle), "all is answered");
    }
}
