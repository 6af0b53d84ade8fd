//! Endpoints that die, or never lived.

use skiff_kine_api::pass_through::Options;
use skiff_kine_api::services::watch_client::WatchClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::calls::watch;
use crate::common::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_loses_no_acknowledged_write() {
    let mut etcds = Etcd::three();
    let urls: Vec<_> = etcds.iter().map(|etcd| etcd.url.clone()).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let front = Front::start(&urls, Options::default()).await;
    front.ready().await;
    front.all_up(&urls).await;
    // Calls go round, so one of three watches stands on each member.
    let mut watches = Vec::new();
    for _ in 0..3 {
        let (requests, receiver) = mpsc::channel(1);
        requests.send(watch("w/0", 1)).await.unwrap();
        let call = WatchClient::new(front.channel.clone()).watch(ReceiverStream::new(receiver)).await;
        let mut events = call.unwrap().into_inner();
        assert!(within(events.message()).await.unwrap().unwrap().created);
        watches.push((requests, events));
    }
    let mut kv = front.kv();
    let mut acknowledged = Vec::new();
    for index in 0..300 {
        if index == 100 {
            etcds[0].kill();
        }
        let key = format!("w/{index}");
        match within(kv.put(put(&key, "v"))).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => assert!(index >= 100, "{error}"),
        }
    }
    assert!(acknowledged.len() > 100);
    within(async {
        for key in &acknowledged {
            // An election may be under way.
            let answer = loop {
                if let Ok(answer) = kv.range(get(key)).await {
                    break answer.into_inner();
                }
            };
            assert_eq!(answer.count, 1, "{key}");
        }
    })
    .await;
    // At least the killed member's watch ends, with what clients reconnect at.
    let (ended, _, _) = within(futures::future::select_all(watches.iter_mut().map(|(_, events)| {
        Box::pin(async move {
            loop {
                if let Err(error) = events.message().await {
                    return error;
                }
            }
        })
    })))
    .await;
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let (requests, receiver) = mpsc::channel(1);
    requests.send(watch("w/0", 1)).await.unwrap();
    let call = within(WatchClient::new(front.channel.clone()).watch(ReceiverStream::new(receiver))).await;
    let mut events = call.unwrap().into_inner();
    while within(events.message()).await.unwrap().unwrap().events.is_empty() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_endpoint_is_a_clear_error() {
    let urls = [format!("http://127.0.0.1:{}", free_port()), "unix:///nowhere/etcd.sock".to_owned()];
    let front = Front::start(&[&urls[0], &urls[1]], Options::default()).await;
    let error = within(front.kv().range(get("k"))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no etcd endpoint can be reached"), "{error}");
    for url in &urls {
        assert!(error.message().contains(url.as_str()), "{error}");
    }
    assert!(front.http("GET", "/health", "").await.starts_with("HTTP/1.1 503"));
    assert!(front.http("GET", "/version", "").await.starts_with("HTTP/1.1 503"));
    assert!(front.http("GET", "/livez", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_passed_over() {
    let mut etcd = Etcd::single("http", &[]);
    let dead = format!("http://127.0.0.1:{}", free_port());
    let front = Front::start(&[&dead, &etcd.url], Options::default()).await;
    front.ready().await;
    for _ in 0..10 {
        front.kv().range(get("k")).await.unwrap();
    }
    etcd.kill();
    assert_eq!(within(front.kv().range(get("k"))).await.unwrap_err().code(), Code::Unavailable);
}
