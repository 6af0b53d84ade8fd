//! Signed tokens (JWT).
//!
//! One algorithm is configured, and a token of any other is forged: above all
//! one that claims to need no signature. The claims are etcd's: `username`,
//! `revision` and `exp`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use skiff_store::{Caller, Error, Result};

/// Settings of signed tokens.
#[derive(Clone)]
pub struct JwtOptions {
    /// Algorithm, by its registered name.
    pub sign_method: String,
    /// Public key, PEM. Without a private key tokens can be checked, not made.
    pub public_key: Option<Vec<u8>>,
    /// Private key, PEM; for the HS algorithms the shared secret, as it is.
    pub private_key: Option<Vec<u8>>,
    /// Time a token lives.
    pub ttl: Duration,
}

/// The keys of signed tokens.
pub struct JwtKeys {
    algorithm: Algorithm,
    /// `None` where tokens can only be checked.
    signing: Option<EncodingKey>,
    checking: DecodingKey,
    ttl: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    username: &'a str,
    revision: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Claimed {
    username: String,
    revision: f64,
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKeys({:?}, ttl {:?})", self.algorithm, self.ttl)
    }
}

impl JwtKeys {
    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence: the algorithm is not known, a key is missing, is not one, or
    /// the two do not belong together.
    pub fn new(options: &JwtOptions) -> Result<Self, String> {
        let algorithm: Algorithm = options.sign_method.parse().map_err(|_| {
            format!(
                "sign-method={:?} is not offered: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, \
                 ES256, ES384 and EdDSA are",
                options.sign_method
            )
        })?;
        let (private, public) = (options.private_key.as_deref(), options.public_key.as_deref());
        let (signing, checking) = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = private.filter(|secret| !secret.is_empty());
                let secret = secret.ok_or("priv-key is missing: the file with the shared secret")?;
                (Some(EncodingKey::from_secret(secret)), DecodingKey::from_secret(secret))
            }
            _ => key_pair(algorithm, private, public)?,
        };
        let keys = Self { algorithm, signing, checking, ttl: options.ttl };
        // Keys that do not belong together would refuse every token they make.
        if let Some(token) = keys.signing.is_some().then(|| keys.sign("probe", 1)) {
            let token = token.map_err(|error| format!("priv-key: {error}"))?;
            let probe = options.ttl.is_zero() || keys.verify(&token).is_some();
            if !probe {
                return Err("pub-key and priv-key do not belong together".to_owned());
            }
        }
        Ok(keys)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// There is no private key, in etcd's words.
    pub(crate) fn sign(&self, user: &str, revision: u64) -> Result<String> {
        let signing = self
            .signing
            .as_ref()
            .ok_or_else(|| Error::Other("auth: token signing attempted with verify-only key".to_owned()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims { username: user, revision, exp: now.saturating_add(self.ttl).as_secs() };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, signing)
            .map_err(|error| Error::Other(format!("sign a token: {error}")))
    }

    /// Who presents a token; `None` if it is forged or has expired.
    pub(crate) fn verify(&self, token: &str) -> Option<Caller> {
        let mut validation = Validation::new(self.algorithm);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        // As etcd: who holds the key may sign a token that does not expire.
        validation.required_spec_claims.clear();
        let claimed = jsonwebtoken::decode::<Claimed>(token, &self.checking, &validation).ok()?.claims;
        Some(Caller { user: claimed.username, auth_revision: claimed.revision as u64 })
    }
}

type Keys = (Option<EncodingKey>, DecodingKey);

fn key_pair(algorithm: Algorithm, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<Keys, String> {
    let signing = private.map(|pem| signing_key(algorithm, pem)).transpose()?;
    let checking = match (public, signing.as_ref()) {
        (Some(pem), _) => public_key(algorithm, pem)?,
        (None, Some((_, checking))) => checking.clone(),
        (None, None) => return Err("pub-key and priv-key are missing: at least one is needed".to_owned()),
    };
    Ok((signing.map(|(signing, _)| signing), checking))
}

fn public_key(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    let key = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    };
    key.map_err(|error| format!("pub-key is no public key (PEM) for {algorithm:?}: {error}"))
}

/// A private key and the public one in it.
fn signing_key(algorithm: Algorithm, pem: &[u8]) -> Result<(EncodingKey, DecodingKey), String> {
    let wrong = |what: &dyn fmt::Display| format!("priv-key is no private key for {algorithm:?}: {what}");
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(&error))?;
    let pkcs8 = || match &der {
        PrivateKeyDer::Pkcs8(der) => Ok(der.secret_pkcs8_der()),
        _ => Err(wrong(&"not in PKCS #8; openssl pkcs8 -topk8 -nocrypt converts it")),
    };
    match algorithm {
        Algorithm::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8()?).map_err(|e| wrong(&e)),
        Algorithm::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8()?).map_err(|e| wrong(&e)),
        Algorithm::EdDSA => {
            let der = pkcs8()?;
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|error| wrong(&error))?;
            Ok((EncodingKey::from_ed_der(der), DecodingKey::from_ed_der(pair.public_key().as_ref())))
        }
        _ => {
            let pair = match &der {
                PrivateKeyDer::Pkcs1(der) => ring::rsa::KeyPair::from_der(der.secret_pkcs1_der()),
                PrivateKeyDer::Pkcs8(der) => ring::rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()),
                _ => return Err(wrong(&"not an RSA key")),
            };
            let pair = pair.map_err(|error| wrong(&error))?;
            let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
            let signing = EncodingKey::from_rsa_pem(pem).map_err(|error| wrong(&error))?;
            Ok((signing, DecodingKey::from_rsa_raw_components(&parts.n, &parts.e)))
        }
    }
}

fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    pkcs8: &[u8],
) -> Result<(EncodingKey, DecodingKey), ring::error::KeyRejected> {
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &ring::rand::SystemRandom::new())?;
    Ok((EncodingKey::from_ec_der(pkcs8), DecodingKey::from_ec_der(pair.public_key().as_ref())))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
