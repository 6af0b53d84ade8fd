//! `--feature-gates`.

use crate::cli::{Settings, value};

/// Stands for a gate that switches something.
const APPLIES: &str = "";

/// etcd's gates, and why one switches nothing here: what it stands for is
/// always on, or has no counterpart, or is not offered yet.
const GATES: [(&str, &str); 11] = [
    ("AllAlpha", "it names no feature"),
    ("AllBeta", "it names no feature"),
    ("CompactHashCheck", "members' hashes are not compared on their own yet"),
    ("DistributedTracing", "--enable-distributed-tracing switches it"),
    ("FastLeaseKeepAlive", "lease renewals never wait for the log"),
    ("InitialCorruptCheck", "members' hashes are not compared on their own yet"),
    ("LeaseCheckpoint", "remaining times of leases are always replicated"),
    ("LeaseCheckpointPersist", "remaining times of leases are always kept"),
    ("SetMemberLocalAddr", APPLIES),
    ("StopGRPCServiceOnDefrag", "defragmentation does not stop requests"),
    ("TxnModeWriteWithSharedBuffer", "the state is kept in RocksDB, not in bbolt"),
];

/// Checks the gates; answers a warning for each that was given.
pub(crate) fn check(settings: &Settings) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    for gate in settings.list("feature-gates") {
        let (name, text) = gate
            .split_once('=')
            .ok_or_else(|| format!("--feature-gates: {gate:?} does not have the form Name=true"))?;
        value::bool(text).map_err(|problem| format!("--feature-gates: {name}={text}: {problem}"))?;
        let (_, why) = GATES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("--feature-gates: unrecognized feature gate: {name}"))?;
        if *why != APPLIES {
            warnings.push(format!("feature gate {name} has no effect: {why}"));
        }
    }
    Ok(warnings)
}

/// True if a gate was switched on.
pub(crate) fn enabled(settings: &Settings, name: &str) -> bool {
    settings.list("feature-gates").iter().any(|gate| {
        gate.split_once('=').is_some_and(|(gate, text)| gate == name && value::bool(text) == Ok(true))
    })
}
