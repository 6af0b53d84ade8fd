//! Simple tokens: names for users, known to every member because they are
//! given out through the log, and kept in memory only.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;

/// Tokens kept, at most; beyond it the one that would expire first goes.
const MAX_TOKENS: usize = 100_000;
/// How often expired tokens are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What an entry did to tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenChange {
    /// A user got a token.
    Assigned {
        /// The token.
        token: String,
        /// Its user.
        user: String,
        /// Index of the entry that gave it.
        index: u64,
    },
    /// All tokens of a user count no more.
    UserDropped(String),
    /// No token counts any more.
    AllDropped,
}

impl fmt::Debug for TokenChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { user, index, .. } => write!(f, "Assigned({user:?} @{index})"),
            Self::UserDropped(user) => write!(f, "UserDropped({user:?})"),
            Self::AllDropped => f.write_str("AllDropped"),
        }
    }
}

/// The tokens of a member. Times are readings of the owner's clock.
pub struct SimpleTokens {
    ttl: Duration,
    /// Entries up to here were in the log before this member started: tokens
    /// they gave out may have expired since, and do not come to life again.
    replayed_through: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tokens: HashMap<String, Token>,
    next_sweep: Duration,
}

struct Token {
    user: String,
    expires: Duration,
}

impl SimpleTokens {
    /// Keeps tokens that live for `ttl` after their last use.
    pub fn new(ttl: Duration, replayed_through: u64) -> Self {
        Self { ttl, replayed_through, kept: Mutex::default() }
    }

    /// Takes over what entries did, in order.
    pub fn apply(&self, changes: &[TokenChange], now: Duration) {
        let mut kept = self.kept.lock();
        for change in changes {
            match change {
                TokenChange::Assigned { index, .. } if *index <= self.replayed_through => {}
                TokenChange::Assigned { token, user, .. } => {
                    kept.make_room(now);
                    let expires = now.saturating_add(self.ttl);
                    kept.tokens.insert(token.clone(), Token { user: user.clone(), expires });
                }
                TokenChange::UserDropped(user) => kept.tokens.retain(|_, token| token.user != *user),
                TokenChange::AllDropped => kept.tokens.clear(),
            }
        }
    }

    /// Forgets all tokens, as when the state was replaced.
    pub fn clear(&self) {
        self.kept.lock().tokens.clear();
    }

    /// The user of a token, which lives on from now; `None` if it counts no more.
    pub fn use_token(&self, token: &str, now: Duration) -> Option<String> {
        let mut kept = self.kept.lock();
        let known = kept.tokens.get_mut(token)?;
        if known.expires <= now {
            kept.tokens.remove(token);
            return None;
        }
        known.expires = now.saturating_add(self.ttl);
        Some(known.user.clone())
    }

    /// Makes the token that the entry at `index` gives out.
    pub fn name(prefix: &str, index: u64) -> String {
        format!("{prefix}.{index}")
    }

    /// Index of the entry that gave out a token; `None` for what cannot be one.
    pub fn index_of(token: &str) -> Option<u64> {
        let (prefix, index) = token.split_once('.')?;
        let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        if prefix.is_empty() || !digits { None } else { index.parse().ok() }
    }

    /// How many tokens are kept, expired ones that were not looked at included.
    pub fn len(&self) -> usize {
        self.kept.lock().tokens.len()
    }

    /// True while none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Kept {
    /// Makes room for one more.
    fn make_room(&mut self, now: Duration) {
        if self.next_sweep <= now || self.tokens.len() >= MAX_TOKENS {
            self.next_sweep = now.saturating_add(SWEEP_INTERVAL);
            self.tokens.retain(|_, token| token.expires > now);
        }
        if self.tokens.len() >= MAX_TOKENS
            && let Some(first) = self.tokens.iter().min_by_key(|(_, token)| token.expires)
        {
            let first = first.0.clone();
            self.tokens.remove(&first);
        }
    }
}
