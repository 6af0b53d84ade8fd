//! Settings that must be the same on every server.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of the agents' token among the settings, where its hash stands.
const AGENT_TOKEN: &str = "agent-token";

/// The settings, by the names of their flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

/// A setting that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its flag.
    pub flag: String,
    /// What this server has.
    pub ours: String,
    /// What the cluster has.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flag == AGENT_TOKEN {
            return write!(f, "--{AGENT_TOKEN} is not the cluster's");
        }
        write!(f, "--{} is {:?} here and {:?} in the cluster", self.flag, self.ours, self.theirs)
    }
}

impl Settings {
    /// Adds one.
    pub fn set(&mut self, flag: &str, value: &str) {
        self.0.insert(flag.to_owned(), value.to_owned());
    }

    /// Adds one whose order does not count.
    pub fn set_list(&mut self, flag: &str, values: &[String]) {
        let mut sorted = values.to_vec();
        sorted.sort();
        sorted.dedup();
        self.set(flag, &sorted.join(","));
    }

    /// Adds what stands for the agents' token.
    pub fn set_agent_token(&mut self, token: Option<&str>) {
        match token {
            Some(token) => {
                let digest = Sha256::digest(format!("skiff agent token {token}"));
                self.set(AGENT_TOKEN, &digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            }
            None => {
                self.0.remove(AGENT_TOKEN);
            }
        }
    }

    /// What is not the same in a cluster of these settings. Who brings no agents'
    /// token takes over the cluster's; what only one of both versions knows is not
    /// compared.
    #[must_use]
    pub fn differences(&self, cluster: &Settings) -> Vec<Difference> {
        let both = self.0.iter().filter_map(|(flag, ours)| Some((flag, ours, cluster.0.get(flag)?)));
        both.filter(|(_, ours, theirs)| ours != theirs)
            .map(|(flag, ours, theirs)| Difference {
                flag: flag.clone(),
                ours: ours.clone(),
                theirs: theirs.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_and_secrets_are_not_shown() {
        let mut ours = Settings::default();
        ours.set("cluster-domain", "a.local");
        ours.set_list("disable", &["b".into(), "a".into(), "a".into()]);
        let mut theirs = ours.clone();
        theirs.set("of-a-later-version", "x");
        theirs.set_list("disable", &["a".into(), "b".into()]);
        assert!(ours.differences(&theirs).is_empty());
        theirs.set("cluster-domain", "b.local");
        theirs.set_agent_token(Some("hush"));
        assert_eq!(ours.differences(&theirs).len(), 1, "no agents' token was given here");
        ours.set_agent_token(Some("other"));
        let shown: Vec<String> = ours.differences(&theirs).iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], "--agent-token is not the cluster's");
        assert_eq!(shown[1], "--cluster-domain is \"a.local\" here and \"b.local\" in the cluster");
        ours.set_agent_token(Some("hush"));
        assert_eq!(ours.differences(&theirs).len(), 1);
    }
}
