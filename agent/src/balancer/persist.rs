//! The list of servers, kept for the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Balancer;
use crate::address::ServerAddress;
use crate::files::{self, Readers};

const MAX_BYTES: u64 = 64 << 10;

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The seed it was learned from: with another one it may be another cluster.
    server: String,
    servers: Vec<String>,
}

/// The servers of the last run with this seed. A file that cannot be read is as none.
pub(super) fn load(file: &Path, seed: &ServerAddress) -> Vec<ServerAddress> {
    match read(file) {
        Ok(Some(kept)) if kept.server == seed.to_string() => {
            kept.servers.iter().take(Balancer::MAX_SERVERS).filter_map(|server| server.parse().ok()).collect()
        }
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the list of servers is not used");
            Vec::new()
        }
    }
}

fn read(file: &Path) -> std::io::Result<Option<Kept>> {
    Ok(files::read(file, MAX_BYTES)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

/// Writes the list whenever it changes.
pub(super) async fn run(file: PathBuf, seed: ServerAddress, mut list: watch::Receiver<Arc<[ServerAddress]>>) {
    while list.changed().await.is_ok() {
        let servers = list.borrow_and_update().iter().map(ServerAddress::to_string).collect();
        let (kept, file) = (Kept { server: seed.to_string(), servers }, file.clone());
        let write = move || {
            let bytes = serde_json::to_vec_pretty(&kept)?;
            files::write(&file, &bytes, Readers::All)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the list of servers is not kept for the next start"),
            Err(error) => tracing::error!(%error, "keeping the list of servers ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("list.json");
        let seed: ServerAddress = "a:1".parse().unwrap();
        assert!(load(&file, &seed).is_empty());
        for text in ["", "{", "[]", "{\"server\":\"b:1\",\"servers\":[\"c:1\"]}"] {
            std::fs::write(&file, text).unwrap();
            assert!(load(&file, &seed).is_empty(), "{text}");
        }
        std::fs::write(&file, "{\"server\":\"a:1\",\"servers\":[\"c:1\",\"not one\",\"d:2\"]}").unwrap();
        assert_eq!(load(&file, &seed), ["c:1".parse().unwrap(), "d:2".parse().unwrap()]);
        std::fs::write(&file, "x".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(load(&file, &seed).is_empty());
    }
}
