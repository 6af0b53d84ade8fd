//! CPU profiles, sampled by a timer of the kernel.

use std::time::{Duration, SystemTime};

use pprof::ProfilerGuardBuilder;

use super::encode::{self, Profile, ValueType};

/// Samples in a second of CPU time, as with Go.
const FREQUENCY: i32 = 100;
/// Time between two samples of a thread, in nanoseconds.
const PERIOD: i64 = 1_000_000_000 / FREQUENCY as i64;
const CPU: ValueType = ("cpu", "nanoseconds");
/// Where a stack must not be walked from: code that may hold the locks that
/// walking takes. Time in the C library and in system calls is thus not seen.
const LEFT_ALONE: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Samples the process for a time; answers a compressed profile.
///
/// # Errors
/// The timer cannot be set, or the stacks cannot be read.
pub(super) async fn profile(time: Duration) -> Result<Vec<u8>, String> {
    let begun = SystemTime::now();
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&LEFT_ALONE)
        .build()
        .map_err(|error| error.to_string())?;
    tokio::time::sleep(time).await;
    // Finding names takes a while.
    let work = move || {
        let report = guard.report().build().map_err(|error| error.to_string())?;
        drop(guard);
        let mut profile = Profile::new(begun, time, &[("samples", "count"), CPU], (CPU, PERIOD));
        for (frames, count) in &report.data {
            let stack = frames.frames.iter().flatten().map(|symbol| encode::Frame {
                function: symbol.name(),
                file: symbol.filename().into_owned(),
                line: symbol.lineno(),
            });
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            profile.add(stack, vec![count, count.saturating_mul(PERIOD)], Some(&frames.thread_name));
        }
        profile.finish().map_err(|error| error.to_string())
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
