//! Turns a JSON value into the bytes of a message, by the rules of proto3's
//! JSON form as etcd's gateway applies them: names as in the .proto file or in
//! camel case, numbers as such or as strings, enums by name or number, what is
//! not known is passed over, nothing may stand twice.
//!
//! The value has been through [`super::scan`], so its syntax is right but for
//! the insides of strings.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::number;
use super::text::{self, Problem};

/// Deepest nesting of messages: what the gRPC side reads.
const MAX_DEPTH: u32 = 100;

/// The bytes of a message, or what is wrong with its JSON.
pub(super) fn message(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = Reader { json, at: 0 };
    let mut out = Vec::with_capacity(json.len());
    reader.message(descriptor, &mut out, MAX_DEPTH).map_err(|error| format!("proto: {error}"))?;
    Ok(out)
}

type Outcome = Result<(), String>;

struct Reader<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no space; 0 at the end.
    fn peek(&mut self) -> u8 {
        self.at += self.rest().iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.rest().first().copied().unwrap_or_default()
    }

    /// Takes the next byte if it is this one.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    /// Takes the next token and answers it as it stands.
    fn token(&mut self) -> &'a [u8] {
        self.peek();
        let rest = self.rest();
        let length = match rest.first() {
            Some(b'"') => text::length(rest),
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => 1,
            _ => rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"-+.".contains(b)).count(),
        };
        let token = rest.get(..length).unwrap_or(rest);
        self.at += token.len();
        token
    }

    /// Line and column of a place, counted in characters from 1.
    fn position(&self, at: usize) -> String {
        let before = self.json.get(..at).unwrap_or(self.json);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(before.get(begin..).unwrap_or_default());
        format!("(line {line}:{})", text.chars().count() + 1)
    }

    /// Refuses the next token.
    fn unexpected(&mut self) -> String {
        self.peek();
        let at = self.at;
        if let Err(error) = self.checked_token() {
            return error;
        }
        let token = self.json.get(at..self.at).unwrap_or_default();
        format!("syntax error {}: unexpected token {}", self.position(at), String::from_utf8_lossy(token))
    }

    /// Takes the next token; a string among them must be one.
    fn checked_token(&mut self) -> Result<&'a [u8], String> {
        if self.peek() == b'"' {
            let at = self.at;
            self.text()?;
            return Ok(self.json.get(at..self.at).unwrap_or_default());
        }
        Ok(self.token())
    }

    /// Takes a string and answers what it says.
    fn text(&mut self) -> Result<Cow<'a, str>, String> {
        self.peek();
        let at = self.at;
        let token = self.token();
        let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
        let after = self.json.get(at + 1..).unwrap_or_default();
        text::unescape(inner, after).map_err(|problem| match problem {
            Problem::Truncated => "unexpected EOF".to_owned(),
            Problem::Wrong(what) => format!("syntax error {}: {what}", self.position(at)),
        })
    }

    /// Passes over a value of any shape.
    fn skip(&mut self) -> Outcome {
        let mut open = 0_usize;
        loop {
            match self.checked_token()? {
                b"{" | b"[" => open += 1,
                b"}" | b"]" => open = open.saturating_sub(1),
                b"" => return Ok(()), // the end, which the scanner has excluded
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn message(&mut self, descriptor: &MessageDescriptor, out: &mut Vec<u8>, depth: u32) -> Outcome {
        if depth == 0 {
            return Err("exceeded max recursion depth".to_owned());
        }
        if !self.takes(b'{') {
            return Err(self.unexpected());
        }
        let mut seen: Vec<u32> = Vec::new();
        let mut seen_oneofs: Vec<String> = Vec::new();
        while !self.takes(b'}') {
            if self.takes(b',') {
                continue;
            }
            self.peek();
            let at = self.at;
            let name = self.text()?;
            let raw = self.json.get(at..self.at).unwrap_or_default();
            let refuse = |reader: &Self, what: &str, why: &str| {
                Err(format!("{}: {what} {}{why}", reader.position(at), String::from_utf8_lossy(raw)))
            };
            self.takes(b':');
            let field =
                descriptor.get_field_by_json_name(&name).or_else(|| descriptor.get_field_by_name(&name));
            let Some(field) = field else {
                self.skip()?;
                continue;
            };
            if seen.contains(&field.number()) {
                return refuse(self, "duplicate field", "");
            }
            seen.push(field.number());
            if self.peek() == b'n' {
                self.skip()?; // null stands for nothing
                continue;
            }
            if let Some(oneof) = field.containing_oneof() {
                let oneof = oneof.full_name().to_owned();
                if seen_oneofs.contains(&oneof) {
                    return refuse(self, "error parsing", &format!(", oneof {oneof} is already set"));
                }
                seen_oneofs.push(oneof);
            }
            self.field(&field, out, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>, depth: u32) -> Outcome {
        if !field.is_list() {
            return self.single(field, out, depth);
        }
        if !self.takes(b'[') {
            return Err(self.unexpected());
        }
        while !self.takes(b']') {
            if !self.takes(b',') {
                self.single(field, out, depth)?;
            }
        }
        Ok(())
    }

    fn single(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>, depth: u32) -> Outcome {
        let Kind::Message(descriptor) = field.kind() else { return self.scalar(field, out) };
        let mut inner = Vec::new();
        self.message(&descriptor, &mut inner, depth - 1)?;
        encoding::bytes::encode(field.number(), &inner, out);
        Ok(())
    }

    fn scalar(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Outcome {
        self.peek();
        let at = self.at;
        let value =
            if self.peek() == b'"' { Scalar::Text(self.text()?) } else { Scalar::Plain(self.token()) };
        let begin = out.len();
        match value.write(field, out) {
            // A default is not sent where its absence says the same.
            Some(true) if !field.is_list() && !field.supports_presence() => out.truncate(begin),
            Some(_) => {}
            None => {
                let raw = String::from_utf8_lossy(self.json.get(at..self.at).unwrap_or_default());
                let (kind, name) = (kind_name(&field.kind()), field.json_name());
                let position = self.position(at);
                return Err(format!("{position}: invalid value for {kind} field {name}: {raw}"));
            }
        }
        Ok(())
    }
}

/// A value that is no object and no list.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Plain(&'a [u8]),
}

impl Scalar<'_> {
    /// Writes the value, and answers whether it is the default of its kind;
    /// `None` if it is not of that kind.
    fn write(&self, field: &FieldDescriptor, out: &mut Vec<u8>) -> Option<bool> {
        let tag = field.number();
        macro_rules! number {
            ($kind:ident, $parsed:expr) => {{
                let value = $parsed?;
                encoding::$kind::encode(tag, &value, out);
                Some(is_default(&value))
            }};
        }
        match field.kind() {
            Kind::Bool => number!(bool, self.boolean()),
            Kind::Int32 => number!(int32, self.whole()),
            Kind::Sint32 => number!(sint32, self.whole()),
            Kind::Sfixed32 => number!(sfixed32, self.whole()),
            Kind::Int64 => number!(int64, self.whole()),
            Kind::Sint64 => number!(sint64, self.whole()),
            Kind::Sfixed64 => number!(sfixed64, self.whole()),
            Kind::Uint32 => number!(uint32, self.whole()),
            Kind::Fixed32 => number!(fixed32, self.whole()),
            Kind::Uint64 => number!(uint64, self.whole()),
            Kind::Fixed64 => number!(fixed64, self.whole()),
            Kind::Float => number!(float, self.real::<f32>()),
            Kind::Double => number!(double, self.real::<f64>()),
            Kind::Enum(descriptor) => match self {
                Scalar::Text(name) => match descriptor.get_value_by_name(name) {
                    Some(value) => number!(int32, Some(value.number())),
                    None => Some(false), // passed over, as an unknown field
                },
                Scalar::Plain(_) => number!(int32, self.whole()),
            },
            Kind::String => match self {
                Scalar::Text(text) => {
                    encoding::bytes::encode(tag, &text.as_bytes().to_vec(), out);
                    Some(text.is_empty())
                }
                Scalar::Plain(_) => None,
            },
            Kind::Bytes => {
                let value = self.bytes()?;
                encoding::bytes::encode(tag, &value, out);
                Some(value.is_empty())
            }
            Kind::Message(_) => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Scalar::Plain(b"true") => Some(true),
            Scalar::Plain(b"false") => Some(false),
            _ => None,
        }
    }

    fn number(&self) -> Option<&[u8]> {
        let text = match self {
            // Space before a number in a string makes it none.
            Scalar::Text(text) if text.trim().len() != text.len() => return None,
            Scalar::Text(text) => text.as_bytes(),
            Scalar::Plain(token) => token,
        };
        text.get(..number::length(text)).filter(|number| !number.is_empty())
    }

    fn whole<T: std::str::FromStr>(&self) -> Option<T> {
        number::whole(self.number()?)?.parse().ok()
    }

    fn real<T: std::str::FromStr>(&self) -> Option<T> {
        let text = match self {
            Scalar::Text(text) if matches!(text.as_ref(), "NaN" | "Infinity" | "-Infinity") => {
                text.as_bytes()
            }
            _ => self.number()?,
        };
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let Scalar::Text(text) = self else { return None };
        let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
        let padded = text.len().is_multiple_of(4);
        // Go's decoder passes over line ends.
        let text: Cow<'_, str> = if text.contains(['\r', '\n']) {
            text.replace(['\r', '\n'], "").into()
        } else {
            text.as_ref().into()
        };
        engine(alphabet, padded).decode(text.as_bytes()).ok()
    }
}

fn engine(alphabet: &Alphabet, padded: bool) -> GeneralPurpose {
    let padding = if padded { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let config =
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

/// The name of a kind in .proto files.
fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Message(_) => "message",
        Kind::Enum(_) => "enum",
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
