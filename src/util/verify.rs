//! `verify`: reads everything and says where it is damaged.

use std::path::Path;

use serde_json::{Map, Value, json};
use skiff_raft::offline::MemberFiles;
use skiff_raft::types::Payload;
use skiff_store::mvcc::{IndexFile, audit};

use super::Problem;
use super::arguments::Arguments;
use super::output;
use super::source::{Place, Source};
use super::status::hex;

/// What was found whole, in order.
#[derive(Default)]
struct Report(Vec<(&'static str, String)>);

impl Report {
    fn ok(&mut self, what: &'static str, text: String) {
        self.0.push((what, text));
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let place = arguments.place()?;
    let mut report = Report::default();
    let damage = check(&place, arguments, &mut report).err();
    let mut answer = Map::new();
    answer.insert("path".into(), place.path().display().to_string().into());
    answer.insert("verified".into(), damage.is_none().into());
    let checked = report.0.iter().map(|(what, text)| json!({"what": what, "found": text}));
    answer.insert("checked".into(), checked.collect());
    answer.insert("problem".into(), damage.clone().map_or(Value::Null, Value::from));
    let mut simple: String = report.0.iter().map(|(what, text)| format!("ok  {what:<10} {text}\n")).collect();
    if damage.is_none() {
        simple.push_str(&format!("{}: everything is whole\n", place.path().display()));
    }
    output::answer(arguments, &answer, &simple, &[])?;
    damage.map_or(Ok(()), |damage| Err(Problem::Failed(damage)))
}

fn check(place: &Place, arguments: &Arguments, report: &mut Report) -> Result<(), String> {
    let source = Source::open(place, arguments)?;
    if let Some(files) = &source.files {
        check_files(files, report).map_err(|error| source.explain(error))?;
    } else {
        report.ok("snapshot", "its checksum fits".to_owned());
    }
    source.engine.verify().map_err(|error| source.explain(error))?;
    report.ok("tables", format!("{} bytes", source.size));
    let index = source.files.as_ref().map(|files| files.index.as_path());
    check_store(&source, index, report)?;
    let state = source.state()?;
    let applied = |id: Option<skiff_raft::types::LogId>| id.map_or(0, |id| id.index);
    if source.files.is_some() {
        report.ok(
            "state",
            format!(
                "log entry {} is in the tables, {} with the log",
                applied(state.on_disk),
                applied(state.applied)
            ),
        );
    }
    Ok(())
}

fn check_files(files: &MemberFiles, report: &mut Report) -> Result<(), skiff_store::Error> {
    let metadata = &files.metadata;
    report.ok(
        "metadata",
        format!("member {} of cluster {}", hex(metadata.member_id), hex(metadata.cluster_id)),
    );
    files.vote()?;
    let range = files.log.range();
    for index in range.clone() {
        if let Some(entry) = files.entry(index)?
            && let Payload::Normal(proposal) = &entry.payload
        {
            proposal
                .commands()
                .map_err(|error| skiff_store::Error::Corruption(format!("log entry {index}: {error}")))?;
        }
    }
    let entries = match range.end.checked_sub(1) {
        Some(last) if !range.is_empty() => format!("entries {} to {last}", range.start),
        _ => "no entries".to_owned(),
    };
    report.ok("log", format!("{} segments, {entries}", files.log.segments()));
    Ok(())
}

fn check_store(source: &Source, index: Option<&Path>, report: &mut Report) -> Result<(), String> {
    let audit = audit(source.engine.as_ref(), index).map_err(|error| {
        // A table's file is named by its checksum; a contradiction by its row.
        let text = source.explain(error);
        match &source.files {
            Some(files)
                if !text.contains('/') || text.contains(" row ") || text.contains("column family") =>
            {
                format!("{}: {text}", files.state.display())
            }
            _ => text,
        }
    })?;
    report.ok(
        "store",
        format!(
            "revision {}, compacted at {}; {} keys, {} versions, {} changes, {} leases agree",
            audit.revision, audit.compact_revision, audit.keys, audit.versions, audit.events, audit.leases
        ),
    );
    let index = match audit.index_file {
        IndexFile::Absent => "there is none (the next start makes it)",
        IndexFile::Unused => "whole, but not of this state (the next start makes it again)",
        IndexFile::Agrees => "agrees with the keys",
    };
    report.ok("index file", index.to_owned());
    Ok(())
}
