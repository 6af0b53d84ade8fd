//! The keys of one lock or election.

use bytes::Bytes;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::range_request::{SortOrder, SortTarget};

/// The prefix of the keys of all claims of a name.
pub(super) struct Prefix(Bytes);

impl Prefix {
    /// Of the lock or election of that name; any bytes are a name.
    pub(super) fn of(name: &[u8]) -> Self {
        Self([name, b"/"].concat().into())
    }

    /// The key of the claim of a lease: its number in hexadecimal, after the
    /// sign.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let number = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.0[..], number.as_bytes()].concat().into()
    }

    /// The byte that follows the slash ends the range.
    fn end(&self) -> Bytes {
        let name = self.0.strip_suffix(b"/").unwrap_or(&self.0);
        [name, b"0"].concat().into()
    }

    /// Asks for the oldest claim: it holds the lock, or leads.
    pub(super) fn oldest(&self) -> pb::RangeRequest {
        self.one(SortOrder::Ascend)
    }

    /// Asks for the youngest claim that is older than one created at
    /// `revision`.
    pub(super) fn before(&self, revision: i64) -> pb::RangeRequest {
        pb::RangeRequest { max_create_revision: revision - 1, ..self.one(SortOrder::Descend) }
    }

    fn one(&self, order: SortOrder) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.0.clone(),
            range_end: self.end(),
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        }
    }

    /// Asks for every change of a claim from a revision on.
    pub(super) fn changes(&self, start_revision: i64) -> pb::WatchCreateRequest {
        let (key, range_end) = (self.0.clone(), self.end());
        pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_in_the_lease_in_hexadecimal() {
        let key = |lease| Prefix::of(b"my lock").key(lease);
        assert_eq!(key(0x694d_7d7a_1b2c), "my lock/694d7d7a1b2c");
        assert_eq!(key(-255), "my lock/-ff");
        assert_eq!(key(i64::MIN), "my lock/-8000000000000000");
        assert_eq!(Prefix::of(b"").key(1), "/1");
    }

    #[test]
    fn ranges_hold_the_claims_and_no_other_name() {
        let range = Prefix::of(b"a\xff").oldest();
        assert_eq!((&range.key[..], &range.range_end[..]), (&b"a\xff/"[..], &b"a\xff0"[..]));
        let range = Prefix::of(b"").oldest();
        assert_eq!((&range.key[..], &range.range_end[..]), (&b"/"[..], &b"0"[..]));
    }
}
