//! Listeners and connections: HTTP/1.1 and HTTP/2 on one port, over TCP or a
//! Unix socket, with TLS or without.

mod access;
mod authority;
mod bind;
mod calm;
mod connection;
mod frames;
mod hpack;
mod pings;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use access::{Access, Serves};
pub(crate) use bind::{Listener, bind, bind_private};
pub(crate) use connection::ConnectionOptions;

use crate::tls::ServerTls;

/// Pause after an accept failed, so that a process without free descriptors
/// does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The word to stop, for any number of listeners and streams.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A stop signal and its trigger: send `true`.
    pub(crate) fn new() -> (watch::Sender<bool>, Stop) {
        let (sender, receiver) = watch::channel(false);
        (sender, Stop(receiver))
    }

    /// The signal as other crates take it: true means stop.
    pub(crate) fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }

    /// Waits for the word, or for its sender to be gone.
    pub(crate) async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// What a port serves.
#[derive(Clone)]
pub(crate) struct Port {
    /// Called "client" or "peer" in logs.
    pub(crate) name: &'static str,
    /// Answers the requests.
    pub(crate) router: Router,
    /// TLS, if the port speaks it.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// Requests carry the client's certificate: only where it counts, since it is copied for
    /// each.
    pub(crate) certificates: bool,
    /// Settings of its connections.
    pub(crate) options: ConnectionOptions,
    /// Bounds the connections of the process.
    pub(crate) slots: Arc<Semaphore>,
}

/// Accepts connections until the word to stop; then lets requests under way
/// end and returns when all connections are closed. The caller sets the
/// deadline: connections end when the future is dropped.
pub(crate) fn serve(listener: Listener, port: Port, stop: Stop) -> impl Future<Output = ()> + Send {
    let mut stopping = stop.clone();
    async move {
        let mut connections = JoinSet::new();
        loop {
            // A connection waits in the kernel's queue until there is room.
            let slot = tokio::select! {
                () = stopping.wait() => break,
                slot = port.slots.clone().acquire_owned() => match slot {
                    Ok(slot) => slot,
                    Err(_) => break,
                },
            };
            tokio::select! {
                () = stopping.wait() => break,
                accepted = listener.accept() => match accepted {
                    Ok(socket) => {
                        let run = connection::run(socket, port.clone(), stop.clone());
                        connections.spawn(async move {
                            run.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, port = port.name, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
