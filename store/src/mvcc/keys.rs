//! Encodings of row keys. Persisted: frozen.
//!
//! `kv` rows: `escape(key) 0x00 0x01 !revision !sub-revision`, so that rows sort
//! by user key and, within a key, newest first. (Nested transactions can change
//! a key twice in one revision.) `escape` doubles each zero byte as
//! `0x00 0xff`; with the terminator `0x00 0x01` no encoded key is a prefix of
//! another and byte order is the order of the user keys.
//!
//! `ev` rows: `revision sub-revision`, both big endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};

const TERMINATOR: [u8; 2] = [0x00, 0x01];
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xff];

/// Bytes of revision and sub-revision at the end of a row key.
pub(crate) const REVISION_LEN: usize = 12;

/// Bytes of an `ev` row key.
pub(crate) const EVENT_KEY_LEN: usize = 12;

/// Appends the escaped user key and its terminator.
fn put_escaped(out: &mut BytesMut, key: &[u8]) {
    for part in key.split_inclusive(|b| *b == 0) {
        match part.split_last() {
            Some((0, head)) => {
                out.put_slice(head);
                out.put_slice(&ESCAPED_ZERO);
            }
            _ => out.put_slice(part),
        }
    }
    out.put_slice(&TERMINATOR);
}

/// The `kv` row key of a version.
pub(crate) fn version_key(key: &[u8], revision: i64, sub: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 2 + REVISION_LEN);
    put_escaped(&mut out, key);
    out.put_u64(!(revision as u64));
    out.put_u32(!sub);
    out.freeze()
}

/// A `kv` row key that sorts before every version of `key` and after every
/// version of smaller keys.
pub(crate) fn first_version_key(key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(key.len() + 2);
    put_escaped(&mut out, key);
    out.freeze()
}

/// A `kv` row key that sorts after every version of the key of this row.
pub(crate) fn after_versions(row: &[u8]) -> Result<Bytes> {
    let mut out = BytesMut::from(split(row)?.0);
    // The terminator's last byte, one higher: nothing is encoded that way.
    if let Some(last) = out.last_mut() {
        *last += 1;
    }
    Ok(out.freeze())
}

/// The user key of the encoded one (terminator included) that [`split`] gives.
pub(crate) fn user_key(encoded: &[u8]) -> Result<Bytes> {
    let damaged = || Error::Corruption(format!("key {encoded:02x?} in column family kv"));
    let mut rest = encoded.strip_suffix(&TERMINATOR).ok_or_else(damaged)?;
    let mut key = Vec::with_capacity(rest.len());
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        key.extend_from_slice(&rest[..=zero]);
        rest = rest[zero..].strip_prefix(&ESCAPED_ZERO).ok_or_else(damaged)?;
    }
    key.extend_from_slice(rest);
    Ok(key.into())
}

/// Splits a `kv` row key into its encoded user key (terminator included) and
/// its revision.
pub(crate) fn split(row: &[u8]) -> Result<(&[u8], i64)> {
    split_whole(row).map(|(key, revision, _)| (key, revision))
}

/// As [`split`], with the sub-revision.
pub(crate) fn split_whole(row: &[u8]) -> Result<(&[u8], i64, u32)> {
    let (key, revision, sub) = row
        .split_last_chunk::<4>()
        .and_then(|(rest, sub)| rest.split_last_chunk::<8>().map(|(key, revision)| (key, revision, sub)))
        .filter(|(key, ..)| key.ends_with(&TERMINATOR))
        .ok_or_else(|| Error::Corruption(format!("row key {row:02x?} in column family kv")))?;
    Ok((key, !u64::from_be_bytes(*revision) as i64, !u32::from_be_bytes(*sub)))
}

/// The `ev` row key of a change.
pub(crate) fn event_key(revision: i64, sub: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(EVENT_KEY_LEN);
    out.put_u64(revision as u64);
    out.put_u32(sub);
    out.freeze()
}

/// The revision and sub-revision of an `ev` row key.
pub(crate) fn event_place(row: &[u8]) -> Result<(i64, u32)> {
    let revision = event_revision(row)?;
    Ok((revision, row.last_chunk::<4>().map_or(0, |sub| u32::from_be_bytes(*sub))))
}

/// The revision of an `ev` row key.
pub(crate) fn event_revision(row: &[u8]) -> Result<i64> {
    match row.first_chunk::<8>() {
        Some(revision) if row.len() == EVENT_KEY_LEN => Ok(u64::from_be_bytes(*revision) as i64),
        _ => Err(Error::Corruption(format!("row key {row:02x?} in column family ev"))),
    }
}

/// The row key of a lease.
pub(crate) fn lease_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&(id as u64).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn order_is_key_then_newest_first(
            a in key(), b in key(), ra in 0i64..1 << 40, rb in 0i64..1 << 40, sa in any::<u32>(), sb in any::<u32>(),
        ) {
            let expected = a.cmp(&b).then(rb.cmp(&ra)).then(sb.cmp(&sa));
            prop_assert_eq!(version_key(&a, ra, sa).cmp(&version_key(&b, rb, sb)), expected);
        }

        #[test]
        fn bounds_enclose_all_versions(a in key(), b in key(), r in 0i64..i64::MAX, s in any::<u32>()) {
            let row = version_key(&a, r, s);
            prop_assert!(first_version_key(&a) <= row);
            prop_assert!(row < after_versions(&row).unwrap());
            if a < b {
                prop_assert!(after_versions(&row).unwrap() <= first_version_key(&b));
            }
            prop_assert_eq!(split_whole(&row).unwrap(), (&first_version_key(&a)[..], r, s));
            prop_assert_eq!(user_key(split(&row).unwrap().0).unwrap(), a);
        }

        #[test]
        fn strange_rows_are_refused_or_are_of_one_key(row in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..24)) {
            let _ = event_place(&row);
            let _ = after_versions(&row);
            if let Ok((encoded, ..)) = split_whole(&row)
                && let Ok(key) = user_key(encoded)
            {
                prop_assert_eq!(first_version_key(&key), encoded);
            }
        }
    }

    #[test]
    fn event_keys_sort_by_revision_then_sub() {
        assert!(event_key(1, 7) < event_key(2, 0));
        assert!(event_key(2, 0) < event_key(2, 1));
        assert_eq!(event_revision(&event_key(9, 3)).unwrap(), 9);
        assert!(event_revision(b"short").is_err());
    }
}
