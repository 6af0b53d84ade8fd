//! Connections that are cut, and ends that send anything.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proptest::prelude::*;
use skiff_tunnel::{End, Options, Tunnel, TunnelError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split};

use crate::support::{Echo, soon, target};

/// A connection that ends after so many bytes were written to it.
struct Cut {
    io: DuplexStream,
    left: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let length = bytes.len().min(self.left);
        if length == 0 {
            // The other end sees the end of the connection too.
            return match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Ready(_) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, &bytes[..length]);
        if let Poll::Ready(Ok(written)) = polled {
            self.left -= written;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Talks over a connection that is cut; true if it was.
async fn talk_until_cut(left: usize, size: usize) -> bool {
    let (a, b) = duplex(100);
    let options = Options { frame_bytes: 64, window_bytes: 200, ..Options::default() };
    let cut = Cut { io: a, left };
    let (a, b) = soon(async {
        tokio::join!(
            Tunnel::start(cut, End::Client, options, Arc::new(Echo)),
            Tunnel::start(b, End::Server, options, Arc::new(Echo)),
        )
    })
    .await;
    let (Ok(a), Ok(b)) = (a, b) else { return true };
    let sent: Vec<u8> = (0..size).map(|i| i as u8).collect();
    let Ok(stream) = soon(a.open(target())).await else { return true };
    let (mut reader, mut writer) = split(stream);
    let (written, read) = soon(async {
        tokio::join!(
            async {
                writer.write_all(&sent).await?;
                writer.shutdown().await
            },
            async {
                let mut got = Vec::new();
                let read = reader.read_to_end(&mut got).await;
                assert!(sent.starts_with(&got), "nothing but what was sent");
                read
            },
        )
    })
    .await;
    if let (Ok(()), Ok(length)) = (written, read) {
        assert_eq!(length, size, "an end that was not sent");
        return false;
    }
    soon(a.ended()).await;
    soon(b.ended()).await;
    true
}

#[tokio::test]
async fn a_connection_cut_at_any_byte_fails_and_never_ends_a_stream_well() {
    let mut whole = 0;
    for left in (0..400).chain((400..4000).step_by(97)) {
        whole += usize::from(!talk_until_cut(left, 500).await);
    }
    assert!(whole > 5, "some had enough bytes left: {whole}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fuzz_any_bytes_end_the_tunnel(bytes in prop::collection::vec(any::<u8>(), 0..3000), server: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let end = if server { End::Server } else { End::Client };
        runtime.block_on(async {
            let (a, b) = duplex(256);
            let (mut reader, mut writer) = split(b);
            let tunnel = tokio::spawn(Tunnel::start(a, end, Options::default(), Arc::new(Echo)));
            let drain = tokio::spawn(async move {
                let mut bytes = Vec::new();
                let _ = reader.read_to_end(&mut bytes).await;
            });
            let _ = writer.write_all(&bytes).await;
            let _ = writer.shutdown().await;
            if let Ok(tunnel) = soon(tunnel).await.unwrap() {
                soon(tunnel.ended()).await;
            }
            soon(drain).await.unwrap();
        });
    }
}

/// A frame of the websocket with this head, as a client sends it: masked with zeros.
pub(crate) fn message(opcode: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A hello in such a frame.
pub(crate) fn hello() -> Vec<u8> {
    let mut hello = vec![0; 5];
    hello.extend(b"SKFT\0\x01\0\x01\0\0\0\x04\0\0\x10\0\0\0\x10\0");
    message(2, hello.len() as u64, &hello)
}

/// What a server's end says of a client that sends this after its hello.
async fn verdict(bytes: &[u8]) -> TunnelError {
    let (a, b) = duplex(1 << 20);
    let (mut reader, mut writer) = split(b);
    let tunnel = tokio::spawn(Tunnel::start(a, End::Server, Options::default(), Arc::new(Echo)));
    writer.write_all(&hello()).await.unwrap();
    let tunnel = soon(tunnel).await.unwrap().unwrap();
    writer.write_all(bytes).await.unwrap();
    let drain = tokio::spawn(async move { while reader.read_u8().await.is_ok() {} });
    let why = soon(tunnel.ended()).await;
    soon(drain).await.unwrap();
    why
}

#[tokio::test]
async fn a_length_beyond_the_bound_ends_the_tunnel_before_its_bytes_come() {
    for length in [1 << 20, 1 << 40, u64::MAX >> 1] {
        let why = verdict(&message(2, length, b"")).await;
        assert_eq!(why, TunnelError::Violation("its message is too long".to_owned()), "{length}");
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_the_tunnel() {
    for payload in
        [&b""[..], b"\x04\0\0\0\x01", b"\x63\0\0\0\0", b"\x04\0\0\0\x01data", b"\x01\0\0\0\x02\x03tcpa:1"]
    {
        let why = verdict(&message(2, payload.len() as u64, payload)).await;
        assert!(matches!(why, TunnelError::Violation(_)), "{payload:?}: {why}");
    }
    let why = verdict(&message(1, 4, b"text")).await;
    assert!(matches!(why, TunnelError::Violation(_)), "{why}");
}
