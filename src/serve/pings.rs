//! Which pings of a client are too many: the rule of grpc-go's servers, which
//! clients are made for.
//!
//! A ping that comes sooner after the one before than it may is a strike; one
//! more than [`STRIKES`] ends the connection. Without a stream under way pings
//! may come every two hours only. Whatever the server sends on a stream
//! forgives all, and the next ping with it: clients measure the line by pings
//! while they receive.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::frames::{Head, flag, kind};

/// Strikes that are tolerated.
const STRIKES: u32 = 2;
/// Time between two pings on a connection without a stream.
const IDLE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Counts the pings of one connection.
#[derive(Debug)]
pub(super) struct Pings {
    min_interval: Duration,
    last: Option<Instant>,
    strikes: u32,
    /// The next ping is not looked at.
    forgiven: bool,
    /// Streams under way. As many as the HTTP/2 library lets there be.
    open: HashSet<u32>,
    /// The newest stream of the client.
    newest: u32,
}

impl Pings {
    /// Lets pings come this often on a connection with a stream.
    pub(super) fn new(min_interval: Duration) -> Pings {
        Pings { min_interval, last: None, strikes: 0, forgiven: false, open: HashSet::new(), newest: 0 }
    }

    /// The newest stream of the client.
    pub(super) fn newest_stream(&self) -> u32 {
        self.newest
    }

    /// Takes note of a frame of the client; true if it was a ping too many.
    pub(super) fn received(&mut self, head: Head, now: impl FnOnce() -> Instant) -> bool {
        match head.kind {
            kind::HEADERS if head.stream > self.newest => {
                self.newest = head.stream;
                self.open.insert(head.stream);
            }
            kind::RST_STREAM => {
                self.open.remove(&head.stream);
            }
            kind::PING if !head.has(flag::ACK) => return self.ping(now()),
            _ => {}
        }
        false
    }

    /// Takes note of a frame to the client.
    pub(super) fn sent(&mut self, head: Head) {
        let on_stream = matches!(head.kind, kind::HEADERS | kind::DATA);
        self.forgiven |= on_stream;
        if head.kind == kind::RST_STREAM || (on_stream && head.has(flag::END_STREAM)) {
            self.open.remove(&head.stream);
        }
    }

    fn ping(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.forgiven) {
            self.strikes = 0;
            return false;
        }
        let least = if self.open.is_empty() { IDLE_INTERVAL } else { self.min_interval };
        if last.is_some_and(|last| now.duration_since(last) < least) {
            self.strikes += 1;
        }
        self.strikes > STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_secs(5);

    /// A client whose time passes when it is told to.
    struct Client {
        pings: Pings,
        now: Instant,
    }

    impl Client {
        fn new() -> Client {
            Client { pings: Pings::new(LEAST), now: Instant::now() }
        }

        fn sends(&mut self, kind: u8, flags: u8, stream: u32) -> bool {
            let now = self.now;
            self.pings.received(Head { length: 0, kind, flags, stream }, || now)
        }

        fn gets(&mut self, kind: u8, flags: u8, stream: u32) {
            self.pings.sent(Head { length: 0, kind, flags, stream });
        }

        /// True if that was one too many.
        fn pings(&mut self) -> bool {
            self.sends(kind::PING, 0, 0)
        }

        fn waits(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn without_a_stream_the_fourth_ping_is_too_many() {
        let mut client = Client::new();
        for _ in 0..3 {
            assert!(!client.pings());
            client.waits(Duration::from_secs(60));
        }
        assert!(!client.sends(kind::PING, flag::ACK, 0), "answers are no pings");
        assert!(client.pings());

        let mut rare = Client::new();
        for _ in 0..10 {
            assert!(!rare.pings());
            rare.waits(IDLE_INTERVAL);
        }
    }

    #[test]
    fn with_a_stream_the_flag_rules_until_it_ends() {
        let ends: [fn(&mut Client); 4] = [
            |c| c.gets(kind::HEADERS, flag::END_STREAM, 1),
            |c| c.gets(kind::DATA, flag::END_STREAM, 1),
            |c| c.gets(kind::RST_STREAM, 0, 1),
            |c| assert!(!c.sends(kind::RST_STREAM, 0, 1)),
        ];
        for (case, end) in ends.into_iter().enumerate() {
            let mut client = Client::new();
            assert!(!client.sends(kind::HEADERS, 0, 1));
            for round in 0..40 {
                assert!(!client.pings());
                client.waits(LEAST);
                if round == 20 {
                    // The client's own end and its trailers do not end the stream.
                    assert!(!client.sends(kind::HEADERS, flag::END_STREAM, 1));
                }
            }
            end(&mut client);
            client.pings.forgiven = false;
            let tolerated = (0..10).take_while(|_| !client.pings()).count();
            assert_eq!(tolerated, 2, "case {case}");
            assert_eq!(client.pings.newest_stream(), 1);
        }
    }

    #[test]
    fn what_is_sent_on_a_stream_forgives() {
        let mut client = Client::new();
        assert!(!client.sends(kind::HEADERS, 0, 1));
        for round in 0..20 {
            assert!(!client.pings(), "{round}");
            if round % 3 == 2 {
                client.gets(kind::DATA, 0, 1);
            }
        }
        // What is sent for the connection alone does not.
        client.pings.forgiven = false;
        client.gets(kind::PING, flag::ACK, 0);
        assert!((0..4).any(|_| client.pings()));
    }
}
