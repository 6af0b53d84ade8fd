//! Which transaction wrote the last entry that the replica has. A database that
//! went back (a failover to a replica that was behind, a restored backup) may
//! have been written on since, to the same length and beyond: then only the
//! name of the transaction tells.

use parking_lot::Mutex;

use super::head::Head;

/// Index of the last applied entry, and the name of its transaction.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Option<(u64, String)>>);

impl Tail {
    /// Notes the transaction that wrote the entry applied last.
    pub(crate) fn note(&self, index: u64, writer: String) {
        *self.0.lock() = Some((index, writer));
    }

    /// The transaction's name, where `index` is that of the last entry.
    pub(crate) fn of(&self, index: u64) -> Option<String> {
        self.0.lock().as_ref().filter(|(at, _)| *at == index).map(|(_, writer)| writer.clone())
    }

    /// Whether the head has another entry where the replica has its last one.
    pub(crate) fn contradicts(&self, head: &Head) -> bool {
        let tail = self.0.lock();
        match (tail.as_ref(), &head.writer) {
            (Some((index, ours)), Some(theirs)) => *index == head.index && ours != theirs,
            _ => false,
        }
    }
}
