//! `--feature-gates`, and the flags that were gates' names before.

use std::time::Duration;

use crate::cli::{Settings, value};

/// What a gate does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// All gates of etcd's class alpha: here those that switch something.
    AllAlpha,
    /// Compare hashes at compactions.
    CompactHashCheck,
    /// Compare hashes before serving.
    InitialCorruptCheck,
    /// Something that is asked for by name: see [`enabled`].
    Named,
    /// Nothing: why.
    Nothing(&'static str),
}

/// etcd's gates.
const GATES: [(&str, Gate); 11] = [
    ("AllAlpha", Gate::AllAlpha),
    ("AllBeta", Gate::Nothing("no feature here is beta")),
    ("CompactHashCheck", Gate::CompactHashCheck),
    ("DistributedTracing", Gate::Nothing("--enable-distributed-tracing switches it")),
    ("FastLeaseKeepAlive", Gate::Nothing("lease renewals never wait for the log")),
    ("InitialCorruptCheck", Gate::InitialCorruptCheck),
    ("LeaseCheckpoint", Gate::Nothing("remaining times of leases are always replicated")),
    ("LeaseCheckpointPersist", Gate::Nothing("remaining times of leases are always kept")),
    ("SetMemberLocalAddr", Gate::Named),
    ("StopGRPCServiceOnDefrag", Gate::Nothing("defragmentation does not stop requests")),
    ("TxnModeWriteWithSharedBuffer", Gate::Nothing("the state is kept in RocksDB, not in bbolt")),
];

/// When members' data are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CorruptionChecks {
    /// Before serving.
    pub(crate) initial: bool,
    /// Time between comparisons of the newest states; zero for none.
    pub(crate) interval: Duration,
    /// At compactions.
    pub(crate) at_compactions: bool,
    /// Time between comparisons of hashes kept at compactions.
    pub(crate) compaction_interval: Duration,
}

/// Checks the gates and the flags beside them; adds a warning for each gate
/// that was given and does nothing.
pub(crate) fn corruption_checks(
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<CorruptionChecks, String> {
    let (mut initial, mut compact, mut all) = (None, None, false);
    for gate in settings.list("feature-gates") {
        let (name, text) = gate
            .split_once('=')
            .ok_or_else(|| format!("--feature-gates: {gate:?} does not have the form Name=true"))?;
        let on = value::bool(text).map_err(|problem| format!("--feature-gates: {name}={text}: {problem}"))?;
        let (_, gate) = GATES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| format!("--feature-gates: unrecognized feature gate: {name}"))?;
        match gate {
            Gate::AllAlpha => all = on,
            Gate::InitialCorruptCheck => initial = Some(on),
            Gate::CompactHashCheck => compact = Some(on),
            Gate::Named => {}
            Gate::Nothing(why) => warnings.push(format!("feature gate {name} has no effect: {why}")),
        }
    }
    let compaction_interval = settings.duration("compact-hash-check-time");
    if compaction_interval.is_zero() {
        return Err(format!("--compact-hash-check-time must be >0 (set to {compaction_interval:?})"));
    }
    Ok(CorruptionChecks {
        initial: switch(settings, "experimental-initial-corrupt-check", "InitialCorruptCheck", initial, all)?,
        interval: settings.duration("corrupt-check-time"),
        at_compactions: switch(
            settings,
            "experimental-compact-hash-check-enabled",
            "CompactHashCheck",
            compact,
            all,
        )?,
        compaction_interval,
    })
}

/// A switch that has a gate and an older flag, of which etcd takes only one.
fn switch(
    settings: &Settings,
    flag: &str,
    gate: &str,
    gated: Option<bool>,
    all: bool,
) -> Result<bool, String> {
    match (settings.given(flag), gated) {
        (true, Some(_)) => Err(format!("cannot specify both flags: --{flag} and --feature-gates={gate}")),
        (true, None) => Ok(settings.bool(flag)),
        (false, gated) => Ok(gated.unwrap_or(all)),
    }
}

/// True if a gate was switched on.
pub(crate) fn enabled(settings: &Settings, name: &str) -> bool {
    settings.list("feature-gates").iter().any(|gate| {
        gate.split_once('=').is_some_and(|(gate, text)| gate == name && value::bool(text) == Ok(true))
    })
}
