use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Endpoint;

fn port(router: Router) -> Port {
    Port {
        certificates: false,
        name: "test",
        router,
        tls: None,
        options: ConnectionOptions::for_peers(),
        slots: Arc::new(Semaphore::new(100)),
    }
}

fn start(router: Router) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let listener = bind(&Endpoint::parse("http://127.0.0.1:0").unwrap(), false).unwrap();
    let address = listener.tcp_address().unwrap();
    let (trigger, stop) = Stop::new();
    (address, trigger, tokio::spawn(serve(listener, port(router), stop)))
}

async fn http1(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

async fn http2(address: SocketAddr, path: &str) -> (hyper::StatusCode, hyper::Version) {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{address}{path}");
    let reply =
        sender.send_request(hyper::Request::get(uri).body(axum::body::Body::empty()).unwrap()).await.unwrap();
    (reply.status(), reply.version())
}

#[tokio::test]
async fn one_port_speaks_http1_and_http2() {
    let (address, _trigger, _task) = start(Router::new().route("/health", get(|| async { "fine" })));
    let reply = http1(address, "/health").await;
    assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("fine"), "{reply}");
    assert_eq!(http2(address, "/health").await, (hyper::StatusCode::OK, hyper::Version::HTTP_2));
    assert_eq!(http2(address, "/nothing").await.0, hyper::StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_port_does() {
    let (entered, mut inside) = tokio::sync::mpsc::channel::<()>(1);
    let (release, released) = watch::channel(false);
    let slow = move || {
        let (entered, mut released) = (entered.clone(), released.clone());
        async move {
            entered.send(()).await.unwrap();
            released.wait_for(|go| *go).await.unwrap();
            "done"
        }
    };
    let (address, trigger, task) = start(Router::new().route("/slow", get(slow)));
    let request = tokio::spawn(async move { http1(address, "/slow").await });
    inside.recv().await.unwrap();
    trigger.send(true).unwrap();
    // The listener closes at once; wait until connecting fails.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished());
    release.send(true).unwrap();
    assert!(request.await.unwrap().ends_with("done"));
    task.await.unwrap();
}

#[tokio::test]
async fn a_used_address_is_named() {
    let listener = bind(&Endpoint::parse("http://127.0.0.1:0").unwrap(), false).unwrap();
    let url = format!("http://{}", listener.tcp_address().unwrap());
    let error = bind(&Endpoint::parse(&url).unwrap(), false).err().unwrap();
    assert!(error.contains(&url) && error.contains("already in use"), "{error}");
}

#[tokio::test]
async fn a_left_over_unix_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let url = Endpoint::parse(&format!("unix://{}", path.display())).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left over");
    let first = bind(&url, false).unwrap();
    assert!(bind(&url, false).is_err());
    drop(first);
    assert!(!path.exists());

    // A listener that closes late leaves the socket of the next alone.
    let old = bind(&url, false).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _new = bind(&url, false).unwrap();
    drop(old);
    assert!(path.exists());
}

#[tokio::test]
async fn a_port_is_shared_only_when_all_agree() {
    let any = Endpoint::parse("http://127.0.0.1:0").unwrap();
    let open = |url: &Endpoint, reuse_port| bind(url, reuse_port);
    let shared = open(&any, true).unwrap();
    let url = Endpoint::parse(&format!("http://{}", shared.tcp_address().unwrap())).unwrap();
    assert!(open(&url, true).is_ok());
    assert!(open(&url, false).is_err());
}

#[tokio::test]
async fn a_port_with_lingering_connections_is_bound_again() {
    let listener = bind(&Endpoint::parse("http://127.0.0.1:0").unwrap(), false).unwrap();
    let address = listener.tcp_address().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    // Who closes first keeps the port in TIME_WAIT.
    drop(listener.accept().await.unwrap());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    drop((client, listener));
    assert!(bind(&Endpoint::parse(&format!("http://{address}")).unwrap(), false).is_ok());
}
