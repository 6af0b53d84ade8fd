//! Who asks to join, and by what right.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Longest `Authorization` header that is looked at.
const MAX_HEADER: usize = 8192;

/// By what right somebody joins. Its `Debug` form never shows a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// A user and the password of its kind of node.
    Password(Password),
    /// A token that a cluster gives out for a while.
    Bootstrap(Bootstrap),
}

/// A user with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// `server` or `node`; empty where a token names none.
    pub user: String,
    /// The secret.
    pub password: String,
}

/// A bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The public part, which names the Secret that holds the rest.
    pub id: String,
    /// The secret part.
    pub secret: String,
}

impl Credentials {
    /// The same, for this user where a password names none. A bootstrap token stays as it is.
    #[must_use]
    pub fn or_user(mut self, user: &str) -> Self {
        if let Credentials::Password(password) = &mut self
            && password.user.is_empty()
        {
            user.clone_into(&mut password.user);
        }
        self
    }

    /// The value of the `Authorization` header that says this. Holds the secret.
    #[must_use]
    pub fn authorization(&self) -> String {
        match self {
            Credentials::Password(Password { user, password }) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            Credentials::Bootstrap(Bootstrap { id, secret }) => format!("Bearer {id}.{secret}"),
        }
    }

    /// Reads an `Authorization` header. `None` where it says neither of the two.
    #[must_use]
    pub fn from_authorization(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER {
            return None;
        }
        let (scheme, value) = header.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Bootstrap::parse(value.trim()).map(Credentials::Bootstrap);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Credentials::Password(Password { user: user.to_owned(), password: password.to_owned() }))
    }
}

impl Password {
    /// True if both secrets are the same. How long it takes tells nothing about where they differ.
    #[must_use]
    pub fn is(&self, secret: &str) -> bool {
        same(&self.password, secret)
    }
}

impl Bootstrap {
    const ID: usize = 6;
    const SECRET: usize = 16;

    /// Reads one; `None` where the text has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let fits = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        (fits(id, Self::ID) && fits(secret, Self::SECRET))
            .then(|| Bootstrap { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// True if both secrets are the same. How long it takes tells nothing about where they differ.
    #[must_use]
    pub fn is(&self, secret: &str) -> bool {
        same(&self.secret, secret)
    }
}

/// Compares hashes: an early end of that comparison tells nothing about the texts.
fn same(left: &str, right: &str) -> bool {
    Sha256::digest(left) == Sha256::digest(right)
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password(Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn a_header_says_what_was_put_into_it() {
        let bootstrap = Credentials::Bootstrap(Bootstrap::parse("abcdef.0123456789abcdef").unwrap());
        for credentials in [password("node", "p:w ö"), password("", "x"), bootstrap] {
            assert_eq!(Credentials::from_authorization(&credentials.authorization()), Some(credentials));
        }
    }

    #[test]
    fn other_headers_say_nothing() {
        let long = format!("Basic {}", "A".repeat(MAX_HEADER));
        for header in ["", "Basic", "Basic !", "Basic YQ==", "Basic /w==", "Bearer x", "Negotiate a", &long] {
            assert_eq!(Credentials::from_authorization(header), None, "{header}");
        }
    }

    #[test]
    fn only_lower_case_and_digits_of_the_right_length_make_a_bootstrap_token() {
        for text in ["abcdef.0123456789abcde", "abcde.0123456789abcdef", "Abcdef.0123456789abcdef", "abcdef"]
        {
            assert_eq!(Bootstrap::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_user_is_added_only_where_there_is_none() {
        assert_eq!(password("", "x").or_user("node"), password("node", "x"));
        assert_eq!(password("server", "x").or_user("node"), password("server", "x"));
    }

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let Credentials::Password(password) = password("node", "hush") else { unreachable!() };
        assert!(password.is("hush") && !password.is("hus") && !password.is(""));
        let bootstrap = Bootstrap::parse("abcdef.0123456789abcdef").unwrap();
        assert!(bootstrap.is("0123456789abcdef") && !bootstrap.is("0123456789abcdee"));
        let shown = format!("{password:?} {bootstrap:?}");
        assert!(!shown.contains("hush") && !shown.contains("0123456789abcdef"), "{shown}");
    }
}
