//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

/// Pauses that double up to a bound, each of them shortened by chance, so that many agents
/// do not come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, failures: 0 }
    }

    /// The next pause: between half of its length and its length.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It worked: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, most);
        for failures in 0..100 {
            let whole = first.saturating_mul(1 << failures.min(16)).min(most);
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
