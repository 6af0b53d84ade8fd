//! Connects streams of the other end to TCP addresses.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::accept::{Acceptor, Incoming};
use crate::refusal::{Refusal, RefusalCode};
use crate::target::Target;

const COPY_BYTES: usize = 16 << 10;

/// Says where the other end may have us connect to.
pub trait Policy: Send + Sync + 'static {
    /// The address to connect to.
    ///
    /// # Errors
    /// A refusal, which the other end is told.
    fn resolve(&self, target: &Target) -> Result<SocketAddr, Refusal>;
}

/// Accepts what a policy allows, by connecting to it.
#[derive(Debug)]
pub struct Forwarder<P> {
    policy: P,
    dial_timeout: Duration,
}

impl<P: Policy> Forwarder<P> {
    /// A forwarder that gives an address this long to answer.
    pub fn new(policy: P, dial_timeout: Duration) -> Self {
        Forwarder { policy, dial_timeout }
    }

    async fn dial(&self, target: &Target) -> Result<TcpStream, Refusal> {
        let address = self.policy.resolve(target)?;
        let unreachable = |what: String| Refusal::new(RefusalCode::Unreachable, format!("{address}: {what}"));
        let tcp = match timeout(self.dial_timeout, TcpStream::connect(address)).await {
            Ok(tcp) => tcp.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable("no answer in time".to_owned())),
        };
        // A late acknowledgement is no reason to refuse.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }
}

#[async_trait]
impl<P: Policy> Acceptor for Forwarder<P> {
    async fn accept(&self, incoming: Incoming) {
        let mut tcp = match self.dial(incoming.target()).await {
            Ok(tcp) => tcp,
            Err(refusal) => {
                tracing::debug!(target = %incoming.target(), %refusal, "refused a stream of the tunnel");
                return incoming.refuse(refusal);
            }
        };
        let Ok(mut stream) = incoming.accept() else { return };
        // An error of either side ends both, by dropping them.
        let _ = copy_bidirectional_with_sizes(&mut stream, &mut tcp, COPY_BYTES, COPY_BYTES).await;
    }
}
