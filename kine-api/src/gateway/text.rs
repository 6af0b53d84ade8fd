//! What JSON strings say.

use std::borrow::Cow;

use super::go::quote;

/// Length of the string a text begins with, quotes included.
pub(super) fn length(text: &[u8]) -> usize {
    let mut escaped = true; // the first quote opens
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Why a string says nothing.
pub(super) enum Problem {
    /// The text ends too early.
    Truncated,
    /// What is wrong.
    Wrong(String),
}

/// What a string says. `after` is all that follows its first quote.
pub(super) fn unescape<'a>(inner: &'a [u8], after: &[u8]) -> Result<Cow<'a, str>, Problem> {
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| not_utf8());
    }
    let mut out = String::with_capacity(inner.len());
    let mut at = 0;
    while let Some(rest) = inner.get(at..).filter(|rest| !rest.is_empty()) {
        let plain = rest.iter().position(|b| *b == b'\\').unwrap_or(rest.len());
        let (plain, escape) = rest.split_at(plain);
        out.push_str(std::str::from_utf8(plain).map_err(|_| not_utf8())?);
        at += plain.len();
        let c = match escape.get(1) {
            None => break,
            Some(b'u') => {
                let (c, length) = unicode(after.get(at..).unwrap_or_default())?;
                at += length;
                out.push(c);
                continue;
            }
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(other) => char::from(*other),
        };
        at += 2;
        out.push(c);
    }
    Ok(Cow::Owned(out))
}

fn not_utf8() -> Problem {
    Problem::Wrong("invalid UTF-8 in string".to_owned())
}

/// The character of `\uXXXX`, or of two of them, and the length of that.
fn unicode(escapes: &[u8]) -> Result<(char, usize), Problem> {
    let unit = |at: usize| {
        let digits = std::str::from_utf8(escapes.get(at + 2..at + 6)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0).ok_or(Problem::Truncated)?;
    if !(0xd800..0xe000).contains(&first) {
        return Ok((char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 6));
    }
    let next = escapes.get(6..12).ok_or(Problem::Truncated)?;
    let second = unit(6).filter(|_| next.starts_with(br"\u"));
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(c) => Ok((c, 12)),
        None => Err(Problem::Wrong(format!("invalid escape code {} in string", quote(next)))),
    }
}
