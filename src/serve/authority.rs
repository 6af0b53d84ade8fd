//! Accepts what etcd's clients send as `:authority`.
//!
//! Older clients put a whole URL there (`http://10.0.0.1:2379`) or a list
//! (`#initially=[...]`). gRPC in Go does not look at it; the HTTP/2 library
//! here resets the stream. So the bytes are put right before it sees them:
//! what cannot stand in an authority becomes `-`.
//!
//! Only literals are changed, each to one of the same length, so that the
//! compression tables of both ends keep the same size and stay in step. A
//! client sends the literal once a connection; after that a request costs a
//! walk over its few fields.
//!
//! Not handled: an authority of no length, and one that does not stand in the
//! first frame of a header block (pseudo-header fields come first, so it does).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{HEAD_BYTES, Head, PREFACE, flag, kind};
use super::hpack;

/// Largest frame the server accepts (the default of HTTP/2); a longer one is
/// passed on as it is, to be refused.
const MAX_FRAME_BYTES: usize = 16_384;
/// Bytes read at once, on the stack; small requests fit whole.
const READ_BYTES: usize = 4 << 10;

enum State {
    /// Waiting for the first bytes, to see whether this is HTTP/2.
    Preface,
    /// Between two frames.
    Frame,
    /// Within a frame that is passed on, with so many bytes to come.
    Payload(usize),
    /// Not HTTP/2: passed on.
    Other,
}

/// A stream whose HTTP/2 requests carry authorities that can be read.
pub(super) struct Readable<S> {
    inner: S,
    state: State,
    /// Bytes read and not yet looked at.
    raw: Vec<u8>,
    /// Bytes to be passed on.
    done: Vec<u8>,
    /// How many of them were.
    passed: usize,
}

impl<S> Readable<S> {
    /// Wraps a stream.
    pub(super) fn new(inner: S) -> Self {
        Readable { inner, state: State::Preface, raw: Vec::new(), done: Vec::new(), passed: 0 }
    }

    /// Moves whatever is complete from `raw` to `done`.
    fn advance(&mut self) {
        let mut at = 0;
        while at < self.raw.len() {
            let rest = &self.raw[at..];
            let step = match self.state {
                State::Preface if PREFACE.starts_with(rest) && rest.len() < PREFACE.len() => break,
                State::Preface if rest.starts_with(PREFACE) => {
                    self.state = State::Frame;
                    PREFACE.len()
                }
                State::Preface => {
                    self.state = State::Other;
                    rest.len()
                }
                State::Other => rest.len(),
                State::Payload(left) => {
                    let step = left.min(rest.len());
                    self.state = if step == left { State::Frame } else { State::Payload(left - step) };
                    step
                }
                State::Frame => {
                    let Some(head) = rest.first_chunk::<HEAD_BYTES>().map(Head::read) else { break };
                    if head.kind == kind::HEADERS && head.length <= MAX_FRAME_BYTES {
                        let Some(frame) = rest.get(..HEAD_BYTES + head.length) else { break };
                        if let Some(better) = rewrite(frame) {
                            self.done.extend_from_slice(&better);
                            at += frame.len();
                            continue;
                        }
                        frame.len()
                    } else {
                        self.state = State::Payload(head.length);
                        HEAD_BYTES
                    }
                }
            };
            self.done.extend_from_slice(&self.raw[at..at + step]);
            at += step;
            if matches!(self.state, State::Payload(0)) {
                self.state = State::Frame;
            }
        }
        self.raw.drain(..at);
    }
}

/// A HEADERS frame with an authority that can be read, if its own cannot.
fn rewrite(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = frame[4];
    let (head, payload) = frame.split_at(HEAD_BYTES);
    let mut from = 0;
    let mut padding = 0;
    if flags & flag::PADDED != 0 {
        padding = usize::from(*payload.first()?);
        from += 1;
    }
    if flags & flag::PRIORITY != 0 {
        from += 5;
    }
    let block = payload.get(from..payload.len().checked_sub(padding)?)?;
    let found = hpack::authority(block)?;
    let mut text = hpack::text(block, found)?;
    if text.is_empty() || Authority::try_from(text.as_slice()).is_ok() {
        return None;
    }
    for byte in &mut text {
        if !byte.is_ascii_alphanumeric() && *byte != b'.' {
            *byte = b'-';
        }
    }
    let mut better = Vec::with_capacity(frame.len() + text.len());
    better.extend_from_slice(head);
    better.extend_from_slice(&payload[..from]);
    better.extend_from_slice(&block[..found.start]);
    hpack::put_string(&mut better, &text);
    better.extend_from_slice(&payload[from + found.end..]);
    let length = better.len() - HEAD_BYTES;
    if length > MAX_FRAME_BYTES {
        return None;
    }
    better[..3].copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes()[1..]);
    Some(better)
}

