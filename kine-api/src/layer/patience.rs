//! How long a call that waits for others may wait.

use std::time::Duration;

use futures::future::Either;
use http::HeaderMap;
use tonic::Status;

use super::cut::Cut;

/// The header that tells it.
pub(crate) const TIMEOUT: &str = "grpc-timeout";

/// Most digits of a time-out in gRPC's notation.
const MAX_DIGITS: usize = 8;

/// Becomes ready when a waiting call must end: with the member, or when the
/// client's time is over. A client that has vanished without a word is thus
/// not waited for longer than it said.
pub(super) fn end(cut: Cut, headers: &HeaderMap) -> Cut {
    let Some(limit) = timeout(headers) else { return cut };
    Box::pin(async move {
        let over = std::pin::pin!(tokio::time::sleep(limit));
        match futures::future::select(cut, over).await {
            Either::Left((status, _)) => status,
            Either::Right(_) => Status::deadline_exceeded("context deadline exceeded"),
        }
    })
}

/// The time a client gives a call. One that cannot be read sets no limit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    read_timeout(headers.get(TIMEOUT)?.to_str().ok()?, |digits| {
        let short = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| short)
    })
}

/// Reads a time in gRPC's notation: a number, which `number` reads, and a unit.
pub(crate) fn read_timeout(text: &str, number: impl FnOnce(&str) -> Option<u64>) -> Option<Duration> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = number(count)?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        timeout(&headers)
    }

    #[test]
    fn timeouts_are_read_in_grpcs_notation() {
        assert_eq!(of("1S"), Some(Duration::from_secs(1)));
        assert_eq!(of("2M"), Some(Duration::from_secs(120)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(of("7m"), Some(Duration::from_millis(7)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(timeout(&HeaderMap::new()), None);
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "1 S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_time_ends_a_call() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", "3S".parse().unwrap());
        let begun = tokio::time::Instant::now();
        let status = end(Box::pin(std::future::pending()), &headers).await;
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::DeadlineExceeded, "context deadline exceeded")
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }
}
