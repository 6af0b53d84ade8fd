//! Makes a failing sequence smaller by leaving out steps, each attempt on fresh servers.

use std::time::{Duration, Instant};

use skiff_test_support::Program;

use crate::op::Step;
use crate::pair::{Difference, Pair};

/// Long enough for a few dozen attempts.
const BUDGET: Duration = Duration::from_secs(60);

/// Answers the difference of the smallest sequence found; none when the sequence does not differ on fresh
/// servers at all.
pub(crate) async fn shrink(subject: &Program, mut steps: Vec<Step>, first: Difference) -> Option<Difference> {
    let deadline = Instant::now() + BUDGET;
    let mut best = attempt(subject, &steps, &first).await?;
    steps.truncate(best.step + 1);
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        let mut start = 0;
        while start < steps.len() && Instant::now() < deadline {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + chunk).min(fewer.len()));
            match attempt(subject, &fewer, &first).await {
                Some(difference) => {
                    fewer.truncate(difference.step + 1);
                    (steps, best) = (fewer, difference);
                }
                None => start += chunk,
            }
        }
        chunk /= 2;
    }
    Some(best)
}

/// A difference of the same kind of step, if the steps lead to one.
async fn attempt(subject: &Program, steps: &[Step], first: &Difference) -> Option<Difference> {
    let difference = Pair::start(subject).await.ok()?.run(steps).await.err()?;
    let kind = |difference: &Difference| difference.text.split("Request").next().map(str::to_owned);
    (kind(&difference) == kind(first)).then_some(difference)
}
