//! As much of HPACK (RFC 7541) as finding one field takes.

/// Symbols of the Huffman code by the length of their codes, in the order of
/// the codes: the code is canonical, so this says all. Symbols with longer
/// codes do not occur in URLs.
const SYMBOLS: [(u32, &[u8]); 10] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];
/// Index of `:authority` in the static table.
const AUTHORITY: u64 = 1;

/// A string literal in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    /// Where its length prefix begins.
    pub(super) start: usize,
    /// Where its bytes begin.
    pub(super) text: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// Its bytes are Huffman coded.
    pub(super) coded: bool,
}

/// Finds the literal value of the first `:authority` in a header block. `None`
/// where there is none, or where the block is cut short or wrong.
pub(super) fn authority(block: &[u8]) -> Option<Literal> {
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        let (bits, literal) = match first {
            _ if first & 0x80 != 0 => (7, false), // a field of the table
            _ if first & 0x40 != 0 => (6, true),  // a literal, to be indexed
            _ if first & 0x20 != 0 => (5, false), // a new size of the table
            _ => (4, true),                       // a literal, not indexed
        };
        let (index, next) = integer(block, at, bits)?;
        at = next;
        if !literal {
            continue;
        }
        if index == 0 {
            at = string(block, at)?.end; // the name is a literal too
        }
        let value = string(block, at)?;
        if index == AUTHORITY {
            return Some(value);
        }
        at = value.end;
    }
    None
}

/// Reads an integer with a prefix of `bits` bits; answers it and where it ends.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(u64, usize)> {
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(*block.get(at)?) & mask;
    let mut at = at + 1;
    if value < mask {
        return Some((value, at));
    }
    for shift in [0, 7, 14, 21, 28] {
        let byte = *block.get(at)?;
        at += 1;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

fn string(block: &[u8], start: usize) -> Option<Literal> {
    let coded = block.get(start)? & 0x80 != 0;
    let (length, text) = integer(block, start, 7)?;
    let end = text.checked_add(usize::try_from(length).ok()?)?;
    (end <= block.len()).then_some(Literal { start, text, end, coded })
}

/// The text of a literal; `None` if it holds symbols not known here.
pub(super) fn text(block: &[u8], literal: Literal) -> Option<Vec<u8>> {
    let bytes = &block[literal.text..literal.end];
    if literal.coded { huffman(bytes) } else { Some(bytes.to_vec()) }
}

fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut length) = (0u32, 0u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| u32::from(byte >> shift) & 1)) {
        code = code << 1 | bit;
        length += 1;
        if length > 15 {
            return None;
        }
        if let Some(symbol) = symbol(code, length) {
            text.push(symbol);
            (code, length) = (0, 0);
        }
    }
    // What is left over is padding: fewer than eight ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

/// The symbol of a code of a length.
fn symbol(code: u32, length: u32) -> Option<u8> {
    let (mut next, mut bits) = (0u32, 0);
    for (group, symbols) in SYMBOLS {
        next <<= group - bits;
        bits = group;
        if group == length {
            return code.checked_sub(next).and_then(|at| symbols.get(at as usize)).copied();
        }
        next += symbols.len() as u32;
    }
    None
}

/// Appends a string that is not Huffman coded.
pub(super) fn put_string(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_examples_of_the_rfc() {
        // RFC 7541, C.4.1: a request with Huffman coding.
        let block = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4,
            0xff,
        ];
        let found = authority(&block).unwrap();
        assert_eq!((found.start, found.text, found.end, found.coded), (4, 5, 17, true));
        assert_eq!(text(&block, found).unwrap(), b"www.example.com");
        // C.3.1: the same without.
        let mut block = vec![0x82, 0x86, 0x84, 0x41];
        put_string(&mut block, b"www.example.com");
        let found = authority(&block).unwrap();
        assert_eq!(text(&block, found).unwrap(), b"www.example.com");
        // C.6.1: codes of other lengths.
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(huffman(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
        let url = [
            0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43,
            0xd3,
        ];
        assert_eq!(huffman(&url).unwrap(), b"https://www.example.com");
    }

    #[test]
    fn steps_over_other_fields_and_gives_up_on_what_is_cut() {
        let mut block = vec![0x3f, 0xe1, 0x1f, 0x83, 0x00]; // a table size, a field, a literal with a name
        put_string(&mut block, b"te");
        put_string(&mut block, &[b'x'; 300]);
        block.push(0x01); // :authority, not indexed
        put_string(&mut block, b"a:1");
        let found = authority(&block).unwrap();
        assert_eq!(text(&block, found).unwrap(), b"a:1");
        for end in 0..block.len() {
            assert_eq!(authority(&block[..end]), None, "{end}");
        }
    }
}
