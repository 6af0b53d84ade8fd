//! Lets go of clients that ping too often, as `--grpc-keepalive-min-time` says.
//!
//! The HTTP/2 library answers pings and tells nobody. So this sits between it
//! and the socket and looks at the heads of the frames that pass; the bytes
//! pass unchanged. When [`Pings`] says that it is enough, the next frame to the
//! client is ours: GOAWAY with ENHANCE_YOUR_CALM and "too_many_pings", which
//! makes gRPC clients double their interval. It is written between two frames,
//! never in one; then the connection ends.
//!
//! Not policed: what is not HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::{Frames, PREFACE, frame, kind};
use super::pings::Pings;

const ENHANCE_YOUR_CALM: u32 = 11;
const REASON: &[u8] = b"too_many_pings";
/// Time the end may take: the frame under way, the GOAWAY, and the client's
/// reading of it. What a client still sends is read meanwhile: to close a
/// socket with unread bytes would destroy the GOAWAY on its way.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream whose client is let go when it pings too often.
pub(super) struct Calm<S> {
    inner: S,
    /// `None` where nothing is policed.
    watch: Option<Watch>,
}

struct Watch {
    /// Bytes of the preface that came.
    preface: usize,
    received: Frames,
    sent: Frames,
    pings: Pings,
    end: Option<End>,
}

/// The end of a connection.
struct End {
    step: Step,
    goaway: Vec<u8>,
    deadline: Pin<Box<Sleep>>,
}

enum Step {
    /// The frame under way must be written first.
    Frame,
    /// So many bytes of the GOAWAY are written.
    Write(usize),
    Flush,
    Shutdown,
    /// Reading until the client has closed as well.
    Drain,
}

impl<S> Calm<S> {
    /// Wraps a stream; a client must leave `min_interval` between two pings.
    pub(super) fn new(inner: S, min_interval: Option<Duration>) -> Self {
        let watch = min_interval.map(|least| Watch {
            preface: 0,
            received: Frames::default(),
            sent: Frames::default(),
            pings: Pings::new(least),
            end: None,
        });
        Calm { inner, watch }
    }

    fn saw_received(&mut self, bytes: &[u8]) {
        let Some(watch) = &mut self.watch else { return };
        let expected = &PREFACE[watch.preface..];
        let begin = expected.len().min(bytes.len());
        if bytes[..begin] != expected[..begin] {
            self.watch = None;
            return;
        }
        watch.preface += begin;
        let mut enough = false;
        watch.received.feed(&bytes[begin..], |head| enough |= watch.pings.received(head, Instant::now));
        if enough && watch.end.is_none() {
            tracing::warn!(
                "a client pings more often than --grpc-keepalive-min-time allows; its connection ends"
            );
            watch.end = Some(End::new(watch.pings.newest_stream()));
        }
    }

    fn saw_sent(&mut self, bytes: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.sent.feed(bytes, |head| watch.pings.sent(head));
        }
    }

    /// True when nothing but the end may be written.
    fn must_end(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.end.is_some() && watch.sent.between())
    }

    fn ending(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.end.is_some())
    }
}

impl End {
    fn new(newest_stream: u32) -> End {
        let payload =
            [&newest_stream.to_be_bytes()[..], &ENHANCE_YOUR_CALM.to_be_bytes()[..], REASON].concat();
        End {
            step: Step::Frame,
            goaway: frame(kind::GOAWAY, 0, 0, &payload),
            deadline: Box::pin(tokio::time::sleep(END_TIMEOUT)),
        }
    }

