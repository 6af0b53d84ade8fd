//! Who is not heard of is given up; time is paused.

use std::sync::Arc;
use std::time::Duration;

use skiff_tunnel::{End, Options, RefuseAll, Tunnel, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

use crate::hostile::{hello, message};
use crate::support::{Echo, target, tunnels, tunnels_over};

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_stays_up() {
    let (a, b) = tunnels(Options::default(), Echo, Echo).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((a.end(), b.end()), (None, None));
    let mut stream = a.open(target()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

/// Copies until it is told to stop, and then keeps both connections open.
async fn relay(mut a: DuplexStream, mut b: DuplexStream, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut a, &mut b) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_falls_silent_is_given_up() {
    let ((a, a2), (b, b2)) = (duplex(4096), duplex(4096));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(relay(a2, b2, stopped));
    let (a, b) = tunnels_over(a, b, Options::default(), Echo, Echo).await;
    let mut stream = a.open(target()).await.unwrap();
    stop.send_replace(true);
    let silent = TunnelError::Silent("was not heard of for too long");
    assert_eq!((a.ended().await, b.ended().await), (silent.clone(), silent));
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_never_says_hello_is_given_up() {
    let (a, _b) = duplex(4096);
    let started = Tunnel::start(a, End::Server, Options::default(), Arc::new(RefuseAll)).await;
    assert_eq!(started.unwrap_err(), TunnelError::Silent("did not say hello in time"));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_talks_but_takes_nothing_is_given_up() {
    let (a, mut b) = duplex(128);
    let starting = tokio::spawn(Tunnel::start(a, End::Server, Options::default(), Arc::new(RefuseAll)));
    b.write_all(&hello()).await.unwrap();
    let tunnel = starting.await.unwrap().unwrap();
    let ping = [&[8, 0, 0, 0, 0][..], &1u64.to_be_bytes()].concat();
    // Each is answered, and no answer is read.
    let talk = async {
        while b.write_all(&message(2, ping.len() as u64, &ping)).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        why = tunnel.ended() => assert_eq!(why, TunnelError::Silent("takes nothing any more")),
        () = talk => {}
    }
}
