//! Cuts a stream of bytes into JSON values, byte by byte, as Go's
//! `encoding/json` decoder does and with its error texts.

use bytes::Bytes;

use super::go::quote_byte;

/// Deepest nesting, as in Go.
const MAX_DEPTH: usize = 10_000;

const TRUNCATED: &str = "unexpected EOF";

/// Where in a value the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// After `[`.
    ValueOrEnd,
    Key,
    /// After `{`.
    KeyOrEnd,
    /// After a value.
    After,
    Text,
    Escape,
    /// In `\u`, with so many digits still to come.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// In a word, after so many of its letters.
    Word(&'static str, usize),
}

/// What is open around the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// An object, at a key.
    Key,
    /// An object, at a value.
    Member,
    Array,
}

/// What a byte meant.
enum Step {
    /// A space before the value.
    Space,
    /// It belongs to the value.
    More,
    /// It ends the value.
    Last,
    /// The value has ended before it.
    Before,
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScanError {
    /// Not JSON: the reason, in Go's words.
    Syntax(String),
    /// Longer than allowed.
    TooLong,
}

/// Follows the values of one stream.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    open: Vec<Open>,
    value: Vec<u8>,
    max_bytes: usize,
}

impl Scanner {
    /// A scanner of values of at most `max_bytes`.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { state: State::Value, open: Vec::new(), value: Vec::new(), max_bytes }
    }

    /// Takes bytes off `data`, up to the end of a value; answers that value.
    pub(super) fn feed(&mut self, data: &mut Bytes) -> Result<Option<Vec<u8>>, ScanError> {
        let mut begin = 0;
        for (at, byte) in data.iter().enumerate() {
            let end = match self.step(*byte).map_err(ScanError::Syntax)? {
                Step::More => continue,
                Step::Space => {
                    begin = at + 1;
                    continue;
                }
                Step::Last => at + 1,
                Step::Before => at,
            };
            let rest = data.split_off(end);
            let last = std::mem::replace(data, rest);
            self.keep(last.get(begin..).unwrap_or_default())?;
            self.state = State::Value;
            return Ok(Some(std::mem::take(&mut self.value)));
        }
        let data = std::mem::take(data);
        self.keep(data.get(begin..).unwrap_or_default())?;
        Ok(None)
    }

    /// The value that the end of the stream ends, if there is one.
    pub(super) fn finish(&mut self) -> Result<Option<Vec<u8>>, ScanError> {
        if self.value.is_empty() {
            return Ok(None);
        }
        match self.step(b' ') {
            Ok(Step::Before) => Ok(Some(std::mem::take(&mut self.value))),
            _ => Err(ScanError::Syntax(TRUNCATED.to_owned())),
        }
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), ScanError> {
        if self.value.len().saturating_add(part.len()) > self.max_bytes {
            return Err(ScanError::TooLong);
        }
        self.value.extend_from_slice(part);
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<Step, String> {
        self.state = match (self.state, byte) {
            (State::Text, b'"') => State::After,
            (State::Text, b'\\') => State::Escape,
            (State::Text, 0..=0x1f) => return refuse(byte, "in string literal"),
            (State::Text, _) => State::Text,
            (State::Escape, b'u') => State::Hex(4),
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::Text,
            (State::Escape, _) => return refuse(byte, "in string escape code"),
            (State::Hex(left), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => match left {
                0 | 1 => State::Text,
                _ => State::Hex(left - 1),
            },
            (State::Hex(_), _) => return refuse(byte, r"in \u hexadecimal character escape"),
            (
                State::Value | State::ValueOrEnd | State::Key | State::KeyOrEnd | State::After,
                b' ' | b'\t' | b'\r' | b'\n',
            ) => {
                return Ok(self.space());
            }
            (State::ValueOrEnd, b']') => return self.after(byte),
            (State::KeyOrEnd, b'}') => {
                if let Some(open) = self.open.last_mut() {
                    *open = Open::Member; // an object that ends may not wait for a key
                }
                return self.after(byte);
            }
            (State::KeyOrEnd | State::Key, b'"') => State::Text,
            (State::KeyOrEnd | State::Key, _) => {
                return refuse(byte, "looking for beginning of object key string");
            }
            (State::Value | State::ValueOrEnd, _) => self.begin(byte)?,
            (State::After, _) => return self.after(byte),
            (State::Word(word, at), _) => match word.as_bytes().get(at) {
                Some(next) if *next != byte => {
                    let context = format!("in literal {word} (expecting {})", quote_byte(*next));
                    return refuse(byte, &context);
                }
                Some(_) if at + 1 < word.len() => State::Word(word, at + 1),
                _ => State::After,
            },
            (state, _) => match number(state, byte)? {
                Some(state) => state,
                None => return self.after(byte),
            },
        };
        Ok(Step::More)
    }

    /// A space between tokens.
    fn space(&self) -> Step {
        match (self.state, self.open.is_empty()) {
            (State::After, true) => Step::Before,
            (_, true) => Step::Space,
            (_, false) => Step::More,
        }
    }

    /// The state after the first byte of a value.
    fn begin(&mut self, byte: u8) -> Result<State, String> {
        Ok(match byte {
            b'{' => self.push(byte, Open::Key, State::KeyOrEnd)?,
            b'[' => self.push(byte, Open::Array, State::ValueOrEnd)?,
            b'"' => State::Text,
            b'-' => State::Minus,
            b'0' => State::Zero,
            b'1'..=b'9' => State::Digits,
            b't' => State::Word("true", 1),
            b'f' => State::Word("false", 1),
            b'n' => State::Word("null", 1),
            _ => return refuse(byte, "looking for beginning of value"),
        })
    }

    fn push(&mut self, byte: u8, open: Open, state: State) -> Result<State, String> {
        if self.open.len() >= MAX_DEPTH {
            return refuse(byte, "exceeded max depth");
        }
        self.open.push(open);
        Ok(state)
    }

    /// The first byte after a value, or what closes an empty one.
    fn after(&mut self, byte: u8) -> Result<Step, String> {
        let Some(open) = self.open.last_mut() else { return Ok(Step::Before) };
        self.state = State::After;
        match (*open, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => return Ok(Step::More),
            (Open::Key, b':') => {
                *open = Open::Member;
                self.state = State::Value;
            }
            (Open::Member, b',') => {
                *open = Open::Key;
                self.state = State::Key;
            }
            (Open::Array, b',') => self.state = State::Value,
            (Open::Member, b'}') | (Open::Array, b']') => {
                self.open.pop();
                if self.open.is_empty() {
                    return Ok(Step::Last);
                }
            }
            (Open::Key, _) => return refuse(byte, "after object key"),
            (Open::Member, _) => return refuse(byte, "after object key:value pair"),
            (Open::Array, _) => return refuse(byte, "after array element"),
        }
        Ok(Step::More)
    }
}

/// The state after the next byte of a number; `None` when the number has ended.
fn number(state: State, byte: u8) -> Result<Option<State>, String> {
    Ok(Some(match (state, byte) {
        (State::Minus, b'0') => State::Zero,
        (State::Minus, b'1'..=b'9') => State::Digits,
        (State::Minus, _) => return refuse(byte, "in numeric literal"),
        (State::Digits, b'0'..=b'9') => State::Digits,
        (State::Zero | State::Digits, b'.') => State::Point,
        (State::Point, b'0'..=b'9') => State::Fraction,
        (State::Point, _) => return refuse(byte, "after decimal point in numeric literal"),
        (State::Fraction, b'0'..=b'9') => State::Fraction,
        (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => State::Exponent,
        (State::Exponent, b'+' | b'-') => State::ExponentSign,
        (State::Exponent | State::ExponentSign | State::ExponentDigits, b'0'..=b'9') => State::ExponentDigits,
        (State::Exponent | State::ExponentSign, _) => return refuse(byte, "in exponent of numeric literal"),
        _ => return Ok(None),
    }))
}

fn refuse<T>(byte: u8, context: &str) -> Result<T, String> {
    Err(format!("invalid character {} {context}", quote_byte(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values of a text, fed in pieces, and how it ended.
    fn values(text: &[u8], piece: usize) -> (Vec<String>, Result<(), String>) {
        let mut scanner = Scanner::new(1 << 20);
        let mut values = Vec::new();
        let mut take = |value: Vec<u8>| values.push(String::from_utf8_lossy(&value).into_owned());
        let text_of = |error| match error {
            ScanError::Syntax(text) => text,
            ScanError::TooLong => "too long".to_owned(),
        };
        for part in text.chunks(piece) {
            let mut part = Bytes::copy_from_slice(part);
            while !part.is_empty() {
                match scanner.feed(&mut part) {
                    Ok(Some(value)) => take(value),
                    Ok(None) => assert!(part.is_empty()),
                    Err(error) => return (values, Err(text_of(error))),
                }
            }
        }
        match scanner.finish() {
            Ok(value) => {
                value.into_iter().for_each(take);
                (values, Ok(()))
            }
            Err(error) => (values, Err(text_of(error))),
        }
    }

    #[test]
    fn values_are_cut_wherever_the_pieces_end() {
        let text = b" {\"a\": [1, 2.5e-3, {}]}\n[]5 \"x\\u00e9\\\"\"true{ } -0";
        let want = ["{\"a\": [1, 2.5e-3, {}]}", "[]", "5", "\"x\\u00e9\\\"\"", "true", "{ }", "-0"];
        for piece in 1..=text.len() {
            let (values, end) = values(text, piece);
            assert_eq!((values.as_slice(), end), (want.map(str::to_owned).as_slice(), Ok(())), "{piece}");
        }
    }

    #[test]
    fn errors_are_in_gos_words() {
        for (text, want) in [
            ("garbage", "invalid character 'g' looking for beginning of value"),
            ("{", "unexpected EOF"),
            ("\"a", "unexpected EOF"),
            ("-", "unexpected EOF"),
            ("tru", "unexpected EOF"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1", "invalid character '1' after object key"),
            ("{\"a\":1 2", "invalid character '2' after object key:value pair"),
            ("[1 2", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("\"\n", "invalid character '\\n' in string literal"),
            ("\"\\x", "invalid character 'x' in string escape code"),
            ("\"\\u12g", "invalid character 'g' in \\u hexadecimal character escape"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.a", "invalid character 'a' after decimal point in numeric literal"),
            ("1ea", "invalid character 'a' in exponent of numeric literal"),
            ("[01]", "invalid character '1' after array element"),
        ] {
            assert_eq!(values(text.as_bytes(), 3), (vec![], Err(want.to_owned())), "{text}");
        }
        assert_eq!(values(b"", 1), (vec![], Ok(())));
        assert_eq!(values(b" \n", 1), (vec![], Ok(())));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert_eq!(
            values(deep.as_bytes(), 100).1,
            Err("invalid character '[' exceeded max depth".to_owned())
        );
        let fits = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert_eq!(values(fits.as_bytes(), 100).0.len(), 1);
        let mut scanner = Scanner::new(10);
        assert_eq!(scanner.feed(&mut Bytes::from_static(b"  \"12345678")), Ok(None));
        assert_eq!(scanner.feed(&mut Bytes::from_static(b"9\"")), Err(ScanError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn what_serde_takes_is_taken_and_what_it_refuses_is_refused(text in "[ \\[\\]{}:,\"\\\\ua0-2.eE+tfn-]{0,20}") {
            let theirs = match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => true,
                // A matter of what it is for.
                Err(error) => error.to_string().contains("number out of range"),
            };
            let (values, end) = values(text.as_bytes(), 4);
            // More than one value is for the caller to judge.
            proptest::prop_assert_eq!(theirs, end.is_ok() && values.len() == 1, "{}", text);
        }
    }
}
