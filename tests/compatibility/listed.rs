//! Flags and metrics: what is listed of a running server and of its help.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use skiff_test_support::Fault;

use crate::page::Line;
use crate::side::Side;
use crate::web;

/// Names of etcd's flags, of 3.5 and 3.6.
const FLAGS: &str = include_str!("flags.txt");
/// Prefixes of metrics that are meant to be missing or other, and how they stand.
const METRICS: &str = include_str!("metrics.txt");

/// How each of etcd's flags stands, from the help of `binary`.
///
/// # Errors
/// Flags that the help does not have.
pub(crate) fn flags(binary: &str) -> Result<Vec<Line>, Vec<String>> {
    let output = Command::new(binary).args(["etcd", "--help"]).output().expect("the binary runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut stands: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = help.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("  --").and_then(|rest| rest.split(' ').next()) else { continue };
        stands.insert(name, judge(lines.peek().copied().unwrap_or_default()));
    }
    let mut missing = Vec::new();
    let mut table = Vec::new();
    for name in FLAGS.split_whitespace() {
        match stands.get(name) {
            Some(stands) => table.push((format!("`--{name}`"), stands.clone())),
            None => missing.push(name.to_owned()),
        }
    }
    if missing.is_empty() { Ok(table) } else { Err(missing) }
}

/// Reads a flag's sentence of the help.
fn judge(sentence: &str) -> String {
    for (mark, verdict) in [("No effect: ", "not applicable"), ("Refused: ", "differs: refused")] {
        if let Some((_, why)) = sentence.split_once(mark) {
            let why = why.split(". ").next().unwrap_or(why).split(" (default").next().unwrap_or(why);
            return format!("{verdict} ({})", why.trim_end_matches('.'));
        }
    }
    // Those without a meaning say why in the place of what they do.
    if sentence.trim().starts_with(char::is_lowercase) {
        let why = sentence.trim().split(" (default").next().unwrap_or_default();
        return format!("not applicable ({})", why.trim_end_matches('.'));
    }
    "works".to_owned()
}

/// Families of metrics with the names of their labels.
async fn families(side: &Side) -> Result<BTreeMap<String, BTreeSet<String>>, Fault> {
    let answer = web::send(&side.member.address(), "GET", "/metrics", None, String::new(), None).await?;
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap_or_default().to_owned();
            families.entry(family.clone()).or_default();
        } else if let (Some(labels), Some(known)) = (labels(line), families.get_mut(&family)) {
            known.extend(labels);
        }
    }
    Ok(families)
}

fn labels(line: &str) -> Option<Vec<String>> {
    let (_, rest) = line.split_once('{')?;
    let (labels, _) = rest.rsplit_once('}')?;
    let names =
        labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
    Some(names.collect())
}

/// How each metric that the real etcd exports stands.
///
/// # Errors
/// Metrics that are missing, or have other labels, without a reason.
pub(crate) async fn metrics(oracle: &Side, subject: &Side) -> Result<Result<Vec<Line>, Vec<String>>, Fault> {
    let (expected, found) = (families(oracle).await?, families(subject).await?);
    let absent: Vec<(&str, &str)> = METRICS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" | "))
        .collect();
    let mut missing = Vec::new();
    let mut table: Vec<Line> = absent
        .iter()
        .map(|(prefix, why)| (format!("`{prefix}*`"), format!("not applicable ({why})")))
        .collect();
    for (name, labels) in &expected {
        if absent.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        match found.get(name) {
            Some(known) if labels.is_subset(known) => table.push((format!("`{name}`"), "works".to_owned())),
            Some(known) => missing.push(format!("{name} has labels {known:?}, not {labels:?}")),
            None => missing.push(name.clone()),
        }
    }
    table.sort();
    Ok(if missing.is_empty() { Ok(table) } else { Err(missing) })
}
