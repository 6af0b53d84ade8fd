//! `dump log`: the entries of the log, written out.

use prost::Message;
use skiff_raft::offline::{MemberFiles, dumped};

use super::arguments::Arguments;
use super::output::Output;
use super::source::{Place, lock};
use super::{Problem, json};

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let Place::DataDir(dir) = arguments.place()? else {
        return Err(Problem::Usage("a snapshot holds no log; name a data directory (--data-dir)".to_owned()));
    };
    let (from, to) = (arguments.count("from")? as u64, arguments.count("to")? as u64);
    let _lock = lock(&dir)?;
    let failed = |error: skiff_store::Error| Problem::Failed(error.to_string());
    let files = MemberFiles::open(&dir).map_err(failed)?;
    let there = files.log.range();
    let end = if to == 0 { there.end } else { to.saturating_add(1).min(there.end) };
    let protobuf = arguments.text("format") == "protobuf";
    let mut out = Output::new();
    for index in from.max(there.start)..end {
        let Some(entry) = files.entry(index).map_err(failed)? else { break };
        if protobuf {
            out.write(&dumped(&entry).map_err(failed)?.encode_length_delimited_to_vec())?;
        } else {
            out.line(&json::entry(&entry).map_err(failed)?)?;
        }
    }
    out.end()
}
