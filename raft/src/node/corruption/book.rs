use std::collections::VecDeque;

use parking_lot::Mutex;
use skiff_store::pb::etcdserverpb as pb;

/// Compactions whose hashes are kept, as in etcd.
const KEPT: usize = 10;

/// The hash a compaction left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) hash: u32,
}

impl Noted {
    /// The answer to a peer, by a member at `revision`.
    pub(crate) fn response(self, revision: i64) -> pb::HashKvResponse {
        pb::HashKvResponse {
            header: Some(pb::ResponseHeader { revision, ..Default::default() }),
            hash: self.hash,
            compact_revision: self.compact_revision,
            hash_revision: self.revision,
        }
    }
}

/// Hashes this member made at its last compactions.
///
/// Without them a comparison would only succeed where no member has compacted
/// again meanwhile.
#[derive(Debug, Default)]
pub(crate) struct HashBook(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Counts the states this member had: a hash made of one that was replaced
    /// meanwhile is not noted.
    epoch: u64,
    /// Oldest first.
    noted: VecDeque<Noted>,
}

impl HashBook {
    /// To be taken before a hash is made that is to be noted.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.lock().epoch
    }

    /// Notes a hash made since `epoch`.
    pub(crate) fn note(&self, epoch: u64, reply: &pb::HashKvResponse) {
        let mut inner = self.0.lock();
        if inner.epoch != epoch {
            return;
        }
        let (revision, compact_revision) = (reply.hash_revision, reply.compact_revision);
        if inner.noted.back().is_some_and(|last| last.revision >= revision) {
            return;
        }
        inner.noted.push_back(Noted { revision, compact_revision, hash: reply.hash });
        if inner.noted.len() > KEPT {
            inner.noted.pop_front();
        }
    }

    /// The hash noted at a compaction.
    pub(crate) fn find(&self, revision: i64) -> Option<Noted> {
        self.0.lock().noted.iter().find(|noted| noted.revision == revision).copied()
    }

    /// Compactions after `revision`, newest first.
    pub(crate) fn newer_than(&self, revision: i64) -> Vec<Noted> {
        self.0.lock().noted.iter().rev().filter(|noted| noted.revision > revision).copied().collect()
    }

    /// Forgets everything: the state was replaced.
    pub(crate) fn clear(&self) {
        let mut inner = self.0.lock();
        inner.epoch += 1;
        inner.noted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(revision: i64) -> pb::HashKvResponse {
        pb::HashKvResponse { hash_revision: revision, compact_revision: revision, hash: 7, header: None }
    }

    #[test]
    fn keeps_the_last_ten_and_nothing_of_a_replaced_state() {
        let book = HashBook::default();
        for revision in 1..=12 {
            book.note(book.epoch(), &reply(revision));
        }
        assert_eq!(book.find(2), None);
        assert_eq!(book.find(3).map(|noted| noted.hash), Some(7));
        let newer: Vec<i64> = book.newer_than(10).iter().map(|noted| noted.revision).collect();
        assert_eq!(newer, [12, 11]);
        let before = book.epoch();
        book.clear();
        book.note(before, &reply(13));
        assert!(book.newer_than(0).is_empty());
    }
}
