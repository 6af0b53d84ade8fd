//! Snapshots: whole, damaged, interrupted, cancelled.

use std::fs;
use std::future::{pending, ready};
use std::path::Path;
use std::sync::Arc;

use futures::stream;
use openraft::RaftNetworkFactory;
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RaftNetworkV2};
use skiff_raft::codec::{encode_snapshot_meta, encode_vote};
use skiff_raft::snapshot::SnapshotDir;
use skiff_raft::transport::identity::Identity;
use skiff_raft::transport::pb::peer_client::PeerClient;
use skiff_raft::transport::pb::snapshot_part::Part;
use skiff_raft::transport::pb::{
    SnapshotChunk, SnapshotEnd, SnapshotFile, SnapshotFileEnd, SnapshotHeader, SnapshotPart,
};
use skiff_raft::transport::{Transport, TransportConfig, TransportOptions};
use skiff_raft::types::{Membership, Snapshot, SnapshotMeta, StoredMembership, Vote, log_id};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Status};

use super::*;

fn meta() -> SnapshotMeta {
    let members = [(ASKER, node(&["http://a:1".to_owned()])), (ANSWERER, node(&["http://b:1".to_owned()]))];
    let membership = Membership::new(
        vec![[ASKER].into()],
        members.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    SnapshotMeta {
        last_log_id: Some(log_id(3, 500)),
        last_membership: StoredMembership::new(Some(log_id(1, 1)), membership.unwrap()),
    }
}

/// Files of a snapshot, one of them empty, one of several chunks.
fn files() -> Vec<(String, Vec<u8>)> {
    let long: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    vec![
        ("000001.sst".to_owned(), long),
        ("CURRENT".to_owned(), b"MANIFEST-1".to_vec()),
        ("empty.log".to_owned(), Vec::new()),
    ]
}

fn snapshot(root: &Path) -> Snapshot {
    let path = root.join("checkpoint");
    fs::create_dir(&path).unwrap();
    for (name, data) in files() {
        fs::write(path.join(name), data).unwrap();
    }
    Snapshot { meta: meta(), snapshot: SnapshotDir::new(path) }
}

fn never() -> impl Future<Output = ReplicationClosed> + Send + 'static {
    pending()
}

fn option() -> RPCOption {
    RPCOption::new(DEADLINE)
}

fn small_chunks() -> Arc<Transport> {
    let options = TransportOptions { snapshot_chunk_bytes: 10_000, ..options() };
    Transport::new(TransportConfig { options, ..config() })
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_the_receivers_vote_comes_back() {
    let higher = Vote::new(12, ANSWERER);
    let handler = Arc::new(Handler { higher_vote: Some(higher), ..Handler::default() });
    let server = start(handler.clone()).await;
    let mut network = small_chunks().new_client(ANSWERER, &node(&[url(&server)])).await;
    let root = tempfile::tempdir().unwrap();
    let reply = network.full_snapshot(leader(), snapshot(root.path()), never(), option()).await.unwrap();
    assert_eq!(reply.vote, higher);
    assert_eq!(*handler.installed.lock(), [(meta(), files())]);
    assert!(handler.snapshot_dirs().is_empty(), "the handler kept nothing, so nothing is left");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "the sender's copy is released");
}

