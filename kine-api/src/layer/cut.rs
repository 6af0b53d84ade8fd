//! Ends streams from the server's side.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use skiff_store::NodeError;
use tokio::sync::watch;
use tonic::Status;

use crate::metrics;
use crate::to_status;

/// Election timeouts without a leader after which streams that ask for one are
/// cut. Reconnecting costs more than a refused request, so it is not done at once.
const TIMEOUTS_WITHOUT_LEADER: u32 = 3;

/// What may end streams.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    stopping: bool,
    /// Times the member was found without a leader for too long.
    leader_losses: u64,
}

/// Becomes ready when a stream must end, with the status to end it with.
pub(super) type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Tells streams when they must end.
#[derive(Clone)]
pub(crate) struct Cutter(watch::Receiver<State>);

impl Cutter {
    /// Starts to watch the leader and the shutdown signal, on the current
    /// runtime, until that signal comes.
    pub(crate) fn start(
        leader: watch::Receiver<u64>,
        shutdown: watch::Receiver<bool>,
        election_timeout: Duration,
    ) -> Self {
        let (sender, receiver) = watch::channel(State::default());
        tokio::spawn(observe(sender, leader, shutdown, election_timeout));
        Self(receiver)
    }

    /// The end of one stream.
    pub(super) fn cut(&self, requires_leader: bool) -> Cut {
        let mut state = self.0.clone();
        let losses = state.borrow().leader_losses;
        Box::pin(async move {
            let must_end = |s: &State| s.stopping || (requires_leader && s.leader_losses != losses);
            match state.wait_for(must_end).await {
                Ok(state) if !state.stopping => to_status(NodeError::NoLeader),
                _ => to_status(NodeError::Stopped),
            }
        })
    }
}

/// Publishes what may end streams, until the member stops.
async fn observe(
    sender: watch::Sender<State>,
    mut leader: watch::Receiver<u64>,
    mut shutdown: watch::Receiver<bool>,
    election_timeout: Duration,
) {
    let mut ticks = tokio::time::interval(election_timeout.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut without_leader = 0;
    let mut leader_known = true;
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|stopping| *stopping) => {
                sender.send_modify(|state| state.stopping = true);
                return;
            }
            changed = leader.changed(), if leader_known => match changed {
                Ok(()) if *leader.borrow_and_update() != 0 => metrics::LEADER_CHANGES.inc(),
                Ok(()) => {}
                Err(_) => leader_known = false,
            },
            _ = ticks.tick() => {
                without_leader = if *leader.borrow() == 0 { without_leader + 1 } else { 0 };
                if without_leader == TIMEOUTS_WITHOUT_LEADER {
                    sender.send_modify(|state| state.leader_losses += 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_lost_leader_cuts_only_those_who_ask() {
        let (leader, leader_seen) = watch::channel(1);
        let (_shutdown, stopping) = watch::channel(false);
        let cutter = Cutter::start(leader_seen, stopping, Duration::from_secs(1));
        let asking = cutter.cut(true);
        let mut other = cutter.cut(false);
        leader.send_replace(0);
        let begun = tokio::time::Instant::now();
        let status = asking.await;
        assert_eq!(status.message(), "etcdserver: no leader");
        assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() <= Duration::from_secs(4));
        assert!((&mut other).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_loss_cuts_nothing() {
        let (leader, leader_seen) = watch::channel(1);
        let (_shutdown, stopping) = watch::channel(false);
        let cutter = Cutter::start(leader_seen, stopping, Duration::from_secs(1));
        let mut asking = cutter.cut(true);
        leader.send_replace(0);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        leader.send_replace(2);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((&mut asking).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_stop_cuts_all() {
        let (_leader, leader_seen) = watch::channel(1);
        let (shutdown, stopping) = watch::channel(false);
        let cutter = Cutter::start(leader_seen, stopping, Duration::from_secs(1));
        shutdown.send_replace(true);
        assert_eq!(cutter.cut(false).await.message(), "etcdserver: server stopped");
    }
}
