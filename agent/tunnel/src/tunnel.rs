//! One end of a tunnel.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::accept::Acceptor;
use crate::driver::Driver;
use crate::error::{OpenError, TunnelError};
use crate::options::Options;
use crate::session::Status;
use crate::shared::{Shared, State};
use crate::stream::TunnelStream;
use crate::target::Target;

/// Which end of a tunnel: the one that connected, or the one that was connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The websocket's client.
    Client,
    /// The websocket's server.
    Server,
}

/// One end of a tunnel. Clones are the same tunnel; it is closed with the last of them.
#[derive(Clone)]
pub struct Tunnel {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    options: Options,
}

impl Tunnel {
    /// Begins a tunnel over a connection on which the websocket's handshake is done (see
    /// [`crate::upgrade`]), and waits for the other end's hello.
    ///
    /// # Errors
    /// The other end does not answer in time, or speaks something else.
    pub async fn start<S>(
        io: S,
        end: End,
        options: Options,
        acceptor: Arc<dyn Acceptor>,
    ) -> Result<Self, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let role = match end {
            End::Client => Role::Client,
            End::Server => Role::Server,
        };
        let options = options.sane();
        let socket = WebSocketStream::from_raw_socket(io, role, Some(options.websocket())).await;
        Self::over(socket, end, options, acceptor).await
    }

    pub(crate) async fn over<S>(
        socket: WebSocketStream<S>,
        end: End,
        options: Options,
        acceptor: Arc<dyn Acceptor>,
    ) -> Result<Self, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Shared::new(end == End::Client, options);
        let tunnel = Tunnel { owner: Arc::new(Owner { shared: shared.clone(), options }) };
        let mut state = shared.state.subscribe();
        let driver = Driver::new(socket, shared.clone(), acceptor, options);
        tokio::spawn(async move {
            let why = driver.await;
            shared.quietly(|session| session.end(why.clone()));
            shared.state.send_replace(State::Ended(why));
        });
        // The driver bounds the time: it is over when no hello comes.
        let greeted = state.wait_for(|state| *state != State::Greeting).await;
        match greeted.as_deref() {
            Ok(State::Ended(why)) => Err(why.clone()),
            Ok(_) => Ok(tunnel),
            Err(_) => Err(TunnelError::Closed),
        }
    }

    /// Opens a stream, and waits until the other end accepts it.
    ///
    /// # Errors
    /// It is refused or not answered, too many are open, or the tunnel is over.
    pub async fn open(&self, target: Target) -> Result<TunnelStream, OpenError> {
        let shared = self.owner.shared.clone();
        let id = shared.session(|session| session.open_stream(target))?;
        let stream = TunnelStream { shared, id };
        let opened = poll_fn(|cx| stream.shared.session(|session| session.poll_opened(id, cx)));
        match timeout(self.owner.options.open_timeout, opened).await {
            Ok(opened) => opened.map(|()| stream),
            Err(_) => Err(OpenError::TimedOut),
        }
    }

    /// Closes the tunnel: the other end is told why, streams fail.
    pub fn close(&self, reason: &str) {
        self.owner.shared.session(|session| session.close(reason));
    }

    /// Waits until the tunnel is over, and says why it is.
    pub async fn ended(&self) -> TunnelError {
        let mut state = self.owner.shared.state.subscribe();
        match state.wait_for(|state| matches!(state, State::Ended(_))).await.as_deref() {
            Ok(State::Ended(why)) => why.clone(),
            _ => TunnelError::Closed,
        }
    }

    /// Why the tunnel is over, if it is.
    #[must_use]
    pub fn end(&self) -> Option<TunnelError> {
        self.owner.shared.quietly(|session| session.ended().cloned())
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> Status {
        self.owner.shared.quietly(|session| session.status())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.session(|session| session.close("nobody uses the tunnel any more"));
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("status", &self.status()).finish_non_exhaustive()
    }
}
