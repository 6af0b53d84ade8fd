//! The token that lets a node join.

use std::fmt;
use std::str::FromStr;

use crate::credentials::{Bootstrap, Credentials, Password};
use crate::hash::CaHash;

const PREFIX: &str = "K10";

/// A join token. Three forms are read:
///
/// - `K10<hash>::<user>:<password>` or `K10<hash>::<bootstrap token>`: whoever holds it
///   talks to the servers of these authorities only;
/// - `<id>.<secret>`, a bootstrap token alone;
/// - anything else is a password alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The authorities to trust; without it whoever answers is believed once.
    pub ca_hash: Option<CaHash>,
    /// What is shown to the server.
    pub credentials: Credentials,
}

/// Why a text is no token. Never holds the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("the token is empty; copy it from the file server/token of a server")]
    Empty,
    /// Longer than any token.
    #[error("the token is longer than {} bytes", Token::MAX_LENGTH)]
    TooLong,
    /// It holds spaces or control characters.
    #[error("the token holds white space or control characters; copy it as one line")]
    NotOneWord,
    /// What comes before `::` is no hash.
    #[error("the token is damaged: K10 must be followed by 64 hexadecimal digits and ::")]
    Hash,
    /// What comes after the hash is no user with a password.
    #[error("the token is damaged: user:password or a bootstrap token must follow its hash")]
    Credentials,
}

impl Token {
    /// The longest text that is read.
    pub const MAX_LENGTH: usize = 4096;

    /// The whole text of a token, its secret too: for files and answers, never for logs.
    #[must_use]
    pub fn reveal(&self) -> String {
        let credentials = match &self.credentials {
            Credentials::Password(Password { user, password }) => format!("{user}:{password}"),
            Credentials::Bootstrap(Bootstrap { id, secret }) => format!("{id}.{secret}"),
        };
        let hash = self.ca_hash.map(|hash| hash.to_string()).unwrap_or_default();
        format!("{PREFIX}{hash}::{credentials}")
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(TokenError::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TokenError::NotOneWord);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let credentials = Bootstrap::parse(text).map_or_else(
                || Credentials::Password(Password { user: String::new(), password: text.to_owned() }),
                Credentials::Bootstrap,
            );
            return Ok(Token { ca_hash: None, credentials });
        };
        let (hash, credentials) = rest.split_once("::").unwrap_or(("", rest));
        let ca_hash = match hash {
            "" => None,
            hash => Some(hash.parse().map_err(|()| TokenError::Hash)?),
        };
        Ok(Token { ca_hash, credentials: after_the_hash(credentials)? })
    }
}

fn after_the_hash(text: &str) -> Result<Credentials, TokenError> {
    if let Some(bootstrap) = Bootstrap::parse(text) {
        return Ok(Credentials::Bootstrap(bootstrap));
    }
    match text.split_once(':') {
        Some((user, password)) if !password.is_empty() => {
            Ok(Credentials::Password(Password { user: user.to_owned(), password: password.to_owned() }))
        }
        _ => Err(TokenError::Credentials),
    }
}

/// Shows what may be known: the hash and the user, or the id.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match &self.credentials {
            Credentials::Password(password) => &password.user,
            Credentials::Bootstrap(bootstrap) => &bootstrap.id,
        };
        match self.ca_hash {
            Some(hash) => write!(f, "{PREFIX}{hash}::{who}:***"),
            None => write!(f, "{who}:***"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(text: &str) -> Result<(Option<String>, String), TokenError> {
        let token: Token = text.parse()?;
        let who = match token.credentials {
            Credentials::Password(Password { user, password }) => format!("{user}:{password}"),
            Credentials::Bootstrap(Bootstrap { id, secret }) => format!("{id}.{secret}"),
        };
        Ok((token.ca_hash.map(|hash| hash.to_string()), who))
    }

    #[test]
    fn every_form_is_read() {
        let hash = Some(HASH.to_owned());
        let bootstrap = "abcdef.0123456789abcdef";
        assert_eq!(
            read(&format!("K10{HASH}::server:s3:cr::et\n")),
            Ok((hash.clone(), "server:s3:cr::et".into()))
        );
        assert_eq!(read(&format!("K10{HASH}::{bootstrap}")), Ok((hash, bootstrap.into())));
        assert_eq!(read("secret"), Ok((None, ":secret".into())));
        assert_eq!(read("se:cr:et"), Ok((None, ":se:cr:et".into())), "a short form is the password alone");
        assert_eq!(read(bootstrap), Ok((None, bootstrap.into())));
        assert_eq!(read("K10::node:x"), Ok((None, "node:x".into())));
    }

    #[test]
    fn damaged_ones_are_refused_with_the_reason() {
        assert_eq!(read(" \n"), Err(TokenError::Empty));
        assert_eq!(read(&"x".repeat(Token::MAX_LENGTH + 1)), Err(TokenError::TooLong));
        assert_eq!(read("two words"), Err(TokenError::NotOneWord));
        assert_eq!(read(&format!("K10{}::node:x", &HASH[1..])), Err(TokenError::Hash));
        assert_eq!(read(&format!("K10{HASH}::node")), Err(TokenError::Credentials));
        assert_eq!(read(&format!("K10{HASH}::node:")), Err(TokenError::Credentials));
        assert_eq!(read("K10secret"), Err(TokenError::Credentials));
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let token: Token = format!("K10{HASH}::node:hush").parse().unwrap();
        assert_eq!(token.to_string(), format!("K10{HASH}::node:***"));
        assert!(!format!("{token:?}").contains("hush"));
        assert_eq!(token.reveal(), format!("K10{HASH}::node:hush"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in "(K10)?[a-f0-9:.]{0,80}|\\PC*") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.reveal().parse::<Token>(), Ok(token));
            }
        }
    }
}
