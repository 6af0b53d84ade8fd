//! What a tunnel's handles, streams and driver share.

use std::sync::Arc;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::TunnelError;
use crate::options::Options;
use crate::session::Session;

/// Shared by everything that belongs to one tunnel.
pub(crate) struct Shared {
    session: Mutex<Session>,
    pub(crate) driver: AtomicWaker,
    /// `None` until the other end said hello; then what became of it.
    pub(crate) state: watch::Sender<State>,
}

/// How far a tunnel is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Greeting,
    Open,
    Ended(TunnelError),
}

impl Shared {
    pub(crate) fn new(connected: bool, options: Options) -> Arc<Self> {
        Arc::new(Shared {
            session: Mutex::new(Session::new(connected, options)),
            driver: AtomicWaker::new(),
            state: watch::Sender::new(State::Greeting),
        })
    }

    /// Asks or changes the session, and wakes the driver if there is something to send.
    pub(crate) fn session<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.session.lock();
        let value = change(&mut session);
        let send = session.has_frame();
        drop(session);
        if send {
            self.driver.wake();
        }
        value
    }

    /// The same for the driver, which needs no waking.
    pub(crate) fn quietly<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        change(&mut self.session.lock())
    }
}
