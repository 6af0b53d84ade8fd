//! The tokens of this member, by its own clock.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::auth::{SimpleTokens, TokenChange};
use tokio::time::Instant;

use crate::clock::Clock;

/// [`SimpleTokens`] with a clock.
pub(crate) struct Tokens {
    kept: SimpleTokens,
    clock: Arc<dyn Clock>,
    started: Instant,
}

impl Tokens {
    /// Keeps tokens that live for `ttl` after their last use. Those given out
    /// by entries up to `replayed_through` stay forgotten.
    pub(crate) fn new(clock: Arc<dyn Clock>, ttl: Duration, replayed_through: u64) -> Self {
        Self { kept: SimpleTokens::new(ttl, replayed_through), started: clock.now(), clock }
    }

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.started)
    }

    /// Takes over what entries did.
    pub(crate) fn apply(&self, changes: &[TokenChange]) {
        if !changes.is_empty() {
            self.kept.apply(changes, self.now());
        }
    }

    /// Forgets all tokens: the state was replaced, and what happened to their
    /// users in between is not known.
    pub(crate) fn clear(&self) {
        self.kept.clear();
    }

    /// The user of a token.
    pub(crate) fn use_token(&self, token: &str) -> Option<String> {
        self.kept.use_token(token, self.now())
    }
}
