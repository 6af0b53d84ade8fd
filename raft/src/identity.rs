//! Ids of clusters and members, derived as etcd derives them.

use std::collections::BTreeMap;
use std::time::Duration;

use sha1::{Digest, Sha1};

/// The id of a member: of its peer URLs, the cluster's token, and, for one
/// that is added later, the time.
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<Duration>) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut text = urls.concat().into_bytes();
    text.extend_from_slice(token.as_bytes());
    if let Some(at) = added_at {
        text.extend_from_slice(at.as_secs().to_string().as_bytes());
    }
    first_eight(&text)
}

/// The id of a cluster: of its initial members' ids.
pub fn cluster_id(members: impl IntoIterator<Item = u64>) -> u64 {
    let mut ids: Vec<u64> = members.into_iter().collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    first_eight(&bytes)
}

/// Ids and peer URLs of the members of an initial cluster (name, peer URLs).
pub fn initial_members(cluster: &[(String, Vec<String>)], token: &str) -> BTreeMap<u64, Vec<String>> {
    cluster
        .iter()
        .map(|(_, urls)| {
            let mut urls = urls.clone();
            urls.sort();
            (member_id(&urls, token, None), urls)
        })
        .collect()
}

fn first_eight(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What etcd prints for its default single-member command line.
    #[test]
    fn ids_are_etcds() {
        let id = member_id(&["http://localhost:2380".into()], "etcd-cluster", None);
        assert_eq!(format!("{id:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id([id])), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_does_not_matter() {
        let (a, b) = ("http://10.0.0.1:2380".to_string(), "http://10.0.0.2:2380".to_string());
        let one = member_id(&[a.clone(), b.clone()], "t", None);
        assert_eq!(one, member_id(&[b, a], "t", None));
    }
}
