//! Which server is tried next, and what their health is.

use std::sync::Arc;

use tokio::sync::watch;

use crate::address::ServerAddress;

/// A server's health.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Health {
    /// It answers.
    Healthy,
    /// It failed and answers again, not often enough yet to be healthy.
    Recovering,
    /// It was never tried.
    Unknown,
    /// It did not answer, or is reported as down. Tried only when all are.
    Failed,
}

/// What somebody who talks to a server found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// It is there.
    Up,
    /// It is not, and why. Holds until it is reported up again: a server that hangs takes
    /// connections all the same.
    Down(String),
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: ServerAddress,
    /// In the list; the seed need not be.
    pub(super) listed: bool,
    pub(super) health: Health,
    pub(super) last_error: Option<String>,
    pub(super) failures: u64,
    /// Reported as down.
    down: bool,
    answers: u32,
    /// Connections to it are closed when this changes, or is dropped.
    close: watch::Sender<()>,
}

/// All servers; the seed is the first.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
    active: Option<ServerAddress>,
    recover_after: u32,
}

impl Server {
    fn new(address: ServerAddress, listed: bool) -> Self {
        Server {
            address,
            listed,
            health: Health::Unknown,
            last_error: None,
            failures: 0,
            down: false,
            answers: 0,
            close: watch::Sender::new(()),
        }
    }

    fn failed(&mut self, why: String) {
        let was = std::mem::replace(&mut self.health, Health::Failed);
        self.failures += 1;
        self.answers = 0;
        if was != Health::Failed {
            tracing::warn!(server = %self.address, error = %why, "a server failed; its connections are closed");
            self.close.send_replace(());
        }
        self.last_error = Some(why);
    }

    fn answered(&mut self, recover_after: u32) {
        self.answers = self.answers.saturating_add(1);
        let health = match self.health {
            _ if self.down => return,
            Health::Healthy | Health::Unknown => Health::Healthy,
            Health::Failed | Health::Recovering if self.answers >= recover_after => Health::Healthy,
            Health::Failed | Health::Recovering => Health::Recovering,
        };
        if health == Health::Healthy && self.health == Health::Recovering {
            tracing::info!(server = %self.address, "a server is healthy again");
        }
        self.health = health;
    }

    /// The lower, the sooner it is tried.
    fn rank(&self) -> (bool, bool, Health) {
        (self.health == Health::Failed, !self.listed, self.health)
    }
}

impl Servers {
    pub(super) fn new(seed: ServerAddress, known: Vec<ServerAddress>, recover_after: u32) -> Self {
        let mut servers = Servers { servers: vec![Server::new(seed, false)], active: None, recover_after };
        servers.set(known);
        servers
    }

    /// The list; the seed alone where none is known.
    pub(super) fn list(&self) -> Arc<[ServerAddress]> {
        let listed: Vec<_> = self.servers.iter().filter(|s| s.listed).map(|s| s.address.clone()).collect();
        if listed.is_empty() {
            self.servers.iter().map(|s| s.address.clone()).collect()
        } else {
            listed.into()
        }
    }

    /// Replaces the list; true if it is another one.
    pub(super) fn set(&mut self, list: Vec<ServerAddress>) -> bool {
        if list.is_empty() {
            return false;
        }
        let before = self.list();
        let seed = self.servers.first().map(|seed| seed.address.clone());
        self.servers
            .retain(|server| list.contains(&server.address) || Some(&server.address) == seed.as_ref());
        for server in &mut self.servers {
            server.listed = list.contains(&server.address);
        }
        for address in list {
            if self.get(&address).is_none() {
                self.servers.push(Server::new(address, true));
            }
        }
        if self.active().is_none_or(|active| !active.listed) {
            self.active = None;
        }
        before != self.list()
    }

    /// In the order in which they are to be tried: the active one, then by health, failed
    /// ones last.
    pub(super) fn candidates(&self) -> Vec<ServerAddress> {
        let mut order: Vec<&Server> = self.servers.iter().collect();
        let active = |server: &Server| {
            server.health != Health::Failed && self.active.as_ref() == Some(&server.address)
        };
        order.sort_by_key(|server| (!active(server), server.rank()));
        order.into_iter().map(|server| server.address.clone()).collect()
    }

    /// Those whose health is to be looked at.
    pub(super) fn doubtful(&self) -> Vec<ServerAddress> {
        let doubtful = |server: &&Server| server.health != Health::Healthy && !server.down;
        self.servers.iter().filter(doubtful).map(|server| server.address.clone()).collect()
    }

    /// A connection is about to be made: what closes it. `None` if there is no such server.
    pub(super) fn closer(&self, address: &ServerAddress) -> Option<watch::Receiver<()>> {
        self.get(address).map(|server| server.close.subscribe())
    }

    /// A server took a client's connection.
    pub(super) fn connected(&mut self, address: &ServerAddress) {
        self.answered(address);
        let failed = self.get(address).is_none_or(|server| server.health == Health::Failed);
        if !failed && self.active.as_ref() != Some(address) && self.candidates().first() == Some(address) {
            tracing::info!(server = %address, "connections go to this server now");
            self.active = Some(address.clone());
        }
    }

