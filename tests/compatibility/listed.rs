//! Flags and metrics: what is listed of a running server and of its help.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use skiff_test_support::Fault;
use skiff_test_support::http::{self, Asked};

use crate::page::Line;
use crate::side::Side;

/// Names of etcd's flags, of 3.5 and 3.6.
const FLAGS: &str = include_str!("flags.txt");
/// Prefixes of metrics that are meant to be missing or other, and how they stand.
const METRICS: &str = include_str!("metrics.txt");

/// How each of etcd's flags stands: whether the etcd at hand knows it, and what the help of `binary`, which is
/// made from the table that it accepts flags by, says of it.
///
/// # Errors
/// Flags that are not accepted here.
pub(crate) fn flags(etcd: &Path, binary: &str) -> Result<Vec<Line>, Vec<String>> {
    let known = help(Command::new(etcd).arg("--help"));
    let known: Vec<&str> = known.lines().filter_map(flag_of).collect();
    assert!(known.len() > 50, "etcd's help is not understood: {known:?}");
    let accepted = help(Command::new(binary).args(["etcd", "--help"]));
    let mut stands: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = accepted.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(name) = flag_of(line) else { continue };
        let sentence = lines.peek().copied().unwrap_or_default();
        stands.insert(name, judge(sentence));
        if let Some((_, other)) = sentence.split_once("(also --") {
            let other = other.split(')').next().unwrap_or_default();
            stands.insert(other, format!("works (as `--{name}`)"));
        }
    }
    let mut missing = Vec::new();
    let mut table = Vec::new();
    let listed: Vec<&str> = FLAGS.split_whitespace().collect();
    let others = known.iter().copied().filter(|name| !listed.contains(name));
    let others: BTreeSet<&str> = others.collect();
    for name in listed.iter().copied().chain(others) {
        let etcd = if known.contains(&name) { "known" } else { "not known" };
        match stands.get(name) {
            Some(stands) => table.push((format!("`--{name}` | {etcd}"), stands.clone())),
            None => missing.push(name.to_owned()),
        }
    }
    if missing.is_empty() { Ok(table) } else { Err(missing) }
}

fn help(command: &mut Command) -> String {
    let output = command.output().expect("the binary runs");
    // Go's flag package tells on standard error.
    [output.stdout, output.stderr].iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// The flag that a line of a help is about.
fn flag_of(line: &str) -> Option<&str> {
    line.strip_prefix("  --")?.split([' ', '=']).next()
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
    let asked = Asked { path: "/metrics".to_owned(), ..Asked::post("", "") }.method("GET");
    let answer = http::ask(&side.member.address(), &asked).await?;
    let text = String::from_utf8_lossy(&answer.body);
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
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
    let mut table: Vec<Line> =
        absent.iter().map(|(prefix, why)| (format!("`{prefix}*`"), (*why).to_owned())).collect();
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
