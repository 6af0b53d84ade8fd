//! Who speaks to whom: carried by every call and checked before it is served.
//!
//! A process that was restored from another cluster's data, that listens where
//! another member used to, or that was removed, must never take part in this
//! cluster's votes or log. Its calls are refused by both sides, with etcd's
//! words where etcd has them.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Version of the peer protocol. A member refuses a peer whose version differs.
pub const PROTOCOL_VERSION: u64 = 1;

const CLUSTER: &str = "skiff-cluster-id";
const FROM: &str = "skiff-from";
const TO: &str = "skiff-to";
const VERSION: &str = "skiff-peer-version";
const REFUSAL: &str = "skiff-refusal";

/// How long a refusal of one kind by or of one peer stays out of the log.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Peers whose refusals are remembered; beyond it the memory starts afresh.
const REFUSAL_LOG_PEERS: usize = 1024;

/// The ids a call carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Cluster of the sender; 0 while it does not know one.
    pub cluster_id: u64,
    /// Member that calls; 0 while it has no id.
    pub from: u64,
    /// Member meant to answer; 0 if the caller does not know it.
    pub to: u64,
    /// Protocol version of the sender.
    pub version: u64,
}

impl Identity {
    /// The identity of a call from `from` to `to` in this protocol's version.
    pub fn new(cluster_id: u64, from: u64, to: u64) -> Self {
        Identity { cluster_id, from, to, version: PROTOCOL_VERSION }
    }

    /// Writes the ids to a call's metadata.
    pub fn write(&self, metadata: &mut MetadataMap) {
        for (key, value) in [(CLUSTER, self.cluster_id), (FROM, self.from), (TO, self.to)] {
            let text = format!("{value:x}");
            metadata.insert(key, MetadataValue::from_str(&text).unwrap_or(MetadataValue::from_static("")));
        }
        metadata.insert(VERSION, MetadataValue::from(self.version));
    }

    /// Reads the ids of a call.
    ///
    /// # Errors
    /// [`Refusal::Anonymous`] if an id is missing or unreadable.
    pub fn read(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let get = |key, radix| {
            let text = metadata.get(key).and_then(|value| value.to_str().ok());
            text.and_then(|text| u64::from_str_radix(text, radix).ok()).ok_or(Refusal::Anonymous)
        };
        Ok(Identity {
            cluster_id: get(CLUSTER, 16)?,
            from: get(FROM, 16)?,
            to: get(TO, 16)?,
            version: get(VERSION, 10)?,
        })
    }

    /// Checks a call against the member that received it. `removed` tells
    /// whether a member was removed from the cluster for good.
    ///
    /// # Errors
    /// The reason to refuse the call.
    pub fn check(
        &self,
        cluster_id: u64,
        member_id: u64,
        removed: impl FnOnce(u64) -> bool,
    ) -> Result<(), Refusal> {
        if self.version != PROTOCOL_VERSION {
            return Err(Refusal::Version { remote: self.version });
        }
        if self.cluster_id != cluster_id {
            return Err(Refusal::Cluster { remote: self.cluster_id, local: cluster_id });
        }
        if self.to != member_id {
            return Err(Refusal::Target { wanted: self.to, local: member_id });
        }
        if removed(self.from) {
            return Err(Refusal::Removed { member: self.from });
        }
        Ok(())
    }
}

/// Why a peer's call is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The call does not say who makes it.
    #[error("request carries no peer identity")]
    Anonymous,
    /// The peer speaks another version of the protocol.
    #[error("incompatible peer protocol version (remote {remote}, local {PROTOCOL_VERSION})")]
    Version {
        /// The caller's version.
        remote: u64,
    },
    /// The peer belongs to another cluster.
    #[error("request cluster ID mismatch (got {remote:x} want {local:x})")]
    Cluster {
        /// The caller's cluster.
        remote: u64,
        /// The called member's cluster.
        local: u64,
    },
    /// The call was meant for another member.
    #[error("request target member ID mismatch (got {wanted:x} want {local:x})")]
    Target {
        /// The member the caller wanted.
        wanted: u64,
        /// The member that was called.
        local: u64,
    },
    /// The caller was removed from the cluster.
    #[error("the member has been permanently removed from the cluster (member {member:x})")]
    Removed {
        /// The caller.
        member: u64,
    },
}

