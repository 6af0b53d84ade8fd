//! Keeps a node's name for the node that had it first: the hash of its password
//! stands in the datastore until the node is deleted.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::records::{Change, Records};
use crate::token::random;

/// Where the hashes stand, by the nodes' names.
const PREFIX: &str = "/skiff/node-password/";
/// scrypt's cost for new ones: 16 MiB and about 50 ms.
const LOG_N: u8 = 14;
/// The highest cost that is paid for a stored one.
const MAX_LOG_N: u8 = 18;
/// Longest password, in bytes.
const MAX_LENGTH: usize = 512;
/// Hashes that are computed at a time: each takes memory and a thread.
static HASHING: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    log_n: u8,
    salt: String,
    hash: String,
}

/// Makes sure that the name is this node's: takes it, or compares.
pub(super) async fn ensure(records: &Records, node: &str, password: String) -> Result<(), Refusal> {
    if password.len() > MAX_LENGTH {
        return Err(Refusal::bad_request("the node's password is too long"));
    }
    let key = format!("{PREFIX}{node}");
    let read = async || records.get(&key).await.map_err(|e| Refusal::of_store(&e));
    let found = match read().await? {
        Some(record) => record,
        None => {
            let salt = random::hex::<16>().map_err(Refusal::internal)?;
            let hash = hash(password.clone(), salt.clone(), LOG_N).await?;
            let stored = Stored { version: 1, log_n: LOG_N, salt, hash };
            let text = serde_json::to_vec(&stored).map_err(Refusal::internal)?;
            let create = Change::Create(key.clone(), Bytes::from(text));
            if records.change(&[create]).await.map_err(|e| Refusal::of_store(&e))? {
                return Ok(());
            }
            // Another one took the name meanwhile; or it was freed again.
            read()
                .await?
                .ok_or_else(|| Refusal::unavailable("the node's name is being changed; try again"))?
        }
    };
    let stored: Stored = serde_json::from_slice(&found.value)
        .map_err(|e| Refusal::internal(format!("the password of node {node} is damaged: {e}")))?;
    if stored.version != 1 || stored.log_n > MAX_LOG_N {
        return Err(Refusal::internal(format!("the password of node {node} is of another version")));
    }
    let computed = hash(password, stored.salt, stored.log_n).await?;
    // Of hashes of hashes an early end of the comparison tells nothing.
    match Sha256::digest(computed) == Sha256::digest(stored.hash) {
        true => Ok(()),
        false => Err(Refusal::node_password(format!(
            "the node {node} is known with another password: choose another --node-name, or delete the node \
             first"
        ))),
    }
}

async fn hash(password: String, salt: String, log_n: u8) -> Result<String, Refusal> {
    let _turn = HASHING.acquire().await.map_err(Refusal::internal)?;
    let hashed = tokio::task::spawn_blocking(move || {
        let params = scrypt::Params::new(log_n, 8, 1, 32).map_err(|e| e.to_string())?;
        let mut bytes = [0; 32];
        scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut bytes)
            .map_err(|e| e.to_string())?;
        Ok::<_, String>(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    });
    hashed.await.map_err(Refusal::internal)?.map_err(Refusal::internal)
}
