//! Seals texts for the datastore: AES-256 in GCM, with a key from a password by
//! scrypt, or from another secret.
//!
//! The form is `skiff-seal:v1:<log2 n>:<r>:<p>:<salt>:<nonce and ciphertext>`; what
//! stands before the ciphertext is authenticated with it. Another version is
//! refused by name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use crate::token::random;

const MAGIC: &str = "skiff-seal";
const VERSION: &str = "v1";
/// scrypt's cost: 32 MiB and about 100 ms.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;
/// Costs beyond these are not paid for what others wrote.
const MAX_LOG_N: u8 = 20;
const MAX_R: u32 = 16;
const MAX_P: u32 = 4;
const SALT_BYTES: usize = 16;
/// The largest sealed text that is opened.
const MAX_BYTES: usize = 1 << 20;

/// Why a sealed text cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The password is another one, or the text was changed.
    #[error("the token does not open it")]
    Wrong,
    /// Written by another version of us, or by something else.
    #[error("it is of the version {0:?}, which this skiff does not know")]
    Version(String),
    /// Not what we write.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// A key for texts, from a secret that is long and random itself.
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// The key that follows from a secret: the private key of an authority.
    #[must_use]
    pub fn derived(secret: &[u8]) -> SealKey {
        let material = Salt::new(HKDF_SHA256, b"skiff servers").extract(secret);
        // Both lengths are AES-256's own, so that neither step can fail.
        let key = material.expand(&[b"records"], &AES_256_GCM).map(UnboundKey::from);
        match key {
            Ok(key) => SealKey(LessSafeKey::new(key)),
            Err(_) => unreachable!("AES-256's key length suits HKDF"),
        }
    }
}

/// Seals a text with a key; `place` must be the same when it is opened.
///
/// # Errors
/// A sentence: no random numbers.
pub fn seal_with(key: &SealKey, place: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    let header = format!("{MAGIC}:{VERSION}:key:");
    let body = encrypt(&key.0, &format!("{header}{place}"), text)?;
    Ok(format!("{header}{}", STANDARD_NO_PAD.encode(body)).into_bytes())
}

/// Opens what [`seal_with`] sealed.
///
/// # Errors
/// A sentence.
pub fn open_with(key: &SealKey, place: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let header = format!("{MAGIC}:{VERSION}:key:");
    let wrong =
        || "the servers' secrets in the datastore are not sealed by this server's authority".to_owned();
    let text = std::str::from_utf8(sealed).map_err(|_| wrong())?;
    let body = text.strip_prefix(&header).ok_or_else(wrong)?;
    let body = STANDARD_NO_PAD.decode(body).map_err(|_| wrong())?;
    decrypt(&key.0, &format!("{header}{place}"), body).map_err(|_| wrong())
}

/// Seals a text with a password. Takes a while: not for request threads.
///
/// # Errors
/// A sentence: no random numbers.
pub fn seal(password: &str, text: &[u8]) -> Result<String, String> {
    let salt = STANDARD_NO_PAD.encode(random::bytes::<SALT_BYTES>()?);
    let header = format!("{MAGIC}:{VERSION}:{LOG_N}:{R}:{P}:{salt}:");
    let key = stretch(password, &salt, LOG_N, R, P).map_err(|e| e.to_string())?;
    let body = encrypt(&key, &header, text)?;
    Ok(format!("{header}{}", STANDARD_NO_PAD.encode(body)))
}

