//! Users and tokens: `--auth-token`, `--auth-token-ttl`, `--bcrypt-cost`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skiff_kine_api::{JwtKeys, JwtOptions, TokenKind};

use crate::cli::{Settings, value};

/// Time a simple token lives where none is given, as with etcd.
const DEFAULT_TTL: Duration = Duration::from_secs(300);
/// Time a signed token lives where none is given, as with etcd.
const DEFAULT_JWT_TTL: Duration = Duration::from_secs(300);

/// How users are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthOptions {
    /// Kind of the tokens.
    pub(crate) tokens: TokenOptions,
    /// Time a simple token lives after its last use.
    pub(crate) token_ttl: Duration,
    /// Cost of hashing passwords.
    pub(crate) bcrypt_cost: u32,
    /// The common name of a client's certificate names its user.
    pub(crate) by_certificate: bool,
}

/// Kind of the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenOptions {
    /// Random ones.
    Simple,
    /// Signed ones.
    Jwt {
        /// Algorithm.
        sign_method: String,
        /// File with the public key.
        public_key: Option<PathBuf>,
        /// File with the private key.
        private_key: Option<PathBuf>,
        /// Time a token lives.
        ttl: Duration,
    },
}

impl AuthOptions {
    /// Reads the flags; what is strange but harmless becomes a warning.
    pub(crate) fn from_settings(settings: &Settings, warnings: &mut Vec<String>) -> Result<Self, String> {
        let ttl = u64::try_from(settings.int("auth-token-ttl"))
            .map_err(|_| "--auth-token-ttl must not be below zero".to_owned())?;
        Ok(AuthOptions {
            tokens: TokenOptions::parse(settings.text("auth-token"), warnings)
                .map_err(|problem| format!("--auth-token: {problem}"))?,
            token_ttl: if ttl == 0 { DEFAULT_TTL } else { Duration::from_secs(ttl) },
            // Out of bounds stands for the default, with a warning, as with etcd.
            bcrypt_cost: u32::try_from(settings.int("bcrypt-cost")).unwrap_or_default(),
            by_certificate: settings.bool("client-cert-auth"),
        })
    }
}

impl TokenOptions {
    fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Self, String> {
        let (kind, rest) = text.split_once(',').unwrap_or((text, ""));
        let mut options = BTreeMap::new();
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| format!("{pair:?} does not have the form option=value"))?;
            if options.insert(key, value).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        match kind {
            "simple" => Ok(TokenOptions::Simple),
            "jwt" => Self::jwt(options, warnings),
            other => Err(format!("{other:?} is no kind of token: simple and jwt are")),
        }
    }

    fn jwt(mut options: BTreeMap<&str, &str>, warnings: &mut Vec<String>) -> Result<Self, String> {
        let mut take = |key: &str| options.remove(key).filter(|value| !value.is_empty());
        let ttl =
            take("ttl").map(value::duration).transpose().map_err(|problem| format!("ttl: {problem}"))?;
        let parsed = TokenOptions::Jwt {
            sign_method: take("sign-method").ok_or("sign-method is missing")?.to_owned(),
            public_key: take("pub-key").map(PathBuf::from),
            private_key: take("priv-key").map(PathBuf::from),
            ttl: ttl.unwrap_or(DEFAULT_JWT_TTL),
        };
        warnings.extend(options.keys().map(|key| format!("--auth-token: the option {key} is not known")));
        Ok(parsed)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence with the file, or with what is wrong with the keys.
    pub(crate) fn load(&self) -> Result<TokenKind, String> {
        let TokenOptions::Jwt { sign_method, public_key, private_key, ttl } = self else {
            return Ok(TokenKind::Simple);
        };
        let read = |path: &Option<PathBuf>| {
            let read = path.as_ref().map(|path| {
                std::fs::read(path).map_err(|error| format!("--auth-token: {}: {error}", path.display()))
            });
            read.transpose()
        };
        let options = JwtOptions {
            sign_method: sign_method.clone(),
            public_key: read(public_key)?,
            private_key: read(private_key)?,
            ttl: *ttl,
        };
        let keys = JwtKeys::new(&options).map_err(|problem| format!("--auth-token: {problem}"))?;
        Ok(TokenKind::Jwt(Arc::new(keys)))
    }
}
