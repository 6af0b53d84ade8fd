//! Faults on the way between members, for tests.
//!
//! Shared by the transports of several members in one process. Each direction
//! of each pair has its own state, so that one-way partitions can be had too.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What happens to messages in one direction between two members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Messages pass.
    #[default]
    None,
    /// Messages pass after this time.
    Delay(Duration),
    /// Nothing passes; what waits passes when the fault ends. As with a cut
    /// cable: the sender sees only silence.
    Cut,
    /// Messages are refused at once, as by a host without the process.
    Refuse,
}

/// The faults between members.
#[derive(Debug)]
pub struct Faults {
    links: Mutex<HashMap<(u64, u64), Fault>>,
    changed: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { links: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Faults {
    /// Sets the fate of messages from one member to another.
    pub fn set(&self, from: u64, to: u64, fault: Fault) {
        self.links.lock().insert((from, to), fault);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Cuts all links between members of different groups, both ways.
    pub fn partition(&self, groups: &[&[u64]]) {
        let mut links = self.links.lock();
        for (i, group) in groups.iter().enumerate() {
            for other in groups.iter().skip(i + 1).flat_map(|other| other.iter()) {
                for member in group.iter() {
                    links.insert((*member, *other), Fault::Cut);
                    links.insert((*other, *member), Fault::Cut);
                }
            }
        }
        drop(links);
        self.changed.send_modify(|version| *version += 1);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.links.lock().clear();
        self.changed.send_modify(|version| *version += 1);
    }

    /// The state of one direction.
    pub fn get(&self, from: u64, to: u64) -> Fault {
        self.links.lock().get(&(from, to)).copied().unwrap_or_default()
    }

    /// Waits as long as a message needs from one member to another.
    ///
    /// # Errors
    /// [`Refused`] if it is refused.
    pub async fn cross(&self, from: u64, to: u64) -> Result<(), Refused> {
        let mut changed = self.changed.subscribe();
        loop {
            match self.get(from, to) {
                Fault::None => return Ok(()),
                Fault::Refuse => return Err(Refused),
                Fault::Delay(time) => {
                    tokio::time::sleep(time).await;
                    return Ok(());
                }
                // The sender lives in `self`, so this ends only by a change.
                Fault::Cut => drop(changed.changed().await),
            }
        }
    }
}

/// A message was refused by [`Fault::Refuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn cuts_hold_messages_until_healed() {
        let faults = Arc::new(Faults::default());
        faults.partition(&[&[1], &[2, 3]]);
        assert_eq!(faults.get(3, 1), Fault::Cut);
        assert_eq!(faults.cross(2, 3).await, Ok(()));
        let waiting = tokio::spawn({
            let faults = faults.clone();
            async move { faults.cross(1, 2).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        faults.heal();
        assert_eq!(waiting.await.unwrap(), Ok(()));
        faults.set(1, 2, Fault::Refuse);
        assert_eq!(faults.cross(1, 2).await, Err(Refused));
        assert_eq!(faults.cross(2, 1).await, Ok(()));
    }
}