    /// Goes on with the end; the answer is the error to end the connection with.
    fn poll<S>(&mut self, stream: &mut S, between: bool, cx: &mut Context<'_>) -> Poll<io::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(ended());
        }
        match ready!(self.poll_steps(stream, between, cx)) {
            Ok(()) => Poll::Ready(ended()),
            Err(error) => Poll::Ready(error),
        }
    }

    fn poll_steps<S>(&mut self, stream: &mut S, between: bool, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Pin::new(stream);
        loop {
            self.step = match self.step {
                // Whoever has the rest of the frame wakes this task by it.
                Step::Frame if !between => return Poll::Pending,
                Step::Frame => Step::Write(0),
                Step::Write(done) if done == self.goaway.len() => Step::Flush,
                Step::Write(done) => match ready!(stream.as_mut().poll_write(cx, &self.goaway[done..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    more => Step::Write(done + more),
                },
                Step::Flush => {
                    ready!(stream.as_mut().poll_flush(cx))?;
                    Step::Shutdown
                }
                Step::Shutdown => {
                    ready!(stream.as_mut().poll_shutdown(cx))?;
                    Step::Drain
                }
                Step::Drain => {
                    let mut scratch = [0; 1024];
                    let mut unread = ReadBuf::new(&mut scratch);
                    ready!(stream.as_mut().poll_read(cx, &mut unread))?;
                    if unread.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    Step::Drain
                }
            };
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "too many pings from the client")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Calm<S> {
    /// Goes on with the end, if it has come.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let between = watch.sent.between();
        match &mut watch.end {
            Some(end) => end.poll(&mut self.inner, between, cx),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ending() {
            return this.poll_end(cx).map(Err);
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
        this.saw_received(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.must_end() {
            return this.poll_end(cx).map(Err);
        }
        let most = match &this.watch {
            Some(watch) if watch.end.is_some() => watch.sent.rest(bytes),
            _ => bytes.len(),
        };
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &bytes[..most]))?;
        this.saw_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ending() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[][..], |slice| slice));
        }
        let this = &mut *self;
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            this.saw_sent(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.must_end() {
            return self.poll_end(cx).map(Err);
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::frames::flag;
    use super::*;

    const LEAST: Duration = Duration::from_secs(5);

    fn pings(count: usize) -> Vec<u8> {
        frame(kind::PING, 0, 0, &[3; 8]).repeat(count)
    }

    fn goaway(newest_stream: u32) -> Vec<u8> {
        End::new(newest_stream).goaway
    }

    /// Both ends; the pipe to the client holds `room` bytes.
    fn pair(room: usize) -> (DuplexStream, Calm<DuplexStream>) {
        let (client, server) = tokio::io::duplex(room);
        (client, Calm::new(server, Some(LEAST)))
    }

    /// Reads as the library does, until the end.
    async fn read_on(server: &mut Calm<DuplexStream>) -> io::Error {
        let mut buffer = [0; 100];
        loop {
            match server.read(&mut buffer).await {
                Ok(0) => panic!("closed without a word"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    #[tokio::test]
    async fn the_fourth_ping_in_a_row_ends_the_connection_with_a_word() {
        let (mut client, mut server) = pair(1 << 10);
        let talk = async {
            client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &pings(4)].concat()).await.unwrap();
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await.unwrap();
            drop(client);
            seen
        };
        let (seen, error) = tokio::join!(talk, read_on(&mut server));
        assert_eq!(seen, goaway(0));
        assert_eq!(&seen[9..], [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"too_many_pings"].concat());
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_frame_under_way_is_finished_first() {
        // A header block in two frames and some data, cut everywhere.
        let whole =
            [frame(kind::HEADERS, 0, 7, b"abcdef"), frame(kind::CONTINUATION, flag::END_HEADERS, 7, b"gh")]
                .concat();
        for cut in 1..whole.len() {
            let (mut client, mut server) = pair(1 << 10);
            let request = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 7, b"x");
            let first = [PREFACE, &request].concat();
            client.write_all(&first).await.unwrap();
            let mut taken = vec![0; first.len()];
            server.read_exact(&mut taken).await.unwrap();
            assert_eq!(taken, first);
            server.write_all(&whole[..cut]).await.unwrap();
            // The headers sent forgive one ping.
            client.write_all(&pings(6)).await.unwrap();
            let mut buffer = [0; 1 << 10];
            let got = server.read(&mut buffer).await.unwrap();
            assert_eq!(got, pings(6).len());
            let after = [&whole[cut..], &frame(kind::DATA, 0, 7, b"never seen")].concat();
            let write = async {
                let error = server.write_all(&after).await.unwrap_err();
                drop(server);
                error
            };
            let read = async {
                let mut seen = Vec::new();
                client.read_to_end(&mut seen).await.unwrap();
                drop(client);
                seen
            };
            let (error, seen) = tokio::join!(write, read);
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            assert!(seen == [whole.clone(), goaway(7)].concat(), "cut at {cut}: {seen:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_not_waited_for() {
        let (mut client, mut server) = pair(64);
        let before = Instant::now();
        let talk = async {
            client.write_all(&[PREFACE, &pings(4)].concat()).await.unwrap();
            client
        };
        // A pipe that is full: the GOAWAY does not fit.
        let fill = frame(kind::DATA, 0, 1, &[0; 64 - 9]);
        server.write_all(&fill).await.unwrap();
        let (_client, error) = tokio::join!(talk, read_on(&mut server));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(before.elapsed() >= END_TIMEOUT);
    }

    #[tokio::test]
    async fn what_is_not_http2_and_what_is_not_policed_passes() {
        let ping = pings(20);
        let cases = [
            (Some(LEAST), [b"GET / HTTP/1.1\r\n\r\n", &ping[..]].concat()),
            (Some(LEAST), [b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", &ping[..]].concat()),
            (None, [PREFACE, &ping].concat()),
        ];
        for (least, bytes) in cases {
            let (mut client, server) = tokio::io::duplex(1 << 10);
            let mut server = Calm::new(server, least);
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut seen = Vec::new();
            server.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, bytes);
        }
    }
}