impl Refusal {
    /// The kind, as sent in metadata; frozen.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Refusal::Anonymous => RefusalKind::Anonymous,
            Refusal::Version { .. } => RefusalKind::Version,
            Refusal::Cluster { .. } => RefusalKind::Cluster,
            Refusal::Target { .. } => RefusalKind::Target,
            Refusal::Removed { .. } => RefusalKind::Removed,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Removed { .. } => Code::PermissionDenied,
            _ => Code::FailedPrecondition,
        };
        let mut status = Status::new(code, refusal.to_string());
        status.metadata_mut().insert(REFUSAL, MetadataValue::from_static(refusal.kind().name()));
        status
    }
}

/// The kind of a [`Refusal`], which is all the refused side needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No identity.
    Anonymous,
    /// Another protocol version.
    Version,
    /// Another cluster.
    Cluster,
    /// Another member.
    Target,
    /// The sender was removed.
    Removed,
}

impl RefusalKind {
    const ALL: [RefusalKind; 5] = [
        RefusalKind::Anonymous,
        RefusalKind::Version,
        RefusalKind::Cluster,
        RefusalKind::Target,
        RefusalKind::Removed,
    ];

    fn name(self) -> &'static str {
        match self {
            RefusalKind::Anonymous => "anonymous",
            RefusalKind::Version => "version",
            RefusalKind::Cluster => "cluster",
            RefusalKind::Target => "target",
            RefusalKind::Removed => "removed",
        }
    }

    /// The kind of refusal a call ended with, if it was refused.
    pub fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(REFUSAL)?.to_str().ok()?;
        RefusalKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Keeps refusals, which come with every call, from flooding the log.
#[derive(Debug, Default)]
pub struct RefusalLog {
    last: Mutex<HashMap<(u64, RefusalKind), Instant>>,
}

impl RefusalLog {
    /// True if a refusal of this kind concerning `peer` should be logged now:
    /// the first, and then one a minute.
    pub fn admit(&self, peer: u64, kind: RefusalKind) -> bool {
        let mut last = self.last.lock();
        if last.len() >= REFUSAL_LOG_PEERS {
            last.clear();
        }
        let now = Instant::now();
        match last.get(&(peer, kind)) {
            Some(at) if now.duration_since(*at) < REFUSAL_LOG_INTERVAL => false,
            _ => {
                last.insert((peer, kind), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_metadata() {
        let identity = Identity::new(u64::MAX, 0x1234, 7);
        let mut metadata = MetadataMap::new();
        identity.write(&mut metadata);
        assert_eq!(Identity::read(&metadata), Ok(identity));
        assert_eq!(Identity::read(&MetadataMap::new()), Err(Refusal::Anonymous));
    }

    #[test]
    fn refuses_what_is_not_of_this_cluster() {
        let never = |_| false;
        let identity = Identity::new(1, 2, 3);
        assert_eq!(identity.check(1, 3, never), Ok(()));
        assert_eq!(identity.check(9, 3, never), Err(Refusal::Cluster { remote: 1, local: 9 }));
        assert_eq!(identity.check(1, 4, never), Err(Refusal::Target { wanted: 3, local: 4 }));
        assert_eq!(identity.check(1, 3, |id| id == 2), Err(Refusal::Removed { member: 2 }));
        let older = Identity { version: 0, ..identity };
        assert_eq!(older.check(1, 3, never), Err(Refusal::Version { remote: 0 }));
    }

    #[test]
    fn kind_survives_a_status() {
        let status = Status::from(Refusal::Cluster { remote: 1, local: 2 });
        assert_eq!(RefusalKind::of(&status), Some(RefusalKind::Cluster));
        assert!(status.message().starts_with("request cluster ID mismatch"));
        assert_eq!(RefusalKind::of(&Status::unavailable("x")), None);
    }

    #[test]
    fn logs_once_per_peer_and_kind() {
        let log = RefusalLog::default();
        assert!(log.admit(1, RefusalKind::Cluster));
        assert!(!log.admit(1, RefusalKind::Cluster));
        assert!(log.admit(2, RefusalKind::Cluster));
        assert!(log.admit(1, RefusalKind::Removed));
    }
}
