//! The secrets that last, as all servers know them.
//!
//! They stand in the datastore, sealed with a key that follows from the servers'
//! authority: whoever is a server can read them, and sees it when one of the
//! others has replaced them. The token itself seals only what a new server needs
//! (see [`crate::bootstrap`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skiff_token::{Bootstrap, Credentials, Password};

use super::bootstrap;
use super::{NODE_USER, SERVER_USER};
use crate::bootstrap::seal::{SealKey, open_with, seal_with};
use crate::records::Records;

/// Where they stand.
pub const KEY: &str = "/skiff/token/current";

/// Looked at no more often than this where a password is refused.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// The two secrets that last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Lets servers join, and agents.
    pub server: String,
    /// Lets agents join; the servers' where there is none.
    pub agent: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// The agents' secret.
    #[must_use]
    pub fn agent(&self) -> &str {
        self.agent.as_deref().unwrap_or(&self.server)
    }

    /// As it stands in the datastore.
    ///
    /// # Errors
    /// A sentence: no random numbers.
    pub fn sealed(&self, key: &SealKey) -> Result<Bytes, String> {
        let text = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        seal_with(key, KEY, &text).map(Bytes::from)
    }

    fn open(key: &SealKey, sealed: &[u8]) -> Result<Secrets, String> {
        let text = open_with(key, KEY, sealed)?;
        serde_json::from_slice(&text).map_err(|e| format!("the servers' secrets are damaged: {e}"))
    }

    /// Reads what stands in the datastore.
    ///
    /// # Errors
    /// A sentence: it cannot be read, or not by this server's authority.
    pub async fn stored(records: &Records, key: &SealKey) -> Result<Option<Secrets>, String> {
        match records.get(KEY).await.map_err(|e| format!("cannot read the servers' secrets: {e}"))? {
            Some(record) => Secrets::open(key, &record.value).map(Some),
            None => Ok(None),
        }
    }
}

/// By what right a request comes, of those that need a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// That of a server.
    Server,
    /// That of an agent.
    Agent,
    /// That of who was given a bootstrap token, named by its id.
    Bootstrapper(String),
}

/// Why a secret gives no right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody's, or not for this.
    Wrong,
    /// Its time is over.
    Expired,
    /// It cannot be told now. Why.
    Unknown(String),
}

/// The secrets of a running server, kept as new as the datastore's.
pub struct SharedSecrets {
    records: Records,
    key: SealKey,
    current: Mutex<Arc<Secrets>>,
    refreshed: Mutex<Option<Instant>>,
}

impl SharedSecrets {
    /// Begins with what this server knows.
    #[must_use]
    pub fn new(records: Records, key: SealKey, current: Secrets) -> SharedSecrets {
        SharedSecrets { records, key, current: Mutex::new(Arc::new(current)), refreshed: Mutex::new(None) }
    }

    /// The secrets of now.
    #[must_use]
    pub fn current(&self) -> Arc<Secrets> {
        self.current.lock().clone()
    }

    /// The key that seals them.
    #[must_use]
    pub fn key(&self) -> &SealKey {
        &self.key
    }

    /// Takes over what stands in the datastore; answers whether that is news.
    ///
    /// # Errors
    /// As [`Secrets::stored`].
    pub async fn refresh(&self) -> Result<bool, String> {
        let Some(stored) = Secrets::stored(&self.records, &self.key).await? else { return Ok(false) };
        let mut current = self.current.lock();
        let news = **current != stored;
        if news {
            *current = Arc::new(stored);
        }
        Ok(news)
    }

    /// The right that credentials give.
    ///
    /// # Errors
    /// None; or it cannot be told.
    pub async fn right(&self, credentials: &Credentials) -> Result<Right, Denied> {
        let password = match credentials {
            Credentials::Bootstrap(token) => return self.bootstrapper(token).await,
            Credentials::Password(password) => password,
        };
        if let Some(token) = Bootstrap::parse(&format!("{}.{}", password.user, password.password)) {
            return self.bootstrapper(&token).await;
        }
        if let Some(right) = of_password(&self.current(), password) {
            return Ok(right);
        }
        // Another server may have replaced it a moment ago.
        if self.may_refresh() && self.refresh().await.map_err(Denied::Unknown)? {
            return of_password(&self.current(), password).ok_or(Denied::Wrong);
        }
        Err(Denied::Wrong)
    }

    fn may_refresh(&self) -> bool {
        let mut refreshed = self.refreshed.lock();
        let may = refreshed.is_none_or(|at| at.elapsed() >= REFRESH_PAUSE);
        if may {
            *refreshed = Some(Instant::now());
        }
        may
    }

    async fn bootstrapper(&self, token: &Bootstrap) -> Result<Right, Denied> {
        bootstrap::check(&self.records, token).await?;
        Ok(Right::Bootstrapper(token.id.clone()))
    }
}

fn of_password(secrets: &Secrets, password: &Password) -> Option<Right> {
    let server = password.is(&secrets.server);
    match password.user.as_str() {
        SERVER_USER if server => Some(Right::Server),
        // The servers' secret lets agents join too.
        NODE_USER if server || password.is(secrets.agent()) => Some(Right::Agent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Change, in_memory};

    fn with(user: &str, password: &str) -> Credentials {
        Credentials::Password(Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[tokio::test]
    async fn each_secret_gives_its_right_and_no_more() {
        let secrets = Secrets { server: "s".into(), agent: Some("a".into()) };
        let shared = SharedSecrets::new(in_memory(), SealKey::derived(b"ca"), secrets);
        assert_eq!(shared.right(&with("server", "s")).await, Ok(Right::Server));
        assert_eq!(shared.right(&with("node", "s")).await, Ok(Right::Agent));
        assert_eq!(shared.right(&with("node", "a")).await, Ok(Right::Agent));
        for (user, password) in
            [("server", "a"), ("server", ""), ("node", ""), ("node", "x"), ("", "s"), ("root", "s")]
        {
            assert_eq!(shared.right(&with(user, password)).await, Err(Denied::Wrong), "{user}:{password}");
        }
    }

    #[tokio::test]
    async fn a_secret_that_another_server_replaced_is_taken_over() {
        let records = in_memory();
        let old = Secrets { server: "old".into(), agent: None };
        let shared = SharedSecrets::new(records.clone(), SealKey::derived(b"ca"), old);
        let new = Secrets { server: "new".into(), agent: None };
        let sealed = new.sealed(&SealKey::derived(b"ca")).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("new"));
        records.change(&[Change::Put(KEY.into(), sealed)]).await.unwrap();
        assert_eq!(shared.right(&with("server", "new")).await, Ok(Right::Server));
        assert_eq!(shared.right(&with("server", "old")).await, Err(Denied::Wrong));
        let other = SharedSecrets::new(
            records,
            SealKey::derived(b"another"),
            Secrets { server: "x".into(), agent: None },
        );
        assert!(matches!(other.right(&with("server", "new")).await, Err(Denied::Unknown(_))));
    }
}
