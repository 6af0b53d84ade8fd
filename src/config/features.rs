//! `--feature-gates`.

use crate::cli::{Settings, value};

/// etcd's gates. None switches anything here: what they stand for is either
/// always on, or has no counterpart, or is not offered yet.
const GATES: [(&str, &str); 11] = [
    ("AllAlpha", "it names no feature"),
    ("AllBeta", "it names no feature"),
    ("CompactHashCheck", "members' hashes are not compared on their own yet"),
    ("DistributedTracing", "OpenTelemetry export is not offered"),
    ("FastLeaseKeepAlive", "lease renewals never wait for the log"),
    ("InitialCorruptCheck", "members' hashes are not compared on their own yet"),
    ("LeaseCheckpoint", "remaining times of leases are always replicated"),
    ("LeaseCheckpointPersist", "remaining times of leases are always kept"),
    ("SetMemberLocalAddr", "connections leave from the address the system picks"),
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
        warnings.push(format!("feature gate {name} has no effect: {why}"));
    }
    Ok(warnings)
}
