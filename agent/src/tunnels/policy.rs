//! Where servers may have the agent connect to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;
use skiff_tunnel::{Policy, Refusal, RefusalCode, Target};

/// Allows TCP connections to what its rules name, and to nothing else. Clones are the same
/// policy, so that rules may be replaced while tunnels are up.
#[derive(Clone, Debug)]
pub struct NodePolicy {
    rules: Arc<RwLock<Vec<Rule>>>,
}

/// Addresses, and the ports on them that may be connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    network: IpAddr,
    prefix: u8,
    ports: Ports,
}

/// Ports that may be connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ports {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<u16>),
}

impl Rule {
    /// One address.
    #[must_use]
    pub fn address(address: IpAddr, ports: Ports) -> Self {
        let address = address.to_canonical();
        Rule { network: address, prefix: if address.is_ipv4() { 32 } else { 128 }, ports }
    }

    /// Every address that begins with these bits of another. `None` where it has fewer.
    #[must_use]
    pub fn network(network: IpAddr, prefix: u8, ports: Ports) -> Option<Self> {
        let most = if network.is_ipv4() { 32 } else { 128 };
        (prefix <= most).then_some(Rule { network, prefix, ports })
    }

    fn allows(&self, address: SocketAddr) -> bool {
        let ports = match &self.ports {
            Ports::All => true,
            Ports::Only(ports) => ports.contains(&address.port()),
        };
        ports && self.contains(address.ip().to_canonical())
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let rest = bits - u32::from(self.prefix);
            a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0)
        };
        match (self.network, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

impl NodePolicy {
    /// A policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        NodePolicy { rules: Arc::new(RwLock::new(rules)) }
    }

    /// What a node allows: these ports of its own, on loopback and on its addresses.
    #[must_use]
    pub fn of_node(addresses: &[IpAddr], ports: impl IntoIterator<Item = u16>) -> Self {
        let ports = Ports::Only(ports.into_iter().collect());
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let own = loopback.iter().chain(addresses);
        Self::new(own.map(|address| Rule::address(*address, ports.clone())).collect())
    }

    /// Replaces the rules, for connections from now on.
    pub fn set(&self, rules: Vec<Rule>) {
        *self.rules.write() = rules;
    }
}

impl Policy for NodePolicy {
    fn resolve(&self, target: &Target) -> Result<SocketAddr, Refusal> {
        if target.protocol() != Target::TCP {
            return Err(Refusal::new(RefusalCode::Unsupported, "only tcp is known here"));
        }
        // No names: whoever answers for a name would decide what is reached.
        let address: SocketAddr = target
            .address()
            .parse()
            .map_err(|_| Refusal::new(RefusalCode::Unsupported, "an address and a port are needed"))?;
        if !self.rules.read().iter().any(|rule| rule.allows(address)) {
            return Err(Refusal::new(RefusalCode::Forbidden, "the node allows no connections to there"));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(policy: &NodePolicy, address: &str) -> Option<RefusalCode> {
        policy.resolve(&Target::tcp(address).unwrap()).err().map(|refusal| refusal.code())
    }

    #[test]
    fn a_node_allows_its_own_addresses_and_the_ports_named() {
        let policy = NodePolicy::of_node(&["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()], [10250]);
        for address in
            ["127.0.0.1:10250", "[::1]:10250", "10.0.0.5:10250", "[fd00::5]:10250", "[::ffff:10.0.0.5]:10250"]
        {
            assert_eq!(verdict(&policy, address), None, "{address}");
        }
        for address in [
            "127.0.0.1:22",
            "127.0.0.2:10250",
            "10.0.0.6:10250",
            "[fd00::6]:10250",
            "0.0.0.0:10250",
            "[::]:10250",
        ] {
            assert_eq!(verdict(&policy, address), Some(RefusalCode::Forbidden), "{address}");
        }
        for address in ["localhost:10250", "127.0.0.1", "127.1:10250", "x"] {
            assert_eq!(verdict(&policy, address), Some(RefusalCode::Unsupported), "{address}");
        }
        let udp = policy.resolve(&Target::new("udp", "127.0.0.1:10250").unwrap());
        assert_eq!(udp.unwrap_err().code(), RefusalCode::Unsupported);
    }

    #[test]
    fn networks_are_compared_by_their_bits_and_rules_may_change() {
        let policy = NodePolicy::new(Vec::new());
        assert_eq!(verdict(&policy, "10.42.1.9:80"), Some(RefusalCode::Forbidden));
        let pods = Rule::network("10.42.1.0".parse().unwrap(), 24, Ports::All).unwrap();
        let all = Rule::network("fd00::".parse().unwrap(), 0, Ports::All).unwrap();
        policy.clone().set(vec![pods, all]);
        assert_eq!(verdict(&policy, "10.42.1.9:80"), None);
        assert_eq!(verdict(&policy, "10.42.2.9:80"), Some(RefusalCode::Forbidden));
        assert_eq!(verdict(&policy, "[2001:db8::1]:80"), None);
        assert_eq!(Rule::network("10.0.0.0".parse().unwrap(), 33, Ports::All), None);
    }
}
