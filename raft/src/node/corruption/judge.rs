//! What differing hashes mean: etcd's rules, without I/O.

use std::collections::BTreeMap;

use skiff_store::pb::etcdserverpb as pb;

/// What a peer answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    /// Its newest revision.
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) hash: u32,
}

impl Peer {
    pub(crate) fn new(id: u64, reply: &pb::HashKvResponse) -> Self {
        Self {
            id,
            revision: reply.header.map_or(0, |header| header.revision),
            compact_revision: reply.compact_revision,
            hash: reply.hash,
        }
    }
}

/// The outcome of comparing hashes at a compaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compaction {
    /// All that answered agree.
    Same,
    /// These members differ from a majority; 0 alone where there is none.
    Differ(Vec<u64>),
}

/// Compares the leader's newest state, hashed before and after the peers were
/// asked, with theirs. The first that is wrong is named, and why.
pub(crate) fn newest(
    own: u64,
    before: &pb::HashKvResponse,
    after: &pb::HashKvResponse,
    peers: &[Peer],
) -> Option<(u64, &'static str)> {
    let unchanged =
        before.hash_revision == after.hash_revision && before.compact_revision == after.compact_revision;
    if unchanged && before.hash != after.hash {
        return Some((own, "found hash mismatch"));
    }
    peers.iter().find_map(|peer| {
        let why = if peer.revision > after.hash_revision {
            "revision from follower must be less than or equal to leader's"
        } else if peer.compact_revision > after.compact_revision {
            "compact revision from follower must be less than or equal to leader's"
        } else if peer.compact_revision == before.compact_revision && peer.hash != before.hash {
            "same compact revision then hashes must match"
        } else {
            return None;
        };
        Some((peer.id, why))
    })
}

/// Compares the leader's hash at a compaction with those of the peers that
/// made the same one. A majority of all members decides who is wrong.
pub(crate) fn compaction(own: u64, hash: u32, peers: &[Peer], members: usize) -> Compaction {
    let mut holders: BTreeMap<u32, Vec<u64>> = BTreeMap::from([(hash, vec![own])]);
    for peer in peers {
        holders.entry(peer.hash).or_default().push(peer.id);
    }
    if holders.len() == 1 {
        return Compaction::Same;
    }
    let quorum = members / 2 + 1;
    match holders.iter().find(|(_, ids)| ids.len() >= quorum).map(|(hash, _)| *hash) {
        Some(right) => {
            holders.remove(&right);
            Compaction::Differ(holders.into_values().flatten().collect())
        }
        None => Compaction::Differ(vec![0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(revision: i64, compact_revision: i64, hash: u32) -> pb::HashKvResponse {
        pb::HashKvResponse { hash_revision: revision, compact_revision, hash, header: None }
    }

    fn peer(id: u64, revision: i64, compact_revision: i64, hash: u32) -> Peer {
        Peer { id, revision, compact_revision, hash }
    }

    #[test]
    fn a_state_that_changes_without_a_revision_is_the_leaders_fault() {
        let verdict = newest(1, &own(5, 2, 10), &own(5, 2, 11), &[peer(2, 5, 2, 10)]);
        assert_eq!(verdict.map(|(id, _)| id), Some(1));
        // A compaction or a write between the two changes the hash rightly.
        assert_eq!(newest(1, &own(5, 2, 10), &own(5, 3, 11), &[]), None);
        assert_eq!(newest(1, &own(5, 2, 10), &own(6, 2, 11), &[]), None);
    }

    #[test]
    fn followers_are_compared_where_they_can_be() {
        let (before, after) = (own(5, 2, 10), own(9, 4, 12));
        assert_eq!(newest(1, &before, &after, &[peer(2, 9, 2, 10), peer(3, 6, 4, 77)]), None);
        for wrong in [peer(3, 10, 2, 10), peer(3, 9, 5, 10), peer(3, 6, 2, 11)] {
            let verdict = newest(1, &before, &after, &[peer(2, 5, 2, 10), wrong, peer(4, 99, 99, 99)]);
            assert_eq!(verdict.map(|(id, _)| id), Some(3), "{wrong:?}");
        }
    }

    #[test]
    fn a_majority_decides_who_is_wrong_after_a_compaction() {
        let differ = |ids: &[u64]| Compaction::Differ(ids.to_vec());
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 10), peer(3, 5, 5, 10)], 3), Compaction::Same);
        assert_eq!(compaction(1, 10, &[], 3), Compaction::Same);
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 10), peer(3, 5, 5, 11)], 3), differ(&[3]));
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 11), peer(3, 5, 5, 11)], 3), differ(&[1]));
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 11)], 2), differ(&[0]));
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 11), peer(3, 5, 5, 12)], 3), differ(&[0]));
        // Two of five that answered are no majority.
        assert_eq!(compaction(1, 10, &[peer(2, 5, 5, 10), peer(3, 5, 5, 11)], 5), differ(&[0]));
    }
}
