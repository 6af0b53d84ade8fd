//! What a new server needs to be one of the others: the authorities with their
//! keys and the secrets. It stands in the datastore, sealed with the token.
//!
//! The datastore is right, always: what is different on the disk is moved aside
//! and replaced, whichever is newer. Nothing is changed where the token is wrong.

pub mod bundle;
mod rotate;
pub mod seal;

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use bundle::Bundle;
pub use rotate::rotate;

use self::seal::{OpenError, SealKey};
use crate::pki::{Ca, Pki};
use crate::records::{Change, Record, Records};
use crate::token::{Secrets, random, secrets};

/// Where sealed bundles stand.
const PREFIX: &str = "/bootstrap/";

/// What this server was told.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Passwords that may be the servers', best first: what was given, what was
    /// kept.
    pub passwords: Vec<String>,
    /// The agents', if it was given.
    pub agent: Option<String>,
}

/// What stands after a start.
pub struct Established {
    /// The secrets.
    pub secrets: Secrets,
    /// The key that seals them.
    pub key: SealKey,
    /// The files that were replaced on the disk.
    pub replaced: Vec<String>,
    /// What to tell the user.
    pub warnings: Vec<String>,
}

/// Why it does not stand.
#[derive(Debug, thiserror::Error)]
pub enum EstablishError {
    /// The datastore does not answer; it may later.
    #[error("{0}")]
    Later(String),
    /// It cannot be, as things are.
    #[error("{0}")]
    Refused(String),
}

impl From<skiff_store::Error> for EstablishError {
    fn from(error: skiff_store::Error) -> Self {
        EstablishError::Later(format!("the datastore does not answer: {error}"))
    }
}

fn refused(problem: impl ToString) -> EstablishError {
    EstablishError::Refused(problem.to_string())
}

/// The key of the bundle that a password seals.
fn key_of(password: &str) -> String {
    let hash = Sha256::digest(password);
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{short}")
}

/// Brings disk and datastore together: the first server of a datastore writes
/// what it has, every later start takes what stands there.
///
/// # Errors
/// The datastore does not answer; or the token is another one, and then nothing
/// was changed.
pub async fn establish(records: &Records, pki: &Pki, given: &Given) -> Result<Established, EstablishError> {
    loop {
        let found = records.list(PREFIX).await?;
        if !found.is_empty() {
            return take(records, pki, given, found).await;
        }
        // Another server may be faster; then its bundle counts.
        if let Some(established) = found_new(records, pki, given).await? {
            return Ok(established);
        }
    }
}

/// The first start on this datastore.
async fn found_new(
    records: &Records,
    pki: &Pki,
    given: &Given,
) -> Result<Option<Established>, EstablishError> {
    pki.ensure_authorities().map_err(refused)?;
    let server = match given.passwords.first() {
        Some(password) => password.clone(),
        None => random::password().map_err(refused)?,
    };
    let secrets = Secrets { server, agent: given.agent.clone() };
    let bundle = Bundle::of(pki, &secrets).map_err(refused)?;
    let key = seal_key(pki)?;
    let sealed = bundle.seal(&secrets.server).await.map_err(refused)?;
    // The second key is the same whatever the token is: one server alone is first.
    let changes = [
        Change::Create(key_of(&secrets.server), sealed),
        Change::Create(secrets::KEY.to_owned(), secrets.sealed(&key).map_err(refused)?),
    ];
    if !records.change(&changes).await? {
        if records.list(PREFIX).await?.is_empty() {
            return Err(refused(format!(
                "the datastore holds {} but nothing below {PREFIX}: a part of it was deleted; restore it, or \
                 delete that key to begin anew",
                secrets::KEY
            )));
        }
        return Ok(None);
    }
    Ok(Some(Established { secrets, key, replaced: Vec::new(), warnings: Vec::new() }))
}

/// A later start: the token opens what stands there, or this server's authority
/// tells which token is the one of now.
async fn take(
    records: &Records,
    pki: &Pki,
    given: &Given,
    found: Vec<(String, Record)>,
) -> Result<Established, EstablishError> {
    let mut warnings = Vec::new();
    let of = |password: &str| {
        let key = key_of(password);
        found.iter().find(|(rest, _)| key == format!("{PREFIX}{rest}")).map(|(_, record)| record)
    };
    let fitting =
        given.passwords.iter().find_map(|password| of(password).map(|record| (password.clone(), record)));
    let (password, record) = match fitting {
        Some(fitting) => fitting,
        None => {
            let current = current_of_disk(records, pki).await.ok_or_else(|| wrong_token(given))?;
            let record = of(&current).ok_or_else(|| wrong_token(given))?;
            (current, record)
        }
    };
    if given.passwords.first().is_some_and(|first| *first != password) {
        warnings.push(
            "the token given is not the cluster's (it may have been rotated); the cluster's is used and stands in \
             server/token: change the setting"
                .to_owned(),
        );
    }
    let bundle = Bundle::open(&password, &record.value).await.map_err(|error| match error {
        OpenError::Wrong => wrong_token(given),
        error => refused(format!("the bootstrap data in the datastore cannot be read: {error}")),
    })?;
    let replaced = bundle.write(pki.dir()).map_err(refused)?;
    pki.ensure_authorities().map_err(refused)?;
    let key = seal_key(pki)?;
    let stored = Secrets::stored(records, &key).await.map_err(EstablishError::Later)?;
    let secrets = stored.unwrap_or(bundle.secrets);
    if given.agent.as_deref().is_some_and(|agent| agent != secrets.agent()) {
        warnings.push("the agent token given is not the cluster's; the cluster's stays".to_owned());
    }
    Ok(Established { secrets, key, replaced, warnings })
}

/// The token of now, told by the authority on the disk.
async fn current_of_disk(records: &Records, pki: &Pki) -> Option<String> {
    let key = seal_key(pki).ok()?;
    Secrets::stored(records, &key).await.ok().flatten().map(|secrets| secrets.server)
}

fn wrong_token(given: &Given) -> EstablishError {
    refused(match given.passwords.is_empty() {
        true => {
            "the datastore was set up by a server with a token, and this one has none: give it with --token or \
             --token-file (another server has it in server/token); nothing was changed"
        }
        false => {
            "the datastore was set up with another token: give that one with --token or --token-file (another \
             server has it in server/token); nothing was changed"
        }
    })
}

/// The key that follows from the authority on the disk.
fn seal_key(pki: &Pki) -> Result<SealKey, EstablishError> {
    let path = pki.file(Ca::Server.path(), "key");
    let bytes = crate::files::read(&path).map_err(refused)?;
    bytes
        .map(|bytes| SealKey::derived(&bytes))
        .ok_or_else(|| refused(format!("{} is missing", path.display())))
}

impl Bundle {
    /// Seals it, off the request threads.
    async fn seal(&self, password: &str) -> Result<Bytes, String> {
        let (text, password) = (self.text()?, password.to_owned());
        let sealed = tokio::task::spawn_blocking(move || seal::seal(&password, &text));
        sealed.await.map_err(|e| e.to_string())?.map(Bytes::from)
    }

    /// Opens one, off the request threads.
    async fn open(password: &str, sealed: &[u8]) -> Result<Bundle, OpenError> {
        let sealed = String::from_utf8(sealed.to_vec()).map_err(|_| OpenError::Damaged("it is no text"))?;
        let password = password.to_owned();
        let opened = tokio::task::spawn_blocking(move || seal::open(&password, &sealed));
        let text = opened.await.map_err(|_| OpenError::Damaged("opening it was given up"))??;
        Bundle::read(&text)
    }
}

#[cfg(test)]
mod tests;
