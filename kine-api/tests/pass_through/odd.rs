//! Servers that refuse, break off, or send without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use skiff_kine_api::pass_through::Options;
use tonic::Code;

use crate::common::*;

const PROBE: &str = "/grpc.health.v1.Health/Check";

/// Answers every call with an empty message; counts them.
async fn good(count: Arc<AtomicUsize>) -> String {
    let answer = move |request: axum::extract::Request| async move {
        if request.uri().path() != PROBE {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [
            Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(&[0; 5]))),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        Response::builder()
            .header("content-type", "application/grpc")
            .body(Body::new(BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames)))))
            .unwrap()
    };
    serve(Router::new().fallback(answer)).await
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Takes probes, and refuses the streams of calls or breaks the connection.
async fn bad(breaks: bool, count: Arc<AtomicUsize>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if request.uri().path() == PROBE {
                        let answer = Response::builder().header("content-type", "application/grpc");
                        let answer = answer.header("grpc-status", "0").body(()).unwrap();
                        respond.send_response(answer, true).unwrap();
                        continue;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    if breaks {
                        return;
                    }
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_goes_to_the_next_endpoint() {
    let (taken, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bad, good) = (bad(false, refused.clone()).await, good(taken.clone()).await);
    let front = Front::start(&[&bad, &good], Options::default()).await;
    let mut calls = 0;
    within(async {
        while refused.load(Ordering::SeqCst) == 0 {
            front.kv().put(put("k", "v")).await.unwrap();
            calls += 1;
        }
    })
    .await;
    assert_eq!(taken.load(Ordering::SeqCst), calls, "every call was served once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_have_been_served_is_not_sent_again() {
    let (taken, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bad, good) = (bad(true, broken.clone()).await, good(taken.clone()).await);
    let front = Front::start(&[&bad, &good], Options::default()).await;
    let (mut calls, mut failed) = (0, 0);
    within(async {
        while broken.load(Ordering::SeqCst) == 0 {
            calls += 1;
            if let Err(error) = front.kv().put(put("k", "v")).await {
                assert_eq!(error.code(), Code::Unavailable);
                assert!(error.message().contains("whether the request took effect is not known"), "{error}");
                failed += 1;
            }
        }
    })
    .await;
    assert_eq!(failed, broken.load(Ordering::SeqCst));
    assert_eq!(taken.load(Ordering::SeqCst) + failed, calls);
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_nobody_reads_waits_and_ends_with_its_reader() {
    let sent = Arc::new(AtomicUsize::new(0));
    let dropped = Arc::new(AtomicBool::new(false));
    let (counter, flag) = (sent.clone(), dropped.clone());
    let endless = move |request: axum::extract::Request| async move {
        let answer = Response::builder().header("content-type", "application/grpc");
        if request.uri().path() != "/etcdserverpb.KV/Range" {
            return answer.header("grpc-status", "0").body(Body::empty()).unwrap();
        }
        let guard = Dropped(flag);
        let chunks = stream::unfold((counter, guard), |(counter, guard)| async move {
            counter.fetch_add(16 << 10, Ordering::SeqCst);
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![0; 16 << 10])), (counter, guard)))
        });
        answer.body(Body::from_stream(chunks)).unwrap()
    };
    let url = serve(Router::new().fallback(endless)).await;
    let front = Front::start(&[&url], Options::default()).await;
    let stream = tokio::net::TcpStream::connect(&front.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = |path: &str| {
        let request = http::Request::post(format!("http://x{path}"));
        request.header("content-type", "application/grpc").body(()).unwrap()
    };
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(ask("/etcdserverpb.KV/Range"), true).unwrap();
    let answer = within(answer).await.unwrap();
    // Others are served meanwhile, on the same connections.
    for _ in 0..200 {
        client = client.ready().await.unwrap();
        let (other, _) = client.send_request(ask("/etcdserverpb.KV/Put"), true).unwrap();
        assert_eq!(within(other).await.unwrap().headers()["grpc-status"], "0");
    }
    assert!(sent.load(Ordering::SeqCst) < 8 << 20, "{sent:?} bytes are buffered");
    drop(answer);
    within(async {
        while !dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
