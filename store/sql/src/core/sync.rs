//! Following what other servers commit, for watches: by notification where the
//! database has them, by polling elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, schema};
use crate::db::Listener;

/// Between looks while something happens, while nothing does, and where
/// notifications come.
const BUSY: Duration = Duration::from_millis(3);
const IDLE: Duration = Duration::from_millis(60);
const NOTIFIED: Duration = Duration::from_secs(1);
/// Pause before listening is tried again.
const RELISTEN: Duration = Duration::from_secs(2);

/// Follows until the store stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut listener: Option<Box<dyn Listener>> = None;
    let mut listen_at = tokio::time::Instant::now();
    let mut pause = BUSY;
    // Notifications that never come although changes do: a pooler in between.
    let mut deaf = false;
    loop {
        if listener.is_none() && tokio::time::Instant::now() >= listen_at {
            listen_at = tokio::time::Instant::now() + RELISTEN;
            match core.until_stop(core.db.listen(schema::CHANNEL)).await {
                None => return,
                Some(Ok(found)) => listener = found,
                Some(Err(error)) => tracing::debug!(%error, "cannot listen for notifications"),
            }
        }
        let wait = if listener.is_some() && !deaf { NOTIFIED } else { pause };
        let Some(notified) = core.until_stop(next(&mut listener, wait)).await else { return };
        if notified {
            deaf = false;
        }
        let before = core.mvcc.applied_index();
        if core.reads.barrier(&core).await.is_err() {
            if !core.sleep(IDLE).await {
                return;
            }
            continue;
        }
        let news = core.mvcc.applied_index() > before;
        if news && !notified && listener.is_some() {
            deaf = true;
        }
        pause = if news { BUSY } else { (pause * 3 / 2).min(IDLE) };
    }
}

/// Waits for a notification: true; or for a time: false.
async fn next(listener: &mut Option<Box<dyn Listener>>, wait: Duration) -> bool {
    let Some(listening) = listener else {
        tokio::time::sleep(wait).await;
        return false;
    };
    match tokio::time::timeout(wait, listening.next()).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "notifications have ended");
            *listener = None;
            false
        }
        Err(_) => false,
    }
}
