//! Calls with many messages, over bodies that stay open.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::*;

#[tokio::test]
async fn a_watch_is_asked_and_answered_at_the_same_time() {
    let gateway = Gateway::new();
    let (requests, body) = open_body();
    requests.send(r#"{"create_request":{"key":"YQ=="}}"#.to_owned()).await.unwrap();
    let response = gateway.open(request("watch", body)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let mut lines = response.into_body();
    assert_eq!(line(&mut lines).await.unwrap()["result"]["created"], json!(true));
    for revision in 2..5 {
        gateway.ok("kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).await;
        let event = line(&mut lines).await.unwrap();
        assert_eq!(
            event["result"]["events"][0]["kv"]["mod_revision"],
            json!(revision.to_string()),
            "{event}"
        );
    }
    // In two parts, with a value cut in the middle.
    requests.send(r#" {"createRequest":{"key":"Yg==","watch"#.to_owned()).await.unwrap();
    requests.send(r#"Id":"5"}} {"cancel_request":{"watch_id":0}}"#.to_owned()).await.unwrap();
    let created = line(&mut lines).await.unwrap();
    assert_eq!((&created["result"]["watch_id"], &created["result"]["created"]), (&json!("5"), &json!(true)));
    assert_eq!(line(&mut lines).await.unwrap()["result"]["canceled"], json!(true));
    // Whoever asks for nothing more still listens.
    drop(requests);
    gateway.ok("kv/put", r#"{"key":"Yg=="}"#).await;
    assert_eq!(line(&mut lines).await.unwrap()["result"]["watch_id"], json!("5"));
    gateway.stop.send_replace(true);
    let stopped = json!({"error": {"code": 14, "message": "etcdserver: server stopped"}});
    assert_eq!(line(&mut lines).await, Some(stopped));
    assert_eq!(line(&mut lines).await, None);
}

#[tokio::test]
async fn a_wrong_request_ends_a_stream_with_an_error() {
    let gateway = Gateway::new();
    let (requests, body) = open_body();
    requests.send(r#"{"ID":7}{"ID":"x"}{"ID":8}"#.to_owned()).await.unwrap();
    let mut lines = gateway.open(request("lease/keepalive", body)).await.into_body();
    assert_eq!(line(&mut lines).await.unwrap()["result"]["ID"], json!("7"));
    let error = json!({"code": 3, "message": "proto: (line 1:7): invalid value for int64 field ID: \"x\""});
    assert_eq!(line(&mut lines).await, Some(json!({ "error": error })));
    assert_eq!(line(&mut lines).await, None);

    // As the first, it makes the status.
    let answer = gateway.post("watch", "{\"a\"]").await;
    let error = json!({"code": 3, "message": "invalid character ']' after object key"});
    assert_eq!((answer.status.as_u16(), answer.json()), (400, json!({ "error": error })));
}

#[tokio::test]
async fn every_renewal_is_answered() {
    let gateway = Gateway::new();
    gateway.ok("lease/grant", r#"{"ID":7,"TTL":50}"#).await;
    let answer = gateway.post("lease/keepalive", r#"{"ID":7}{"ID":8}"#).await;
    let lines: Vec<Value> = answer
        .body
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["result"]["ID"], &lines[0]["result"]["TTL"]), (&json!("7"), &json!("50")));
    assert_eq!((&lines[1]["result"]["ID"], &lines[1]["result"]["TTL"]), (&json!("8"), &Value::Null));
    let nothing = gateway.post("lease/keepalive", "").await;
    assert_eq!((nothing.status.as_u16(), nothing.body.len()), (200, 0));
}

#[tokio::test]
async fn a_snapshot_comes_in_pieces() {
    let gateway = Gateway::new();
    gateway.ok("kv/put", r#"{"key":"YQ==","value":"Yg=="}"#).await;
    let mut lines = gateway.open(request("maintenance/snapshot", "")).await.into_body();
    let (mut bytes, mut left) = (Vec::new(), None);
    while let Some(line) = line(&mut lines).await {
        let blob = line["result"]["blob"].as_str().unwrap();
        bytes.extend(BASE64_STANDARD.decode(blob).unwrap());
        left = Some(line["result"]["remaining_bytes"].clone());
    }
    assert!(bytes.len() > 32);
    assert_eq!(left, Some(Value::Null), "nothing remains after the last");
}

#[tokio::test]
async fn a_stream_that_is_let_go_ends_its_watch() {
    let gateway = Gateway::new();
    let response = gateway.open(request("watch", r#"{"create_request":{"key":"YQ=="}}"#)).await;
    let mut lines = response.into_body();
    line(&mut lines).await.unwrap();
    drop(lines);
    // The watcher goes with it: nothing of the call holds the store.
    drop(gateway.router);
    assert_eq!(Arc::strong_count(&gateway.store), 1);
}

#[tokio::test]
async fn a_stream_without_a_leader_is_refused_before_it_begins() {
    let gateway = Gateway::new();
    gateway.store.lose_leader();
    let mut asked = request("watch", r#"{"create_request":{"key":"YQ=="}}"#);
    asked.headers_mut().insert("grpc-metadata-hasleader", "true".parse().unwrap());
    assert_eq!(gateway.send(asked).await.error(), (503, 14, "etcdserver: no leader".to_owned()));
}
