//! Connections: lost and found again, several URLs, changed URLs, faults.

use std::sync::Arc;

use skiff_raft::peer::{CallError, PeerClient};
use skiff_raft::transport::{Fault, Faults, Transport, TransportConfig};

use super::calls::read_index;
use super::*;

/// An address where nobody listens.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_restarted_member_is_found_again() {
    let handler = Arc::new(Handler::default());
    let server = start(handler.clone()).await;
    let transport = transport();
    let node = node(&[url(&server)]);
    transport.call(ANSWERER, &node, read_index(), DEADLINE).await.unwrap();
    assert!(transport.is_active(ANSWERER));

    let address = server.kill().await;
    eventually("the loss is noticed", async || {
        match transport.call(ANSWERER, &node, read_index(), DEADLINE).await {
            Err(CallError::Unreachable(_)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert!(!transport.is_active(ANSWERER));

    let _server = Server::listen(handler, address, None).await;
    eventually("the member is found again", || transport.call(ANSWERER, &node, read_index(), DEADLINE)).await;
    assert!(transport.is_active(ANSWERER));
}

#[tokio::test]
async fn urls_are_tried_in_turn() {
    let server = start(Arc::new(Handler::default())).await;
    let urls = [nowhere().await, "not a url".to_owned(), url(&server)];
    transport().call(ANSWERER, &node(&urls), read_index(), DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_member_without_a_usable_url_is_unreachable() {
    for urls in [vec![], vec![nowhere().await], vec!["https://127.0.0.1:1".to_owned()]] {
        let failed = transport().call(ANSWERER, &node(&urls), read_index(), DEADLINE).await;
        assert!(matches!(failed, Err(CallError::Unreachable(_))), "{urls:?}: {failed:?}");
    }
}

#[tokio::test]
async fn a_member_that_moved_is_called_at_its_new_url() {
    let (old, new) = (Arc::new(Handler::default()), Arc::new(Handler::default()));
    let (old, new) = (start(old).await, start(new).await);
    let transport = transport();
    transport.call(ANSWERER, &node(&[url(&old)]), read_index(), DEADLINE).await.unwrap();
    drop(old);
    let moved = node(&[url(&new)]);
    transport.set_members([(ANSWERER, &moved)]);
    transport.call(ANSWERER, &moved, read_index(), DEADLINE).await.unwrap();
    transport.set_members([]);
    assert!(!transport.is_active(ANSWERER), "a removed member is forgotten");
}

#[tokio::test]
async fn faults_cut_delay_and_refuse() {
    let server = start(Arc::new(Handler::default())).await;
    let node = node(&[url(&server)]);
    let faults = Arc::new(Faults::default());
    let transport = Transport::new(TransportConfig { faults: Some(faults.clone()), ..config() });
    let ask = |timeout| transport.call(ANSWERER, &node, read_index(), timeout);
    let soon = Duration::from_millis(100);

    faults.partition(&[&[ASKER], &[ANSWERER]]);
    assert_eq!(ask(soon).await.unwrap_err(), CallError::Timeout);
    faults.heal();
    ask(DEADLINE).await.unwrap();
    faults.set(ANSWERER, ASKER, Fault::Cut);
    assert_eq!(ask(soon).await.unwrap_err(), CallError::Timeout, "answers are cut off");
    faults.set(ANSWERER, ASKER, Fault::Delay(Duration::from_millis(1)));
    ask(DEADLINE).await.unwrap();
    faults.set(ASKER, ANSWERER, Fault::Refuse);
    assert!(matches!(ask(DEADLINE).await, Err(CallError::Lost(_) | CallError::Unreachable(_))));
}
