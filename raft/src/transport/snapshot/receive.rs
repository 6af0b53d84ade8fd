//! Takes a snapshot from a stream to a directory.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use super::write::{ReceiveError, Writer};
use crate::snapshot::SnapshotDir;
use crate::transport::pb::{SnapshotFile, SnapshotPart};

/// Chunks between the network and the disk.
const QUEUED_PARTS: usize = 4;

/// Writes the parts that follow the header to `dir` and answers it complete,
/// checked and durable. Whatever goes wrong, the directory is removed.
///
/// # Errors
/// If the stream ends early, pauses longer than `idle`, or is damaged; if the
/// disk fails.
pub(crate) async fn receive(
    dir: SnapshotDir,
    files: Vec<SnapshotFile>,
    mut parts: impl Stream<Item = Result<SnapshotPart, Status>> + Unpin,
    idle: Duration,
) -> Result<SnapshotDir, ReceiveError> {
    let mut writer = Writer::new(dir, files)?;
    let (sender, mut receiver) = mpsc::channel::<SnapshotPart>(QUEUED_PARTS);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(part) = receiver.blocking_recv() {
            writer.part(part.part)?;
        }
        writer.finish()
    });
    let fed = feed(&mut parts, sender, idle).await;
    let written = writing.await.map_err(|error| ReceiveError::Io(std::io::Error::other(error)))?;
    // What the writer says explains more than that it stopped listening.
    match (fed, written) {
        (_, Err(error @ (ReceiveError::Damaged(_) | ReceiveError::Io(_)))) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(()), written) => written,
    }
}

async fn feed(
    parts: &mut (impl Stream<Item = Result<SnapshotPart, Status>> + Unpin),
    sender: mpsc::Sender<SnapshotPart>,
    idle: Duration,
) -> Result<(), ReceiveError> {
    loop {
        let next = tokio::time::timeout(idle, parts.next()).await;
        let part = match next {
            Err(_) => return Err(ReceiveError::Interrupted(format!("no data for {idle:?}"))),
            Ok(None) => return Ok(()),
            Ok(Some(Err(status))) => return Err(ReceiveError::Interrupted(status.message().to_owned())),
            Ok(Some(Ok(part))) => part,
        };
        if sender.send(part).await.is_err() {
            return Err(ReceiveError::Interrupted("the writer stopped".to_owned()));
        }
    }
}
