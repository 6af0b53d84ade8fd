//! Few requests at a time: the datastore and the processor are others' too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Requests that are worked on at a time.
const AT_A_TIME: usize = 16;
/// Requests that wait.
const WAITING: usize = 512;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets few pass at a time, in the order they came.
pub(super) struct Throttle {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { slots: Arc::new(Semaphore::new(AT_A_TIME)), waiting: AtomicUsize::new(0) }
    }
}

/// Counts who waits, however the wait ends.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Throttle {
    /// Waits for a turn, which lasts until the answer is dropped.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiting);
        if before >= WAITING {
            return Err(Refusal::too_many());
        }
        match tokio::time::timeout(PATIENCE, self.slots.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::too_many()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_pass_some_wait_and_the_rest_are_sent_away() {
        let throttle = Throttle::default();
        let mut held = Vec::new();
        for _ in 0..AT_A_TIME {
            held.push(throttle.enter().await.unwrap());
        }
        assert!(throttle.enter().await.is_err(), "time is over");
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let mut wait = Box::pin(throttle.enter());
            assert!(futures_poll(&mut wait).is_none());
            waiting.push(wait);
        }
        assert!(throttle.enter().await.is_err(), "too many wait");
        held.clear();
        assert!(waiting.remove(0).await.is_ok());
        drop(waiting);
        assert!(throttle.enter().await.is_ok());
    }

    /// Polls once.
    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
