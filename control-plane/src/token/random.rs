//! Secrets nobody can guess.

use ring::rand::{SecureRandom, SystemRandom};

/// What bootstrap tokens are made of.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Random bytes.
///
/// # Errors
/// A sentence: the system gives none.
pub fn bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}

/// A password: 128 bits, in hexadecimal.
///
/// # Errors
/// As [`bytes()`].
pub fn password() -> Result<String, String> {
    hex::<16>()
}

/// As many random bytes, in hexadecimal.
///
/// # Errors
/// As [`bytes()`].
pub fn hex<const N: usize>() -> Result<String, String> {
    Ok(bytes::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`.
///
/// # Errors
/// As [`bytes()`].
pub fn bootstrap_token() -> Result<String, String> {
    Ok(format!("{}.{}", letters(6)?, letters(16)?))
}

fn letters(count: usize) -> Result<String, String> {
    // Bytes that would make some letters likelier are passed over.
    let fair = u8::MAX - u8::MAX % LETTERS.len() as u8;
    let mut text = String::new();
    while text.len() < count {
        for byte in bytes::<32>()?.into_iter().filter(|byte| *byte < fair).take(count - text.len()) {
            text.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_tokens_have_their_form_and_differ() {
        let made: Vec<String> = (0..100).map(|_| bootstrap_token().unwrap()).collect();
        assert!(made.iter().all(|token| skiff_token::Bootstrap::parse(token).is_some()));
        let different: std::collections::BTreeSet<&String> = made.iter().collect();
        assert_eq!(different.len(), 100);
        assert_eq!(password().unwrap().len(), 32);
    }
}
