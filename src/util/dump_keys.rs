//! `dump keys`: the key space, written out.

use bytes::Bytes;
use skiff_store::Error;
use skiff_store::mvcc::{Export, KeyRange};

use super::arguments::Arguments;
use super::output::Output;
use super::source::Source;
use super::{Problem, json};

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let export = Export {
        range: with_prefix(arguments.text("prefix").as_bytes()),
        revision: arguments.count("rev")?,
        history: arguments.bool("history"),
    };
    let source = Source::of(arguments)?;
    let state = source.state()?;
    let mut out = Output::new();
    let mut unwritten = None;
    let walked = state.mvcc.export(&export, &mut |version| {
        out.line(&json::version(&version)).map_err(|problem| {
            unwritten = Some(problem);
            Error::Other("the output ended".to_owned())
        })
    });
    match (unwritten, walked) {
        (Some(problem), _) => Err(problem),
        (None, walked) => {
            walked.map_err(|error| source.explain(error))?;
            out.end()
        }
    }
}

/// The range of the keys that begin with a prefix.
fn with_prefix(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return KeyRange::Between(Bytes::copy_from_slice(prefix), end.into());
        }
    }
    KeyRange::From(Bytes::copy_from_slice(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        let range = with_prefix(b"a\xff");
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\xffz"));
        assert!(!range.contains(b"a\xfe") && !range.contains(b"b"));
        assert!(with_prefix(b"").contains(b"") && with_prefix(b"\xff").contains(b"\xff\xff"));
    }
}
