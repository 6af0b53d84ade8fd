//! Jumps of the database's clock.
//!
//! Leases end by that clock, for it is the one that all servers share. It may be
//! set, or be another machine's after a failover, or stand still with a machine
//! that was paused. So each server holds it against its own, which only counts:
//! where the two differ by more than can be explained, every lease gets its full
//! time again, as etcd gives it when the leader changes. So none ends early, and
//! none lives longer than its time from when the jump was noticed.
//!
//! A jump while no server runs cannot be told from time that passes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A difference that means nothing, and the part of the time between two looks by
/// which clocks may run apart.
const TOLERANCE: Duration = Duration::from_secs(1);
const DRIFT: u32 = 50;

/// What is known of the database's clock.
#[derive(Default)]
pub(crate) struct DbClock {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Look>,
    /// It has jumped, and the leases have not got their time yet.
    jumped: bool,
}

/// What the clock said, some time between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Milliseconds since 1970.
    pub(crate) millis: i64,
    /// When it was asked.
    pub(crate) asked: Instant,
    /// When it had answered.
    pub(crate) answered: Instant,
}

impl Look {
    /// A look that began at `asked` and ends now.
    pub(crate) fn since(asked: Instant, millis: i64) -> Self {
        Self { millis, asked, answered: Instant::now() }
    }

    /// By how many milliseconds the clock has jumped since another look.
    fn jump_since(&self, before: &Look) -> Option<i64> {
        let most = self.answered.saturating_duration_since(before.asked);
        let least = self.asked.saturating_duration_since(before.answered);
        let slack = TOLERANCE + most / DRIFT;
        let passed = self.millis.saturating_sub(before.millis);
        let forward = passed.saturating_sub(millis(most + slack));
        let back = passed.saturating_sub(millis(least).saturating_sub(millis(slack)));
        if forward > 0 {
            Some(passed.saturating_sub(millis(most)))
        } else if back < 0 {
            Some(passed.saturating_sub(millis(least)))
        } else {
            None
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl DbClock {
    /// Notes what the clock says; true where it can be relied on.
    pub(crate) fn look(&self, look: Look) -> bool {
        let mut state = self.state.lock();
        if let Some(before) = &state.last {
            // Looks of several tasks may come in any order.
            if look.asked < before.answered {
                return !state.jumped;
            }
            if let Some(jump) = look.jump_since(before) {
                tracing::warn!(
                    jump_milliseconds = jump,
                    "the clock of the datastore has jumped; every lease gets its full time again"
                );
                state.jumped = true;
            }
        }
        state.last = Some(look);
        !state.jumped
    }

    /// True while leases wait for their time after a jump.
    pub(crate) fn has_jumped(&self) -> bool {
        self.state.lock().jumped
    }

    /// Notes that they have got it.
    pub(crate) fn settled(&self) {
        self.state.lock().jumped = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at `at` milliseconds by our clock, that took `took`.
    fn look(start: Instant, at: u64, took: u64, millis: i64) -> Look {
        let asked = start + Duration::from_millis(at);
        Look { millis, asked, answered: asked + Duration::from_millis(took) }
    }

    #[test]
    fn tells_a_jump_from_a_slow_answer() {
        let start = Instant::now();
        let first = look(start, 0, 10, 1_000_000);
        let jump = |second: Look| second.jump_since(&first);
        assert_eq!(jump(look(start, 250, 10, 1_000_255)), None);
        // The answer took 9 s: the clock may have been read at any time of these.
        assert_eq!(jump(look(start, 250, 9_000, 1_000_255)), None);
        assert_eq!(jump(look(start, 250, 9_000, 1_009_250)), None);
        // A little apart is not a jump.
        assert_eq!(jump(look(start, 250, 10, 1_001_200)), None);
        assert_eq!(jump(look(start, 250, 10, 999_500)), None);
        assert_eq!(jump(look(start, 250, 10, 1_060_260)), Some(60_000));
        assert_eq!(jump(look(start, 250, 10, 940_240)), Some(-60_000));
        // Clocks drift: 10 s in an hour.
        assert_eq!(jump(look(start, 3_600_000, 10, 4_610_000)), None);
    }

    #[test]
    fn leases_wait_until_they_have_their_time() {
        let (clock, start) = (DbClock::default(), Instant::now());
        assert!(clock.look(look(start, 0, 5, 1_000_000)));
        assert!(!clock.look(look(start, 250, 5, 9_000_000)));
        assert!(clock.has_jumped());
        assert!(!clock.look(look(start, 500, 5, 9_000_250)), "until it is settled");
        clock.settled();
        assert!(clock.look(look(start, 750, 5, 9_000_500)));
    }

    #[test]
    fn nothing_outside_of_numbers_is_a_fault() {
        let start = Instant::now();
        let edge = |millis| look(start, 0, 5, millis);
        for (one, other) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, i64::MIN)] {
            assert!(edge(one).jump_since(&edge(other)).is_some());
        }
    }
}
