//! Headers of a tar archive (POSIX ustar), plain files only.

use crate::error::{Error, Result};

/// Everything is padded to a multiple of this.
pub(super) const BLOCK: usize = 512;
/// Sizes from here on do not fit in eleven octal digits; they are written in
/// binary, as GNU tar does.
const BINARY_FROM: u64 = 1 << 33;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Name of a file, without a directory.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) size: u64,
}

impl Entry {
    /// Bytes of the header, the file and its padding.
    pub(super) fn packed_size(&self) -> u64 {
        BLOCK as u64 + self.size.next_multiple_of(BLOCK as u64)
    }

    /// The header block.
    ///
    /// # Errors
    /// The name cannot be written.
    pub(super) fn encode(&self) -> Result<[u8; BLOCK]> {
        check_name(&self.name)?;
        let mut block = [0; BLOCK];
        block[..self.name.len()].copy_from_slice(self.name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        if self.size < BINARY_FROM {
            block[124..135].copy_from_slice(format!("{:011o}", self.size).as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&self.size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[148..156].copy_from_slice(sum.as_bytes());
        Ok(block)
    }

    /// Reads a header block; `None` for the block of zeroes at the end.
    ///
    /// # Errors
    /// It is no header of a plain file.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Option<Self>> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let damaged = || Error::Corruption("a header in the snapshot".to_owned());
        if &block[257..262] != b"ustar" || block[156] != b'0' {
            return Err(damaged());
        }
        if octal(&block[148..156]).ok_or_else(damaged)? != checksum(block) {
            return Err(damaged());
        }
        let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8(name.to_vec()).map_err(|_| damaged())?;
        check_name(&name)?;
        let size = if block[124] == 0x80 {
            block[128..136].try_into().map(u64::from_be_bytes).map_err(|_| damaged())?
        } else {
            octal(&block[124..136]).ok_or_else(damaged)?
        };
        Ok(Some(Self { name, size }))
    }
}

/// Sum of all bytes, those of the sum itself counted as spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

fn octal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8).ok()
}

/// A name must not lead out of the directory it is unpacked to.
fn check_name(name: &str) -> Result<()> {
    let plain =
        !name.is_empty() && name.len() <= 100 && !name.contains(['/', '\\', '\0']) && !name.starts_with('.');
    if plain { Ok(()) } else { Err(Error::Corruption(format!("the name {name:?} in a snapshot"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive() {
        for size in [0, 1, BINARY_FROM - 1, BINARY_FROM, u64::MAX] {
            let entry = Entry { name: "000012.sst".to_owned(), size };
            assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap(), Some(entry));
        }
        assert_eq!(Entry::decode(&[0; BLOCK]).unwrap(), None);
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b"] {
            assert!(Entry { name: name.to_owned(), size: 0 }.encode().is_err(), "{name:?}");
        }
    }
}
