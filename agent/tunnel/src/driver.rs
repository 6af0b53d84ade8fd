//! Moves frames between a session and its websocket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::accept::{Acceptor, Incoming};
use crate::error::TunnelError;
use crate::frame::Frame;
use crate::options::Options;
use crate::session::Session;
use crate::shared::{Shared, State};
use crate::stream::TunnelStream;

/// Frames that are moved before other tasks get their turn.
const FRAMES_PER_POLL: usize = 64;
/// How long the last frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Moves frames until the tunnel is over; then tells why.
pub(crate) struct Driver<S> {
    socket: WebSocketStream<S>,
    shared: Arc<Shared>,
    acceptor: Arc<dyn Acceptor>,
    options: Options,
    tasks: JoinSet<()>,
    timer: Pin<Box<Sleep>>,
    started: Instant,
    /// When the other end was heard last, and when it was asked last.
    heard: Instant,
    asked: Instant,
    /// When streams that linger were looked at last.
    swept: Instant,
    /// Since when the connection takes nothing though there is something to send.
    stuck: Option<Instant>,
    unflushed: bool,
    closing: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(crate) fn new(
        socket: WebSocketStream<S>,
        shared: Arc<Shared>,
        acceptor: Arc<dyn Acceptor>,
        options: Options,
    ) -> Self {
        let now = Instant::now();
        Driver {
            socket,
            shared,
            acceptor,
            options,
            tasks: JoinSet::new(),
            timer: Box::pin(sleep_until(now)),
            started: now,
            heard: now,
            asked: now,
            swept: now,
            stuck: None,
            unflushed: false,
            closing: None,
        }
    }

    /// Sends what waits. Ready once nothing does any more, or the budget is used up.
    fn send(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<Result<(), TunnelError>> {
        while *budget > 0 {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(lost)?;
            self.stuck = None;
            let Some(frame) = self.shared.quietly(Session::next_frame) else { break };
            Pin::new(&mut self.socket).start_send(Message::Binary(frame.encode())).map_err(lost)?;
            self.unflushed = true;
            *budget -= 1;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(lost)?;
            self.unflushed = false;
            self.stuck = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come. Pending once nothing is there any more.
    fn receive(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<TunnelError> {
        while *budget > 0 {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(lost(error)),
                None => return Poll::Ready(TunnelError::Lost("it was closed".to_owned())),
            };
            *budget -= 1;
            self.heard = Instant::now();
            match message {
                Message::Binary(bytes) => {
                    if let Err(error) = self.take(bytes) {
                        return Poll::Ready(error);
                    }
                }
                Message::Ping(_) | Message::Pong(_) => self.unflushed = true,
                Message::Close(_) => return Poll::Ready(TunnelError::Lost("it was closed".to_owned())),
                Message::Text(_) | Message::Frame(_) => {
                    return Poll::Ready(TunnelError::Violation("it sends text".to_owned()));
                }
            }
        }
        Poll::Pending
    }

    fn take(&mut self, bytes: bytes::Bytes) -> Result<(), TunnelError> {
        let frame = Frame::decode(bytes).map_err(|e| TunnelError::Violation(e.0.to_owned()))?;
        let hello = matches!(frame, Frame::Hello(_));
        if let Some((id, target)) = self.shared.quietly(|session| session.receive(frame))? {
            let stream = TunnelStream { shared: self.shared.clone(), id };
            let acceptor = self.acceptor.clone();
            self.tasks.spawn(async move { acceptor.accept(Incoming { stream, target }).await });
        }
        if hello {
            self.shared.state.send_replace(State::Open);
        }
        Ok(())
    }

    /// What is due at this time, and when to look again.
    fn tick(&mut self, now: Instant) -> Result<Instant, TunnelError> {
        let Options { keepalive_interval, keepalive_timeout, hello_timeout, .. } = self.options;
        let since = |at: Instant, wait: Duration| at.checked_add(wait);
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if over(since(self.swept, keepalive_interval)) {
            self.swept = now;
            self.shared.quietly(|session| session.expire(now));
        }
        let greeted = self.shared.quietly(|session| session.greeted());
        let hello = if greeted { None } else { since(self.started, hello_timeout) };
        let silent = since(self.heard, keepalive_timeout);
        let stuck = self.stuck.and_then(|at| since(at, keepalive_timeout));
        let closing = self.closing.and_then(|at| since(at, CLOSE_TIMEOUT));
        if over(closing) {
            return Err(TunnelError::Closed);
        }
        if over(hello) {
            return Err(TunnelError::Silent("did not say hello in time"));
        }
        if over(silent) {
            return Err(TunnelError::Silent("was not heard of for too long"));
        }
        if over(stuck) {
            return Err(TunnelError::Silent("takes nothing any more"));
        }
        if over(since(self.heard.max(self.asked), keepalive_interval)) {
            self.asked = now;
            self.shared.quietly(|session| session.ping(now.duration_since(self.started).as_secs()));
        }
        let ask = since(self.heard.max(self.asked), keepalive_interval);
        let next = [hello, silent, stuck, closing, ask].into_iter().flatten().min();
        Ok(next.unwrap_or(now + keepalive_interval))
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let now = Instant::now();
        loop {
            match self.tick(Instant::now()) {
                Ok(next) => self.timer.as_mut().reset(next),
                Err(why) => return Poll::Ready(why),
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                break;
            }
        }
        while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
        let (mut sends, mut receives) = (FRAMES_PER_POLL, FRAMES_PER_POLL);
        // What is received first may have an answer that is sent then.
        let mut received = self.receive(cx, &mut receives);
        if matches!(received, Poll::Ready(TunnelError::Lost(_))) && self.closing.is_some() {
            received = Poll::Ready(TunnelError::Closed);
        }
        if let Poll::Ready(why) = received {
            return Poll::Ready(why);
        }
        match self.send(cx, &mut sends) {
            Poll::Ready(Err(why)) => return Poll::Ready(why),
            Poll::Ready(Ok(())) if self.shared.quietly(|session| session.close_sent()) && !self.unflushed => {
                return Poll::Ready(TunnelError::Closed);
            }
            Poll::Ready(Ok(())) => {}
            Poll::Pending => {
                self.stuck.get_or_insert(now);
            }
        }
        if sends == 0 || receives == 0 {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = TunnelError;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let this = &mut *self;
        this.shared.driver.register(cx.waker());
        if this.closing.is_none() && this.shared.quietly(|session| session.closing()) {
            this.closing = Some(Instant::now());
        }
        this.step(cx)
    }
}

fn lost(error: tungstenite::Error) -> TunnelError {
    match error {
        tungstenite::Error::Capacity(_) => TunnelError::Violation("its message is too long".to_owned()),
        tungstenite::Error::Protocol(what) => TunnelError::Violation(what.to_string()),
        tungstenite::Error::Utf8(_) => TunnelError::Violation("it sends text".to_owned()),
        other => TunnelError::Lost(other.to_string()),
    }
}
