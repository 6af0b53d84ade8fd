//! The text jemalloc writes of what it has sampled.
//!
//! Its first line tells the mean distance of two samples in bytes. Then come
//! stacks: a line of addresses, and below it what was allocated there, in all
//! threads together (`t*`) and in each. Numbers are of samples, not of what
//! they stand for; what [`Amount::scaled`] makes of them is.

/// What was sampled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dump {
    /// Mean distance of two samples, in allocated bytes.
    pub(super) interval: u64,
    pub(super) stacks: Vec<Stack>,
}

/// A place that allocates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// Where each call returns to, the innermost first.
    pub(super) addresses: Vec<u64>,
    /// What is still allocated.
    pub(super) now: Amount,
    /// What was ever allocated.
    pub(super) ever: Amount,
}

/// Sampled allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) count: i64,
    pub(super) bytes: i64,
}

impl Amount {
    /// What the samples stand for: an allocation of some bytes is sampled with
    /// a likelihood of 1 - e^(-bytes / interval).
    pub(super) fn scaled(self, interval: u64) -> Amount {
        if self.count <= 0 || self.bytes <= 0 || interval <= 1 {
            return self;
        }
        let mean = self.bytes as f64 / self.count as f64;
        let scale = 1.0 / -f64::exp_m1(-mean / interval as f64);
        let times = |value: i64| (value as f64 * scale).round() as i64;
        Amount { count: times(self.count), bytes: times(self.bytes) }
    }
}

/// Reads the text.
///
/// # Errors
/// It is not of the version known here, or of another form.
pub(super) fn parse(text: &str) -> Result<Dump, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let interval = first.strip_prefix("heap_v2/").and_then(|number| number.parse().ok());
    let interval = interval.ok_or("the allocator's profile is of an unknown version")?;
    let mut stacks = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("MAPPED_LIBRARIES") {
            break;
        }
        let Some(addresses) = line.strip_prefix('@') else { continue };
        let stack = addresses.split_whitespace().map(address).collect::<Option<Vec<u64>>>();
        let amounts = lines.next().and_then(amounts);
        let (Some(addresses), Some((now, ever))) = (stack, amounts) else {
            return Err(format!("the allocator's profile has a stack that cannot be read: {line}"));
        };
        stacks.push(Stack { addresses, now, ever });
    }
    Ok(Dump { interval, stacks })
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Reads `t*: 1: 160 [2: 320]`: what is there, and what ever was.
fn amounts(line: &str) -> Option<(Amount, Amount)> {
    let (now, ever) = line.trim().strip_prefix("t*:")?.split_once('[')?;
    Some((amount(now)?, amount(ever.strip_suffix(']')?)?))
}

fn amount(text: &str) -> Option<Amount> {
    let (count, bytes) = text.split_once(':')?;
    Some(Amount { count: count.trim().parse().ok()?, bytes: bytes.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "heap_v2/524288\n  t*: 3: 600 [4: 700]\n  t0: 3: 600 [4: 700]\n\
        @ 0x10 0x2f\n  t*: 1: 160 [2: 320]\n  t0: 1: 160 [2: 320]\n\
        @ 0x11\n  t*: 0: 0 [1: 1048576]\n  t1: 0: 0 [1: 1048576]\n\n\
        MAPPED_LIBRARIES:\n@ not a stack\n";

    #[test]
    fn the_allocators_text_is_read() {
        let dump = parse(TEXT).unwrap();
        assert_eq!(dump.interval, 524_288);
        let amount = |count, bytes| Amount { count, bytes };
        let want = [
            Stack { addresses: vec![0x10, 0x2f], now: amount(1, 160), ever: amount(2, 320) },
            Stack { addresses: vec![0x11], now: amount(0, 0), ever: amount(1, 1 << 20) },
        ];
        assert_eq!(dump.stacks, want);
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for wrong in ["", "heap_v3/1\n", "heap_v2/x\n", "heap profile: 1: 2 [3: 4] @ heapprofile\n"] {
            assert!(parse(wrong).unwrap_err().contains("version"), "{wrong}");
        }
        for wrong in ["@ 1\n  t*: 1: 1 [1: 1]\n", "@ 0x1\n", "@ 0x1\n  t*: 1 [1: 1]\n", "@ 0x1\n  t*: 1: 1\n"]
        {
            assert!(parse(&format!("heap_v2/1\n{wrong}")).unwrap_err().contains("stack"), "{wrong}");
        }
        // Cut anywhere, it is an error or a shorter profile.
        for end in 0..TEXT.len() {
            let _ = parse(&TEXT[..end]);
        }
    }

    #[test]
    fn small_samples_stand_for_many_and_large_ones_for_themselves() {
        let one = |bytes| Amount { count: 1, bytes }.scaled(524_288);
        // One of 64 bytes stands for about 524288 / 64 of them.
        let small = one(64);
        assert!((8190..=8194).contains(&small.count), "{small:?}");
        assert!((524_200..=524_400).contains(&small.bytes), "{small:?}");
        assert_eq!(one(64 << 20), Amount { count: 1, bytes: 64 << 20 });
        assert_eq!(Amount { count: 0, bytes: 0 }.scaled(524_288), Amount { count: 0, bytes: 0 });
    }
}
