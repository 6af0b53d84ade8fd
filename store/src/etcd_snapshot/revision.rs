//! Keys of the bucket `key`: a revision, `_`, which of its changes, and `t`
//! where the key was deleted.

use bytes::{Buf, BufMut};

/// Bytes without the mark of a deletion.
const LEN: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision {
    pub(super) main: i64,
    pub(super) sub: u32,
}

impl Revision {
    /// The key, with or without the mark of a deletion.
    pub(super) fn encode(self, deleted: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN + 1);
        out.put_i64(self.main);
        out.put_u8(SEPARATOR);
        out.put_i64(i64::from(self.sub));
        if deleted {
            out.put_u8(TOMBSTONE);
        }
        out
    }

    /// The change and whether it is a deletion; `None` where the bytes are no
    /// such key.
    pub(super) fn decode(mut key: &[u8]) -> Option<(Self, bool)> {
        let deleted = match key.len() {
            LEN => false,
            _ if key.len() == LEN + 1 && key.ends_with(&[TOMBSTONE]) => true,
            _ => return None,
        };
        let main = key.get_i64();
        let separated = key.get_u8() == SEPARATOR;
        let sub = u32::try_from(key.get_i64()).ok()?;
        (separated && main >= 0).then_some((Self { main, sub }, deleted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_etcds() {
        let at = Revision { main: 0x0102, sub: 3 };
        let plain = [0, 0, 0, 0, 0, 0, 1, 2, b'_', 0, 0, 0, 0, 0, 0, 0, 3];
        assert_eq!(at.encode(false), plain);
        assert_eq!(at.encode(true), [&plain[..], b"t"].concat());
        for deleted in [false, true] {
            assert_eq!(Revision::decode(&at.encode(deleted)), Some((at, deleted)));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = Revision { main: 7, sub: 0 }.encode(true);
        for cut in 0..good.len() - 1 {
            assert_eq!(Revision::decode(&good[..cut]), None, "{cut} bytes");
        }
        for at in [0, 8, 9, 17] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert_eq!(Revision::decode(&bad), None, "byte {at}");
        }
    }
}
