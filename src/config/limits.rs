//! How much of everything, and what is kept.

use std::time::Duration;

use crate::cli::Settings;

/// What to keep when compacting on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoCompaction {
    /// Everything.
    Off,
    /// What was current within this time.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

/// Limits.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Quota of the state, in bytes; 0 for 2 GiB, negative for none.
    pub(crate) quota_bytes: i64,
    /// Largest request, in bytes.
    pub(crate) max_request_bytes: usize,
    /// Most operations in a transaction.
    pub(crate) max_txn_ops: usize,
    /// Most learners.
    pub(crate) max_learners: usize,
    /// Revisions a compaction step looks at.
    pub(crate) compaction_batch: usize,
    /// Pause between compaction steps.
    pub(crate) compaction_sleep: Duration,
}

/// A number above zero.
pub(super) fn positive(settings: &Settings, flag: &str) -> Result<u64, String> {
    u64::try_from(settings.int(flag))
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("--{flag} must be above zero"))
}

fn positive_size(settings: &Settings, flag: &str) -> Result<usize, String> {
    positive(settings, flag).and_then(|n| usize::try_from(n).map_err(|_| format!("--{flag} is too large")))
}

/// Largest client request that can be asked for: a log entry holds at least one
/// request and is at most 16 MiB.
const MAX_REQUEST_BYTES: usize = 12 << 20;

/// What the flags for limits say.
pub(super) fn limits(settings: &Settings) -> Result<Limits, String> {
    let max_request_bytes = positive_size(settings, "max-request-bytes")?;
    if max_request_bytes > MAX_REQUEST_BYTES {
        return Err(format!(
            "--max-request-bytes is {max_request_bytes}, above the {MAX_REQUEST_BYTES} that one entry of the \
             log can hold"
        ));
    }
    Ok(Limits {
        quota_bytes: settings.int("quota-backend-bytes"),
        max_request_bytes,
        max_txn_ops: positive_size(settings, "max-txn-ops")?,
        max_learners: positive_size(settings, "max-learners")?,
        compaction_batch: positive_size(settings, "compaction-batch-limit")?,
        compaction_sleep: settings.duration("compaction-sleep-interval"),
    })
}

/// What the flags for compaction say.
pub(super) fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, String> {
    let text = settings.text("auto-compaction-retention");
    let wrong = |problem: String| format!("--auto-compaction-retention={text}: {problem}");
    let number = crate::cli::value::int(text);
    if number == Ok(0) || text.is_empty() {
        return Ok(AutoCompaction::Off);
    }
    match settings.text("auto-compaction-mode") {
        "revision" => match number {
            Ok(n) if n > 0 => Ok(AutoCompaction::Revision(n)),
            _ => Err(wrong("not a number of revisions".to_owned())),
        },
        _ => match number {
            Ok(hours) if hours > 0 => {
                Ok(AutoCompaction::Periodic(Duration::from_secs(hours.unsigned_abs().saturating_mul(3600))))
            }
            Ok(_) => Err(wrong("below zero".to_owned())),
            Err(_) => match crate::cli::value::duration(text).map_err(wrong)? {
                Duration::ZERO => Ok(AutoCompaction::Off),
                time => Ok(AutoCompaction::Periodic(time)),
            },
        },
    }
}
