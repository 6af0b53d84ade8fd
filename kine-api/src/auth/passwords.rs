//! Hashing and comparing passwords.
//!
//! Both are slow on purpose. They run on threads of their own, few at a time,
//! and only so many requests wait: whoever floods the server with passwords
//! waits behind himself, and the rest goes on.

use std::sync::Arc;

use skiff_store::{ApiError, Error, NodeError, Result};
use tokio::sync::Semaphore;

/// Requests that may wait or be worked at; more are refused.
const PLACES: usize = 64;
/// bcrypt looks at no more of a password; Go's refuses longer ones.
const MAX_PASSWORD_BYTES: usize = 72;
/// Hashes of a higher cost are not computed for a comparison: one would take
/// minutes. They can only come from an administrator that brings his own hash.
const MAX_COMPARED_COST: u32 = 18;
/// What etcd takes instead of a cost bcrypt does not know.
const DEFAULT_COST: u32 = 10;

/// Hashes and compares passwords.
pub(crate) struct Passwords {
    cost: u32,
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes at a cost from 4 to 31.
    pub(crate) fn new(cost: u32) -> Self {
        let known = (4..=31).contains(&cost);
        if !known {
            tracing::warn!(cost, default = DEFAULT_COST, "bcrypt knows no such cost; taking the default");
        }
        // Half of the machine at most: requests need the other half.
        let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self {
            cost: if known { cost } else { DEFAULT_COST },
            running: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// Hashes a password.
    ///
    /// # Errors
    /// It is too long, in the words of Go's bcrypt; too many wait.
    pub(crate) async fn hash(&self, password: String) -> Result<String> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Error::Other("bcrypt: password length exceeds 72 bytes".to_owned()));
        }
        let cost = self.cost;
        self.run(move || bcrypt::hash(password, cost)).await?.map_err(|error| Error::Other(error.to_string()))
    }

    /// Compares a password with a hash. A hash that is none matches nothing.
    ///
    /// # Errors
    /// [`ApiError::AuthFailed`] where they do not match; too many wait.
    pub(crate) async fn compare(&self, password: String, hash: &[u8]) -> Result<()> {
        let Some(hash) = comparable(hash, self.cost) else { return Err(ApiError::AuthFailed.into()) };
        match self.run(move || bcrypt::verify(password, &hash)).await? {
            Ok(true) => Ok(()),
            _ => Err(ApiError::AuthFailed.into()),
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| NodeError::TooManyRequests)?;
        let slot = self.running.clone().acquire_owned().await.map_err(|_| NodeError::Stopped)?;
        // The place is kept until the work is done, even if its request is gone.
        let work = move || {
            let done = work();
            drop((place, slot));
            done
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::Other(format!("hash a password: {error}")))
    }
}

/// A hash as text, unless it is none or would take too long.
fn comparable(hash: &[u8], own_cost: u32) -> Option<String> {
    let text = std::str::from_utf8(hash).ok()?;
    let cost: u32 = text.strip_prefix("$2")?.split('$').nth(1)?.parse().ok()?;
    (cost <= MAX_COMPARED_COST.max(own_cost)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_matches_its_hash() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".into()).await.unwrap();
        assert!(passwords.compare("secret".into(), hash.as_bytes()).await.is_ok());
        for (password, hash) in [("Secret", &hash[..]), ("", &hash), ("secret", ""), ("secret", "$2b$04$x")] {
            let error = passwords.compare(password.into(), hash.as_bytes()).await.unwrap_err();
            assert!(matches!(error, Error::Api(ApiError::AuthFailed)), "{error}");
        }
        let long = passwords.hash("x".repeat(73)).await.unwrap_err();
        assert_eq!(long.to_string(), "bcrypt: password length exceeds 72 bytes");
        assert!(passwords.hash("x".repeat(72)).await.is_ok());
    }

    #[tokio::test]
    async fn a_hash_made_elsewhere_is_compared() {
        let hash = b"$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
        let passwords = Passwords::new(4);
        assert!(passwords.compare("secret".into(), hash).await.is_ok());
        assert!(passwords.compare("wrong".into(), hash).await.is_err());
    }

    #[test]
    fn a_hash_that_takes_minutes_is_none() {
        assert!(comparable(b"$2a$10$abc", 10).is_some());
        assert!(comparable(b"$2a$31$abc", 10).is_none());
        assert!(comparable(b"$2a$31$abc", 31).is_some());
        assert!(comparable(b"$1$10$abc", 10).is_none());
        assert!(comparable(b"\xff", 10).is_none());
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let passwords = Arc::new(Passwords::new(4));
        let all = passwords.places.clone().acquire_many_owned(PLACES as u32).await.unwrap();
        let refused = passwords.hash("x".into()).await.unwrap_err();
        assert!(matches!(refused, Error::Node(NodeError::TooManyRequests)), "{refused}");
        drop(all);
        passwords.hash("x".into()).await.unwrap();
    }
}