    /// A server answered.
    pub(super) fn answered(&mut self, address: &ServerAddress) {
        let recover_after = self.recover_after;
        if let Some(server) = self.get_mut(address) {
            server.answered(recover_after);
        }
    }

    /// A server did not answer.
    pub(super) fn failed(&mut self, address: &ServerAddress, why: String) {
        if let Some(server) = self.get_mut(address) {
            server.failed(why);
        }
    }

    pub(super) fn reported(&mut self, address: &ServerAddress, report: Report) {
        let Some(server) = self.get_mut(address) else { return };
        match report {
            Report::Up => {
                server.down = false;
                server.health = Health::Healthy;
            }
            Report::Down(why) => {
                server.down = true;
                server.failed(why);
            }
        }
    }

    /// The one that connections go to.
    pub(super) fn active(&self) -> Option<&Server> {
        self.active
            .as_ref()
            .and_then(|active| self.get(active))
            .filter(|server| server.health != Health::Failed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter()
    }

    fn get(&self, address: &ServerAddress) -> Option<&Server> {
        self.servers.iter().find(|server| server.address == *address)
    }

    fn get_mut(&mut self, address: &ServerAddress) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.address == *address)
    }
}

impl Server {
    /// How many connections lead to it.
    pub(super) fn connections(&self) -> usize {
        self.close.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> ServerAddress {
        format!("{name}:6443").parse().unwrap()
    }

    fn list(names: &str) -> Vec<ServerAddress> {
        names.chars().map(|name| address(&name.to_string())).collect()
    }

    fn order(servers: &Servers) -> String {
        servers.candidates().iter().map(ServerAddress::host).collect()
    }

    fn failed(servers: &mut Servers, name: &str) {
        servers.failed(&address(name), "refused".to_owned());
    }

    #[test]
    fn the_active_one_stays_while_it_is_well() {
        let mut servers = Servers::new(address("a"), list("abc"), 3);
        assert_eq!((order(&servers).as_str(), servers.active().is_none()), ("abc", true));
        servers.connected(&address("a"));
        servers.answered(&address("c"));
        failed(&mut servers, "a");
        assert_eq!(order(&servers), "cba", "healthy, unknown, failed");
        servers.connected(&address("c"));
        servers.reported(&address("a"), Report::Up);
        assert_eq!(order(&servers), "cab", "it does not go back");
    }

    #[test]
    fn a_failed_one_must_answer_a_few_times() {
        let mut servers = Servers::new(address("a"), list("ab"), 3);
        failed(&mut servers, "a");
        for (answers, health) in [(1, Health::Recovering), (2, Health::Recovering), (3, Health::Healthy)] {
            servers.answered(&address("a"));
            assert_eq!(servers.get(&address("a")).unwrap().health, health, "{answers}");
        }
        failed(&mut servers, "a");
        servers.answered(&address("a"));
        failed(&mut servers, "a");
        servers.answered(&address("a"));
        assert_eq!(servers.get(&address("a")).unwrap().health, Health::Recovering, "counted anew");
    }

    #[test]
    fn a_report_of_being_down_outweighs_an_open_port() {
        let mut servers = Servers::new(address("a"), list("ab"), 1);
        servers.reported(&address("a"), Report::Down("silent".to_owned()));
        for _ in 0..5 {
            servers.connected(&address("a"));
        }
        assert_eq!(order(&servers), "ba");
        assert_eq!(servers.doubtful(), list("b"));
        servers.reported(&address("a"), Report::Up);
        assert_eq!(order(&servers), "ab");
    }

    #[test]
    fn a_seed_that_is_not_listed_is_a_last_resort() {
        let mut servers = Servers::new(address("v"), Vec::new(), 3);
        assert_eq!(&*servers.list(), list("v"));
        servers.connected(&address("v"));
        assert!(servers.set(list("ab")));
        assert_eq!((order(&servers).as_str(), &*servers.list()), ("abv", &*list("ab")));
        failed(&mut servers, "a");
        failed(&mut servers, "b");
        assert_eq!(order(&servers), "vab");
        assert!(!servers.set(Vec::new()), "an empty list is no list");
        assert!(!servers.set(list("ab")), "nothing changed");
    }

    #[test]
    fn connections_are_closed_once_when_a_server_fails_or_goes() {
        let mut servers = Servers::new(address("a"), list("ab"), 3);
        let mut a = servers.closer(&address("a")).unwrap();
        let b = servers.closer(&address("b")).unwrap();
        failed(&mut servers, "a");
        assert!(a.has_changed().unwrap());
        a.mark_unchanged();
        failed(&mut servers, "a");
        assert!(!a.has_changed().unwrap(), "those that try a failed server are not disturbed");
        servers.set(list("ac"));
        assert!(b.has_changed().is_err(), "its sender is gone");
        assert!(servers.closer(&address("b")).is_none());
    }
}
