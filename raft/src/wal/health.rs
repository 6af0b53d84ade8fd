use std::io;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Whether the log can take writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Writes are being made durable.
    #[default]
    Ok,
    /// There is no room for another segment. Up to a segment's worth of writes
    /// may still succeed, enough to replicate an alarm; after that they wait
    /// until there is room again.
    DiskFull,
    /// Writes fail and are being tried again on other parts of the disk.
    Failing,
}

/// Who reports on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reporter {
    Writer,
    Spares,
}

/// Collects what the log's threads see and publishes the worst of it.
pub(super) struct HealthBoard {
    reports: Mutex<[Health; 2]>,
    publish: watch::Sender<Health>,
}

impl HealthBoard {
    pub(super) fn new() -> Self {
        Self { reports: Mutex::default(), publish: watch::Sender::new(Health::Ok) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Health> {
        self.publish.subscribe()
    }

    pub(super) fn report(&self, reporter: Reporter, health: Health) {
        let mut reports = self.reports.lock();
        reports[reporter as usize] = health;
        let worst = if reports.contains(&Health::DiskFull) {
            Health::DiskFull
        } else if reports.contains(&Health::Failing) {
            Health::Failing
        } else {
            Health::Ok
        };
        self.publish.send_if_modified(|current| std::mem::replace(current, worst) != worst);
    }
}

/// The health an error stands for.
pub(crate) fn health_of(error: &io::Error) -> Health {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Health::DiskFull,
        _ => Health::Failing,
    }
}