#[tokio::test]
async fn a_cancelled_snapshot_ends_at_once() {
    let handler = Arc::new(Handler { installs: Arc::new(Semaphore::new(0)), ..Handler::default() });
    let server = start(handler.clone()).await;
    let mut network = small_chunks().new_client(ANSWERER, &node(&[url(&server)])).await;
    let root = tempfile::tempdir().unwrap();
    let cancel = ready(ReplicationClosed::new("test"));
    let ended = network.full_snapshot(leader(), snapshot(root.path()), cancel, option()).await;
    assert!(matches!(ended, Err(StreamingError::Closed(_))), "{ended:?}");
    assert!(handler.installed.lock().is_empty());
    eventually("the sender's copy is released", async || match fs::read_dir(root.path()).unwrap().count() {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_does_not_install_is_given_up() {
    let handler = Arc::new(Handler { installs: Arc::new(Semaphore::new(0)), ..Handler::default() });
    let server = start(handler.clone()).await;
    let options = TransportOptions { snapshot_install_timeout: Duration::from_millis(100), ..options() };
    let mut transport = Transport::new(TransportConfig { options, ..config() });
    let mut network = transport.new_client(ANSWERER, &node(&[url(&server)])).await;
    let root = tempfile::tempdir().unwrap();
    let ended = network.full_snapshot(leader(), snapshot(root.path()), never(), option()).await;
    assert!(matches!(ended, Err(StreamingError::Timeout(_))), "{ended:?}");
    eventually("the receiver's copy is removed", async || match handler.snapshot_dirs() {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_an_error() {
    let server = start(Arc::new(Handler::default())).await;
    let mut network = transport().new_client(ANSWERER, &node(&[url(&server)])).await;
    let gone = Snapshot { meta: meta(), snapshot: SnapshotDir::new("/nonexistent/checkpoint".into()) };
    let ended = network.full_snapshot(leader(), gone, never(), option()).await;
    assert!(matches!(ended, Err(StreamingError::Network(_))), "{ended:?}");
}

/// The parts of a snapshot of one file as a sender would send them.
fn parts() -> Vec<Part> {
    let data = bytes::Bytes::from_static(b"0123456789");
    let crc = crc32c::crc32c(&data);
    let header = SnapshotHeader {
        vote: Some(encode_vote(&leader())),
        position: Some(prost::Message::decode(encode_snapshot_meta(&meta())).unwrap()),
        files: vec![SnapshotFile { name: "a".to_owned(), size: 10 }],
    };
    vec![
        Part::Header(header),
        Part::Chunk(SnapshotChunk { offset: 0, crc32c: crc, data }),
        Part::FileEnd(SnapshotFileEnd { crc32c: crc }),
        Part::End(SnapshotEnd { crc32c: crc }),
    ]
}

/// Sends parts as they are to a fresh member.
async fn send(parts: Vec<Part>) -> (Result<(), Status>, Arc<Handler>) {
    let handler = Arc::new(Handler::default());
    let server = start(handler.clone()).await;
    let mut client = PeerClient::connect(url(&server)).await.unwrap();
    let parts = parts.into_iter().map(|part| SnapshotPart { part: Some(part) });
    let mut request = Request::new(stream::iter(parts));
    Identity::new(CLUSTER, ASKER, ANSWERER).write(request.metadata_mut());
    let result = client.install_snapshot(request).await.map(|_| ());
    (result, handler)
}

#[tokio::test]
async fn damaged_and_incomplete_snapshots_are_refused_and_removed() {
    let (sound, handler) = send(parts()).await;
    sound.unwrap();
    assert_eq!(handler.installed.lock().len(), 1);

    let edit = |at: usize, part: Part| {
        let mut parts = parts();
        parts[at] = part;
        parts
    };
    let Part::Chunk(mut flipped) = parts()[1].clone() else { unreachable!() };
    flipped.data = bytes::Bytes::from_static(b"0123456780");
    let Part::Header(mut escaping) = parts()[0].clone() else { unreachable!() };
    escaping.files[0].name = "../a".to_owned();
    let cases = [
        (Code::DataLoss, edit(1, Part::Chunk(flipped))),
        (Code::DataLoss, edit(2, Part::FileEnd(SnapshotFileEnd { crc32c: 1 }))),
        (Code::DataLoss, edit(3, Part::End(SnapshotEnd { crc32c: 1 }))),
        (Code::DataLoss, edit(0, Part::Header(escaping))),
        (Code::Aborted, parts()[..3].to_vec()),
        (Code::InvalidArgument, parts()[1..].to_vec()),
    ];
    for (code, parts) in cases {
        let (refused, handler) = send(parts.clone()).await;
        assert_eq!(refused.unwrap_err().code(), code, "{parts:?}");
        assert!(handler.installed.lock().is_empty());
        assert!(handler.snapshot_dirs().is_empty(), "{parts:?}");
    }
}
