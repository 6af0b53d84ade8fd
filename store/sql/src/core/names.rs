//! How keys are named in the table `kine`.
//!
//! kine keeps its own row `compact_rev_key` there, and therefore the key of that
//! name, in which the API server notes compactions, as `compact_rev_key_apiserver`
//! with `version|value`. Rows named `gap-N` stand for revisions without a change.

use std::borrow::Cow;

use bytes::Bytes;

use crate::db::Dialect;

/// kine's own row: its `prev_revision` is the compacted revision.
pub(crate) const COMPACT_ROW: &str = "compact_rev_key";
/// The API server's key.
const API_SERVER_KEY: &[u8] = b"compact_rev_key";
/// Its row, which tells the version of the key itself.
pub(crate) const API_SERVER_ROW: &str = "compact_rev_key_apiserver";
const GAP: &str = "gap-";

/// An expression: the column `name` as text. In SQLite it was declared as a
/// column of integers until kine 0.13, which takes a name like `12` for a number.
pub(crate) const NAME: &str = "CONCAT(name, '')";

/// The name of a key in `kine`; `None` for one that has no place there.
pub(crate) fn name_of<'a>(dialect: &dyn Dialect, key: &'a [u8]) -> Option<&'a str> {
    if key == API_SERVER_KEY {
        return Some(API_SERVER_ROW);
    }
    let name = dialect.can_store_name(key)?;
    (name != API_SERVER_ROW && !is_gap(name) && !name.is_empty()).then_some(name)
}

/// The key of a row, and its value as clients know it; `None` for rows that
/// are no keys.
pub(crate) fn key_of(name: &str, value: Bytes) -> Option<Named> {
    if name == COMPACT_ROW || is_gap(name) {
        return None;
    }
    if name != API_SERVER_ROW {
        return Some(Named { key: Bytes::copy_from_slice(name.as_bytes()), value, version: None });
    }
    let text = String::from_utf8_lossy(&value);
    let (version, value) = match text.split_once('|') {
        Some((version, value)) => (version.to_owned(), Bytes::copy_from_slice(value.as_bytes())),
        // Before kine 0.12 the version alone was kept.
        None => (text.into_owned(), Bytes::from_static(b"0")),
    };
    Some(Named {
        key: Bytes::from_static(API_SERVER_KEY),
        value,
        version: version.parse().ok().filter(|version| *version > 0),
    })
}

/// A row's key.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    /// The version, where the row itself tells it.
    pub(crate) version: Option<i64>,
}

/// The value that goes into the row.
pub(crate) fn row_value(name: &str, value: &Bytes, version: i64) -> Bytes {
    if name != API_SERVER_ROW {
        return value.clone();
    }
    let mut row: Cow<'_, [u8]> = Cow::Owned(format!("{version}|").into_bytes());
    row.to_mut().extend_from_slice(value);
    row.into_owned().into()
}

/// The name of the row that stands for a revision without a change.
pub(crate) fn gap(revision: i64) -> String {
    format!("{GAP}{revision}")
}

/// True for the name of a row that stands for no change.
pub(crate) fn is_gap(name: &str) -> bool {
    name.strip_prefix(GAP).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}