/// Opens what [`seal`] sealed. Takes a while.
///
/// # Errors
/// See [`OpenError`].
pub fn open(password: &str, sealed: &str) -> Result<Vec<u8>, OpenError> {
    if sealed.len() > MAX_BYTES {
        return Err(OpenError::Damaged("it is too large"));
    }
    let mut parts = sealed.splitn(7, ':');
    let mut next = || parts.next().ok_or(OpenError::Damaged("a part is missing"));
    if next()? != MAGIC {
        return Err(OpenError::Damaged("it was not sealed by skiff"));
    }
    let version = next()?;
    if version != VERSION {
        return Err(OpenError::Version(version.chars().take(16).collect()));
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| OpenError::Damaged("a cost is no number"));
    let (log_n, r, p) = (number(next()?)?, number(next()?)?, number(next()?)?);
    let log_n = u8::try_from(log_n).map_err(|_| OpenError::Damaged("a cost is out of range"))?;
    if log_n > MAX_LOG_N || r > MAX_R || p > MAX_P {
        return Err(OpenError::Damaged("a cost is out of range"));
    }
    let salt = next()?;
    let body = STANDARD_NO_PAD.decode(next()?).map_err(|_| OpenError::Damaged("it is not base64"))?;
    let key = stretch(password, salt, log_n, r, p)?;
    let header = format!("{MAGIC}:{VERSION}:{log_n}:{r}:{p}:{salt}:");
    decrypt(&key, &header, body)
}

fn stretch(password: &str, salt: &str, log_n: u8, r: u32, p: u32) -> Result<LessSafeKey, OpenError> {
    let costs = OpenError::Damaged("a cost is out of range");
    let params = scrypt::Params::new(log_n, r, p, 32).map_err(|_| costs.clone())?;
    let mut key = [0; 32];
    scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &params, &mut key).map_err(|_| costs.clone())?;
    UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(|_| costs)
}

fn encrypt(key: &LessSafeKey, header: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    let nonce = random::bytes::<NONCE_LEN>()?;
    let mut sealed = text.to_vec();
    let aad = Aad::from(header.as_bytes());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
        .map_err(|_| "the text is too large to seal".to_owned())?;
    Ok([&nonce[..], &sealed].concat())
}

fn decrypt(key: &LessSafeKey, header: &str, body: Vec<u8>) -> Result<Vec<u8>, OpenError> {
    let Some((nonce, sealed)) = body.split_first_chunk::<NONCE_LEN>() else {
        return Err(OpenError::Damaged("it is cut"));
    };
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let text = key.open_in_place(nonce, Aad::from(header.as_bytes()), &mut sealed);
    text.map(|text| text.to_vec()).map_err(|_| OpenError::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_opens_it() {
        let sealed = seal("right", b"the text").unwrap();
        assert_eq!(open("right", &sealed).unwrap(), b"the text");
        assert_eq!(open("wrong", &sealed), Err(OpenError::Wrong));
        assert_ne!(sealed, seal("right", b"the text").unwrap());
        // No part of it can be changed unnoticed.
        let costs = sealed.replacen(":15:8:1:", ":14:8:1:", 1);
        assert_eq!(open("right", &costs), Err(OpenError::Wrong));
        let mut cut = sealed.clone();
        cut.truncate(sealed.len() - 4);
        assert_eq!(open("right", &cut), Err(OpenError::Wrong));
    }

    #[test]
    fn what_is_not_ours_is_named_and_costs_nothing() {
        let sealed = seal("p", b"").unwrap();
        let later = sealed.replacen(":v1:", ":v2:", 1);
        assert_eq!(open("p", &later), Err(OpenError::Version("v2".into())));
        for text in [
            "",
            "x",
            "skiff-seal",
            "skiff-seal:v1",
            "skiff-seal:v1:15:8:1:salt",
            "skiff-seal:v1:63:8:1:a:a",
            "skiff-seal:v1:15:4000000000:1:a:a",
            "skiff-seal:v1:15:8:1:a:!",
            "skiff-seal:v1:1:8:1:a:AA",
            "salt:YQ",
        ] {
            assert!(matches!(open("p", text), Err(OpenError::Damaged(_))), "{text}");
        }
    }

    #[test]
    fn a_derived_key_opens_what_was_sealed_for_the_same_place() {
        let key = SealKey::derived(b"secret");
        let sealed = seal_with(&key, "/a", b"text").unwrap();
        assert_eq!(open_with(&key, "/a", &sealed).unwrap(), b"text");
        assert!(open_with(&key, "/b", &sealed).is_err());
        assert!(open_with(&SealKey::derived(b"another"), "/a", &sealed).is_err());
        assert!(open_with(&key, "/a", b"").is_err());
    }
}
