//! Opening, both ways, half closing, giving up.

use std::io::ErrorKind;

use skiff_tunnel::{OpenError, Options, RefusalCode, RefuseAll, Target, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::{Echo, HandOn, read_all, soon, target, tunnels};

#[tokio::test]
async fn both_ends_open_streams() {
    let (a, b) = tunnels(Options::default(), Echo, Echo).await;
    for tunnel in [&a, &b, &a] {
        let mut stream = soon(tunnel.open(target())).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn one_way_ends_before_the_other() {
    let (sender, mut accepted) = mpsc::channel(1);
    let (a, _b) = tunnels(Options::default(), RefuseAll, HandOn(sender)).await;
    let mut here = soon(a.open(target())).await.unwrap();
    let mut there = soon(accepted.recv()).await.unwrap();
    here.write_all(b"question").await.unwrap();
    here.shutdown().await.unwrap();
    assert_eq!(read_all(&mut there).await.unwrap(), b"question");
    assert_eq!(here.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    there.write_all(b"answer").await.unwrap();
    there.shutdown().await.unwrap();
    assert_eq!(read_all(&mut here).await.unwrap(), b"answer");
}

#[tokio::test]
async fn what_was_finished_arrives_though_the_stream_is_dropped() {
    let (sender, mut accepted) = mpsc::channel(1);
    let options = Options { window_bytes: 100, max_window_bytes: 100, ..Options::default() };
    let (a, _b) = tunnels(options, RefuseAll, HandOn(sender)).await;
    let mut here = soon(a.open(target())).await.unwrap();
    here.write_all(&[7; 5000]).await.unwrap();
    here.shutdown().await.unwrap();
    drop(here);
    let mut there = soon(accepted.recv()).await.unwrap();
    assert_eq!(read_all(&mut there).await.unwrap(), [7; 5000]);
    let error = loop {
        if let Err(error) = there.write(b"to nobody").await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_dropped_stream_is_reset() {
    let (sender, mut accepted) = mpsc::channel(1);
    let (a, b) = tunnels(Options::default(), RefuseAll, HandOn(sender)).await;
    drop(soon(a.open(target())).await.unwrap());
    let mut there = soon(accepted.recv()).await.unwrap();
    assert_eq!(read_all(&mut there).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(there);
    for tunnel in [&a, &b] {
        assert_eq!((tunnel.status().streams, tunnel.status().opened), (0, 1));
    }
}

#[tokio::test]
async fn a_refusal_says_why_and_an_open_nobody_answers_ends() {
    let (sender, _accepted) = mpsc::channel(1);
    let (a, _b) = tunnels(Options::default(), RefuseAll, HandOn(sender)).await;
    match soon(a.open(Target::tcp("no").unwrap())).await {
        Err(OpenError::Refused(refusal)) => {
            assert_eq!((refusal.code(), refusal.text()), (RefusalCode::Forbidden, "never"));
        }
        other => panic!("{other:?}"),
    }
    let dropped = soon(a.open(Target::tcp("drop").unwrap())).await;
    assert_eq!(dropped.unwrap_err(), OpenError::Reset);
    assert_eq!(a.status().streams, 0);
}

#[tokio::test]
async fn there_are_as_many_streams_as_the_other_end_allows() {
    let (sender, mut accepted) = mpsc::channel(8);
    let options = Options { max_streams: 2, ..Options::default() };
    let (a, _b) = tunnels(options, RefuseAll, HandOn(sender)).await;
    let first = soon(a.open(target())).await.unwrap();
    let _second = soon(a.open(target())).await.unwrap();
    assert_eq!(a.open(target()).await.unwrap_err(), OpenError::TooMany(2));
    drop(first);
    drop(soon(accepted.recv()).await.unwrap());
    let third = soon(async {
        loop {
            match a.open(target()).await {
                Ok(stream) => return stream,
                // The other end may not know yet that its own half is gone.
                Err(OpenError::TooMany(_)) => tokio::task::yield_now().await,
                Err(OpenError::Refused(refusal)) => assert_eq!(refusal.code(), RefusalCode::Busy),
                Err(error) => panic!("{error}"),
            }
        }
    });
    third.await;
}

#[tokio::test]
async fn closing_tells_the_other_end_and_fails_every_stream() {
    let (a, b) = tunnels(Options::default(), Echo, Echo).await;
    let mut here = soon(a.open(target())).await.unwrap();
    let mut there = soon(b.open(target())).await.unwrap();
    a.close("maintenance");
    assert_eq!(soon(a.ended()).await, TunnelError::Closed);
    assert_eq!(soon(b.ended()).await, TunnelError::ClosedByPeer("maintenance".to_owned()));
    for stream in [&mut here, &mut there] {
        assert_eq!(read_all(stream).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    assert!(matches!(a.open(target()).await, Err(OpenError::Ended(_))));
}

#[tokio::test]
async fn dropping_every_handle_closes() {
    let (a, b) = tunnels(Options::default(), Echo, Echo).await;
    let clone = a.clone();
    drop(a);
    let mut stream = soon(clone.open(target())).await.unwrap();
    drop(clone);
    assert!(matches!(soon(b.ended()).await, TunnelError::ClosedByPeer(_)));
    assert!(stream.read_u8().await.is_err());
}
