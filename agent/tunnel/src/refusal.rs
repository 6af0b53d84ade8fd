//! Why a stream is not opened.

use std::fmt;

/// Why the other end did not open a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    code: RefusalCode,
    text: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalCode {
    /// The acceptor's policy forbids the target.
    Forbidden,
    /// The target does not answer.
    Unreachable,
    /// The acceptor does not know the protocol, or cannot read the address.
    Unsupported,
    /// Too many streams are open.
    Busy,
    /// One that this version does not know.
    Other(u16),
}

impl RefusalCode {
    pub(crate) fn number(self) -> u16 {
        match self {
            RefusalCode::Forbidden => 1,
            RefusalCode::Unreachable => 2,
            RefusalCode::Unsupported => 3,
            RefusalCode::Busy => 4,
            RefusalCode::Other(number) => number,
        }
    }

    pub(crate) fn from_number(number: u16) -> Self {
        match number {
            1 => RefusalCode::Forbidden,
            2 => RefusalCode::Unreachable,
            3 => RefusalCode::Unsupported,
            4 => RefusalCode::Busy,
            other => RefusalCode::Other(other),
        }
    }
}

impl Refusal {
    /// The longest text; more is cut off.
    pub const MAX_TEXT: usize = 256;

    /// A refusal with a reason for people.
    #[must_use]
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Refusal { code, text: shortened(text.into()) }
    }

    /// Its kind.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        self.code
    }

    /// The reason; what the other end sent, so escape it where that matters.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.text.escape_debug())
    }
}

/// The text, cut to [`Refusal::MAX_TEXT`] bytes between two characters.
pub(crate) fn shortened(mut text: String) -> String {
    let mut end = text.len().min(Refusal::MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let refusal = Refusal::new(RefusalCode::Busy, "ä".repeat(200) + "x");
        assert_eq!(refusal.text(), "ä".repeat(128));
        let refusal = Refusal::new(RefusalCode::Busy, "x".to_owned() + &"ä".repeat(200));
        assert_eq!(refusal.text().len(), 255);
    }

    #[test]
    fn codes_keep_their_numbers() {
        for number in 0..10 {
            assert_eq!(RefusalCode::from_number(number).number(), number);
        }
    }
}