impl<S: AsyncRead + Unpin> AsyncRead for Readable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.passed < this.done.len() {
                let step = (this.done.len() - this.passed).min(out.remaining());
                out.put_slice(&this.done[this.passed..this.passed + step]);
                this.passed += step;
                if this.passed == this.done.len() {
                    this.done.clear();
                    this.passed = 0;
                }
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Other if this.raw.is_empty() => return Pin::new(&mut this.inner).poll_read(cx, out),
                // The rest of a large frame goes straight to the reader.
                State::Payload(left) if this.raw.is_empty() && out.remaining() > 0 => {
                    let most = left.min(out.remaining());
                    let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
                    let read = part.filled().len();
                    out.advance(read);
                    this.state = if read == left { State::Frame } else { State::Payload(left - read) };
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            let mut chunk = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                // The end; what is incomplete is passed on as it is.
                if this.raw.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.state = State::Other;
            }
            this.raw.extend_from_slice(buffer.filled());
            this.advance();
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Readable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        super::super::frames::frame(kind, flags, 1, payload)
    }

    fn headers(flags: u8, before: &[u8], authority: &[u8], after: &[u8]) -> Vec<u8> {
        let mut payload = before.to_vec();
        payload.extend_from_slice(&[0x83, 0x86, 0x41]);
        hpack::put_string(&mut payload, authority);
        payload.extend_from_slice(after);
        frame(kind::HEADERS, flags, &payload)
    }

    /// What comes out, when the bytes come in pieces of a size.
    async fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(64);
        let bytes = bytes.to_vec();
        let write = async move {
            for part in bytes.chunks(piece) {
                near.write_all(part).await.unwrap();
            }
        };
        let mut out = Vec::new();
        let mut readable = Readable::new(far);
        let (_, read) = tokio::join!(write, readable.read_to_end(&mut out));
        read.unwrap();
        out
    }

    #[tokio::test]
    async fn only_authorities_that_cannot_be_read_are_changed() {
        let mut sent = PREFACE.to_vec();
        let mut want = PREFACE.to_vec();
        let data = frame(0, 0, &[7; 9000]);
        let cases: [(&[u8], &[u8]); 4] = [
            (b"http://127.0.0.1:12379", b"http---127.0.0.1-12379"),
            (b"#initially=[http://a:1;http://b:1]", b"-initially--http---a-1-http---b-1-"),
            (b"127.0.0.1:2379", b"127.0.0.1:2379"),
            (b"[::1]:2379", b"[::1]:2379"),
        ];
        for (authority, readable) in cases {
            sent.extend_from_slice(&headers(0x04, &[], authority, &[0x88]));
            want.extend_from_slice(&headers(0x04, &[], readable, &[0x88]));
            // With a weight, and with padding behind.
            sent.extend_from_slice(&headers(0x24, &[0; 5], authority, &[]));
            want.extend_from_slice(&headers(0x24, &[0; 5], readable, &[]));
            sent.extend_from_slice(&headers(0x0c, &[3], authority, &[0; 3]));
            want.extend_from_slice(&headers(0x0c, &[3], readable, &[0; 3]));
            sent.extend_from_slice(&data);
            want.extend_from_slice(&data);
        }
        for piece in [1, 7, 24, 33, 4096, sent.len()] {
            assert!(through(&sent, piece).await == want, "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn what_is_not_http2_or_not_whole_passes_as_it_is() {
        let mut cut = PREFACE.to_vec();
        cut.extend_from_slice(&headers(4, &[], b"http://a:1", &[])[..15]);
        let mut wrong = PREFACE.to_vec();
        wrong.extend_from_slice(&frame(kind::HEADERS, 0x28, &[200, 1, 2]));
        for bytes in
            [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"PRI".to_vec(), PREFACE.to_vec(), cut, wrong, vec![]]
        {
            for piece in [1, 5, 4096] {
                assert!(through(&bytes, piece).await == bytes, "{bytes:?}");
            }
        }
    }
}
