//! Spans of requests, in traces that clients begin (W3C Trace Context).
//!
//! A request that comes with a `traceparent` is sampled if its trace is; one
//! without begins a trace of its own, so many in a million. Who takes the
//! spans must never block.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use tonic::Code;

/// Takes spans that have ended; must not block.
pub trait Spans: Send + Sync + 'static {
    /// Takes a span, or drops it.
    fn take(&self, span: Span);
}

/// A request, from its first byte to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: [u8; 16],
    /// Its own id.
    pub span_id: [u8; 8],
    /// The span of the client it belongs under, if it told one.
    pub parent_id: Option<[u8; 8]>,
    /// gRPC service.
    pub service: &'static str,
    /// gRPC method.
    pub method: &'static str,
    /// When the request came.
    pub start: SystemTime,
    /// When its answer was sent.
    pub end: SystemTime,
    /// How it ended.
    pub code: Code,
    /// Who asked.
    pub remote: Option<SocketAddr>,
}

/// Which requests leave a span, and who takes them.
#[derive(Clone)]
pub struct Tracing {
    per_million: u32,
    spans: Arc<dyn Spans>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").field("per_million", &self.per_million).finish_non_exhaustive()
    }
}

/// Where a sampled request stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    trace_id: [u8; 16],
    parent_id: Option<[u8; 8]>,
}

/// A span that has not ended.
pub(crate) struct Open {
    place: Place,
    start: SystemTime,
    spans: Arc<dyn Spans>,
}

impl Tracing {
    /// Samples so many in a million of the requests that come without a trace.
    pub fn new(per_million: u32, spans: Arc<dyn Spans>) -> Self {
        Self { per_million, spans }
    }

    /// Begins a span, if the request is to leave one.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Box<Open>> {
        let place = match headers.get("traceparent").and_then(|value| parse(value.as_bytes())) {
            Some((place, sampled)) => sampled.then_some(place)?,
            None if self.per_million > 0 && rand::random_range(0..1_000_000) < self.per_million => {
                Place { trace_id: rand::random(), parent_id: None }
            }
            None => return None,
        };
        Some(Box::new(Open { place, start: SystemTime::now(), spans: self.spans.clone() }))
    }
}

impl Open {
    /// Ends the span and hands it on.
    pub(crate) fn end(
        self,
        service: &'static str,
        method: &'static str,
        code: Code,
        remote: Option<SocketAddr>,
    ) {
        let Place { trace_id, parent_id } = self.place;
        self.spans.take(Span {
            trace_id,
            span_id: rand::random(),
            parent_id,
            service,
            method,
            start: self.start,
            end: SystemTime::now(),
            code,
            remote,
        });
    }
}

/// Reads a `traceparent`: version, trace, parent, flags, in hex. `None` for
/// what the standard tells to ignore.
fn parse(header: &[u8]) -> Option<(Place, bool)> {
    const LENGTH: usize = 55;
    let text = std::str::from_utf8(header).ok()?;
    let mut parts = text.get(..LENGTH)?.split('-');
    let version = hex::<1>(parts.next()?)?[0];
    let trace_id = hex::<16>(parts.next()?)?;
    let parent_id = hex::<8>(parts.next()?)?;
    let flags = hex::<1>(parts.next()?)?[0];
    // Later versions may have more to say behind another dash.
    let whole = match version {
        0 => text.len() == LENGTH,
        0xff => false,
        _ => text.len() == LENGTH || text.as_bytes()[LENGTH] == b'-',
    };
    let usable = whole && parts.next().is_none() && trace_id != [0; 16] && parent_id != [0; 8];
    usable.then_some((Place { trace_id, parent_id: Some(parent_id) }, flags & 1 != 0))
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (out, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *out = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    #[test]
    fn reads_what_the_standard_allows_and_nothing_else() {
        let (place, sampled) = parse(format!("00-{TRACE}-{PARENT}-01").as_bytes()).unwrap();
        assert_eq!(place.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(place.parent_id.unwrap()[6..], [0x02, 0xb7]);
        assert!(sampled);
        assert!(!parse(format!("00-{TRACE}-{PARENT}-00").as_bytes()).unwrap().1);
        assert!(parse(format!("01-{TRACE}-{PARENT}-03-more").as_bytes()).unwrap().1);
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("01-{TRACE}-{PARENT}-01more"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0x"),
            format!("00_{TRACE}_{PARENT}_01"),
            format!("00-{TRACE}-{PARENT}-ä"),
            "-".repeat(60),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(parse(&[0xff; 55]), None);
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<Span>>);

    impl Spans for Kept {
        fn take(&self, span: Span) {
            self.0.lock().push(span);
        }
    }

    #[test]
    fn a_trace_decides_and_the_rate_decides_for_requests_without_one() {
        let kept = Arc::new(Kept::default());
        let headers = |flags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", format!("00-{TRACE}-{PARENT}-{flags}").parse().unwrap());
            headers
        };
        for rate in [0, 1_000_000] {
            let tracing = Tracing::new(rate, kept.clone());
            assert!(tracing.begin(&headers("01")).is_some());
            assert!(tracing.begin(&headers("00")).is_none());
            assert_eq!(tracing.begin(&HeaderMap::new()).is_some(), rate > 0);
        }
        let half = Tracing::new(500_000, kept.clone());
        let sampled = (0..1000).filter(|_| half.begin(&HeaderMap::new()).is_some()).count();
        assert!((300..700).contains(&sampled), "{sampled} of 1000");

        half.begin(&headers("01")).unwrap().end("s", "m", Code::NotFound, None);
        let span = kept.0.lock().pop().unwrap();
        assert_eq!((span.service, span.method, span.code), ("s", "m", Code::NotFound));
        assert_eq!(span.parent_id, hex(PARENT));
        assert_ne!(span.span_id, span.parent_id.unwrap());
        assert!(span.end >= span.start);
    }
}
