//! Learns of the cluster's servers from the servers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::address::ServerAddress;
use crate::backoff::Backoff;
use crate::balancer::{Balancer, BalancerHandle};
use crate::join::{Identity, JoinError};

/// The pause after the first failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Asks for the list of servers again and again, and tells the balancer, as long as it is
/// polled. Where nobody answers the balancer keeps what it has.
pub async fn follow_servers(identity: Arc<Identity>, balancer: BalancerHandle, interval: Duration) {
    let mut backoff = Backoff::new(RETRY_FIRST.min(interval), interval);
    loop {
        match identity.servers().await {
            Ok(servers) => {
                balancer.set_servers(servers);
                backoff.reset();
                // Not all agents at the same moment.
                sleep(Backoff::new(interval, interval).pause()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot ask for the list of servers; those known are used");
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// Reads a list of `host:port`. One that is malformed is an error in whole: a part of it
/// would close connections to servers that are well.
pub(crate) fn read_list(json: &[u8]) -> Result<Vec<ServerAddress>, String> {
    let texts: Vec<String> =
        serde_json::from_slice(json).map_err(|error| format!("no list of addresses: {error}"))?;
    if texts.len() > Balancer::MAX_SERVERS {
        return Err(format!("{} servers, more than {}", texts.len(), Balancer::MAX_SERVERS));
    }
    texts.iter().map(|text| text.parse().map_err(|error: crate::AddressError| error.to_string())).collect()
}

impl Identity {
    /// The list of servers, as a server tells it.
    ///
    /// # Errors
    /// Nobody answers, or with something else.
    pub async fn servers(&self) -> Result<Vec<ServerAddress>, JoinError> {
        let (path, body) = self.ask_for_servers().await?;
        read_list(&body).map_err(|problem| JoinError::Answer { path, problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_whole_or_not_at_all() {
        let list = read_list(br#"["10.0.0.1:6443","[fd00::1]:6443"]"#).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(read_list(b"[]").unwrap(), []);
        let many = serde_json::to_vec(&vec!["a:1"; Balancer::MAX_SERVERS + 1]).unwrap();
        for json in [&b""[..], b"{}", b"null", br#"["a:1","b"]"#, br#"[1]"#, &many] {
            assert!(read_list(json).is_err(), "{}", String::from_utf8_lossy(json));
        }
    }
}
