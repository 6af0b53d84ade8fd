//! The endpoints, and which of them a call goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoint;
use super::link::{Link, Readiness, Sender};
use super::options::Options;

/// All endpoints. Their connections end with it.
pub(super) struct Pool {
    links: Vec<Arc<Link>>,
    next: AtomicUsize,
    changed: Arc<Notify>,
    options: Arc<Options>,
    _tasks: JoinSet<()>,
}

/// An endpoint chosen for a call.
pub(super) struct Choice {
    pub(super) link: Arc<Link>,
    pub(super) sender: Sender,
    /// The connection's number, for [`Link::retire`].
    pub(super) number: u64,
}

impl Pool {
    pub(super) fn start(endpoints: Vec<Endpoint>, options: Arc<Options>) -> Self {
        let changed = Arc::new(Notify::new());
        let links: Vec<_> =
            endpoints.into_iter().map(|endpoint| Arc::new(Link::new(endpoint, changed.clone()))).collect();
        let mut tasks = JoinSet::new();
        for link in &links {
            tasks.spawn(Arc::clone(link).run(options.clone()));
        }
        Pool { links, next: AtomicUsize::new(0), changed, options, _tasks: tasks }
    }

    /// All links, the next one in turn first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &Arc<Link>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.links.len();
        (0..count).filter_map(move |step| self.links.get(first.wrapping_add(step) % count))
    }

    /// True if an endpoint is up.
    pub(super) fn healthy(&self) -> bool {
        self.links.iter().any(|link| matches!(link.readiness(), Readiness::Up(..)))
    }

    /// Waits until an endpoint is up, or none is and none may be soon.
    pub(super) async fn settled(&self) -> bool {
        self.pick(&[]).await.is_ok()
    }

    /// The next endpoint in turn that is up and not among `tried`. Waits for
    /// those that are just being connected, for a bounded time.
    ///
    /// # Errors
    /// Every endpoint with its last error.
    pub(super) async fn pick(&self, tried: &[(String, String)]) -> Result<Choice, String> {
        let deadline = Instant::now() + self.options.connect_timeout;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut connecting = false;
            for link in self.in_turn() {
                if tried.iter().any(|(name, _)| *name == link.name) {
                    continue;
                }
                match link.readiness() {
                    Readiness::Up(sender, number) => {
                        return Ok(Choice { link: Arc::clone(link), sender, number });
                    }
                    Readiness::Connecting => connecting = true,
                    Readiness::Down(_) => {}
                }
            }
            if !connecting || timeout_at(deadline, changed).await.is_err() {
                return Err(self.errors(tried));
            }
        }
    }

    fn errors(&self, tried: &[(String, String)]) -> String {
        let error = |link: &Arc<Link>| match tried.iter().find(|(name, _)| *name == link.name) {
            Some((_, error)) => error.clone(),
            None => match link.readiness() {
                Readiness::Down(error) => error,
                _ => "not connected yet".to_owned(),
            },
        };
        let errors: Vec<_> =
            self.links.iter().map(|link| format!("{}: {}", link.name, error(link))).collect();
        errors.join("; ")
    }
}
