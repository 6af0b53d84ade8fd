//! Text as Go quotes it in error messages.

use std::fmt::Write;

/// A byte as `encoding/json` shows it: in single quotes, as a character.
pub(super) fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        _ => {
            let mut text = String::from("'");
            push(&mut text, char::from(byte));
            text.push('\'');
            text
        }
    }
}

/// Bytes as `%q` shows them: in double quotes, what is no UTF-8 as `\x..`.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push(&mut text, c));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, r"\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push(text: &mut String, c: char) {
    match c {
        '\\' => text.push_str(r"\\"),
        '"' => text.push_str("\\\""),
        '\x07' => text.push_str(r"\a"),
        '\x08' => text.push_str(r"\b"),
        '\x0c' => text.push_str(r"\f"),
        '\n' => text.push_str(r"\n"),
        '\r' => text.push_str(r"\r"),
        '\t' => text.push_str(r"\t"),
        '\x0b' => text.push_str(r"\v"),
        // Writing to a string does not fail.
        '\0'..' ' | '\x7f' => drop(write!(text, r"\x{:02x}", u32::from(c))),
        '\u{80}'..='\u{a0}' | '\u{ad}' => drop(write!(text, r"\u{:04x}", u32::from(c))),
        _ => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints_them() {
        assert_eq!(quote_byte(b'x'), "'x'");
        assert_eq!(quote_byte(0), r"'\x00'");
        assert_eq!(quote_byte(0xff), "'ÿ'");
        assert_eq!(quote_byte(0x85), r"'\u0085'");
        assert_eq!(quote_byte(b'\\'), r"'\\'");
        assert_eq!(quote(b"a\n\xffz\""), r#""a\n\xffz\"""#);
    }
}
