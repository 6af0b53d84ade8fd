//! Tasks of the store that end although they should not: a fault of ours, that
//! must not go unseen.
//!
//! One that can begin again does. One that others wait for, whose queue is gone
//! with it, takes the store out of service: better no answer than none for ever.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use skiff_store::Error;

use super::Core;

/// Pause before a task begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a task; where it ends before the store stops, the store does not serve
/// any more.
pub(crate) async fn vital(core: Arc<Core>, name: &'static str, task: impl Future<Output = ()>) {
    let ended = AssertUnwindSafe(task).catch_unwind().await;
    if let Some(reason) = unexpected(&core, ended) {
        core.contact.fail(Error::Unavailable(format!(
            "the store's {name} ended ({reason}): restart this server, and report this"
        )));
    }
}

/// Runs a task, again and again where it ends before the store stops.
pub(crate) async fn again<T: Future<Output = ()>>(
    core: Arc<Core>,
    name: &'static str,
    mut task: impl FnMut(Arc<Core>) -> T,
) {
    loop {
        let ended = AssertUnwindSafe(task(core.clone())).catch_unwind().await;
        let Some(reason) = unexpected(&core, ended) else { return };
        tracing::error!(task = name, reason, "a task of the store ended; starting it again");
        if !core.sleep(PAUSE).await {
            return;
        }
    }
}

/// Why a task ended; `None` where it was to.
fn unexpected(core: &Core, ended: Result<(), Box<dyn Any + Send>>) -> Option<String> {
    match ended {
        Ok(()) if *core.stop.borrow() => None,
        Ok(()) => Some("without a reason".to_owned()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Some(format!("a panic: {}", text.unwrap_or_default()))
        }
    }
}
