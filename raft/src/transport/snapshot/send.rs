//! Sends a snapshot to a peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::read::{list_files, read_parts};
use crate::codec::{encode_snapshot_meta, encode_vote};
use crate::pb::skiff::raft::v1::Position;
use crate::snapshot::SnapshotDir;
use crate::transport::link::{Lane, Link};
use crate::transport::pb::snapshot_part::Part;
use crate::transport::pb::{SnapshotHeader, SnapshotPart, SnapshotReply};
use crate::types::{SnapshotMeta, Vote};

/// Parts between the disk and the network.
const QUEUED_PARTS: usize = 2;
/// How often progress is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// When the receiver last took a part, and whether that was the end.
struct Progress(Mutex<(Instant, bool)>);

impl Progress {
    fn note(&self, part: &SnapshotPart) {
        *self.0.lock() = (Instant::now(), matches!(part.part, Some(Part::End(_))));
    }

    /// How much longer the receiver may take for what it does now.
    fn patience(&self, idle: Duration, install: Duration) -> Option<Duration> {
        let (since, complete) = *self.0.lock();
        (if complete { install } else { idle }).checked_sub(since.elapsed())
    }
}

/// Sends the files of a directory and waits until they are installed. No more
/// is read from disk than the receiver takes. Dropping the future ends it.
///
/// # Errors
/// As the receiver reports them, or if it makes no progress.
pub(crate) async fn send(
    link: Arc<Link>,
    vote: Vote,
    meta: &SnapshotMeta,
    dir: SnapshotDir,
) -> Result<SnapshotReply, Status> {
    let timer = link.sent.snapshot();
    let outcome = transfer(&link, vote, meta, dir).await;
    match &outcome {
        Ok(_) => {
            let elapsed = timer.succeeded();
            link.answered(None);
            tracing::info!(peer = format!("{:x}", link.peer()), ?elapsed, "sent a snapshot");
        }
        Err(status) => link.failed(status),
    }
    outcome
}

async fn transfer(
    link: &Arc<Link>,
    vote: Vote,
    meta: &SnapshotMeta,
    dir: SnapshotDir,
) -> Result<SnapshotReply, Status> {
    let options = link.options().clone();
    let position = Position::decode(encode_snapshot_meta(meta))
        .map_err(|error| Status::internal(format!("snapshot position: {error}")))?;
    let listed = dir.clone();
    let files = blocking(move || list_files(listed.path())).await?;
    let header =
        SnapshotHeader { vote: Some(encode_vote(&vote)), position: Some(position), files: files.clone() };
    let (sender, receiver) = mpsc::channel(QUEUED_PARTS);
    let chunk_bytes = options.snapshot_chunk_bytes;
    let reading = tokio::spawn(blocking(move || {
        // A receiver that is gone ends the reading; the call says why.
        read_parts(dir.path(), &files, chunk_bytes, |part| sender.blocking_send(part).is_ok())
    }));
    let progress = Arc::new(Progress(Mutex::new((Instant::now(), false))));
    let mut client = link.client(Lane::Bulk);
    let call = client.install_snapshot(link.request(outgoing(link, header, receiver, progress.clone())));
    let mut call = std::pin::pin!(call);
    let reply = loop {
        let patience = progress.patience(options.snapshot_idle_timeout, options.snapshot_install_timeout);
        let Some(patience) = patience else {
            break Err(Status::deadline_exceeded("the receiver of a snapshot makes no progress"));
        };
        if let Ok(reply) = tokio::time::timeout(patience.min(PROGRESS_INTERVAL), &mut call).await {
            break reply.map(tonic::Response::into_inner);
        }
    };
    match reply {
        Ok(reply) => link.cross_back().await.map(|()| reply),
        // If reading failed, that is why the receiver saw the stream end.
        Err(status) if reading.is_finished() => Err(match reading.await {
            Ok(Err(cause)) => cause,
            _ => status,
        }),
        Err(status) => Err(status),
    }
}

/// The parts as they leave, header first.
fn outgoing(
    link: &Arc<Link>,
    header: SnapshotHeader,
    parts: mpsc::Receiver<SnapshotPart>,
    progress: Arc<Progress>,
) -> impl futures::Stream<Item = SnapshotPart> + Send + 'static {
    let link = link.clone();
    let rest = stream::unfold(parts, |mut parts| async move { parts.recv().await.map(|part| (part, parts)) });
    let first = SnapshotPart { part: Some(Part::Header(header)) };
    let all = stream::once(async move { first }).chain(rest).boxed();
    stream::unfold((all, link, progress), |(mut all, link, progress)| async move {
        let part = all.next().await?;
        link.cross_out().await.ok()?;
        link.sent.bytes.inc_by(part.encoded_len() as u64);
        progress.note(&part);
        Some((part, (all, link, progress)))
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| Status::data_loss(format!("cannot read the snapshot: {error}"))),
        Err(error) => Err(Status::internal(format!("reading the snapshot: {error}"))),
    }
}
