//! The page: `docs/etcd-compatibility.md`.

use std::fmt::Write;

use crate::coverage::{Fields, Stand};
use crate::script::{Expectation, Item};

/// A line of a table beside the scripts: what, and how it stands.
pub(crate) type Line = (String, String);

const INTRODUCTION: &str = "\
# What etcd has, and how it stands here

Made by `tests/compatibility`, not by hand: it sends every script of
`tests/compatibility/scripts` to a real etcd 3.5 and to `skiff etcd` and
compares status and answer of each step, member and cluster ids and sizes
apart, and headers that etcd 3.5 leaves empty and are filled here. \"works\" is
written of a call only where every answer was equal. Random sequences are compared by `tests/differential`. `UPDATE_DOCS=1 cargo test --test
compatibility` writes this page anew.
";

/// Writes the page.
pub(crate) fn page(items: &[Item], messages: &Fields, flags: &[Line], metrics: &[Line]) -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut heading = "";
    page.push_str(
        "\n## Calls and paths\n\nThrough the gateway, so that its paths and JSON are compared with them.\n\n",
    );
    page.push_str("| call | what | stands |\n|---|---|---|\n");
    for item in items {
        let shown = if item.heading == heading { "" } else { &item.heading };
        heading = &item.heading;
        // Nothing is to be done about a page that cannot be written to memory.
        let _ = writeln!(page, "| {shown} | {} | {} |", item.name, verdict(&item.expectation));
    }
    fields(&mut page, messages);
    table(&mut page, "Flags", "flag | etcd 3.5", flags);
    table(&mut page, "Metrics", "metric", metrics);
    page
}

fn verdict(expectation: &Expectation) -> String {
    match expectation {
        Expectation::Equal => "works".to_owned(),
        Expectation::Differs(how) => format!("differs: {how}"),
    }
}

fn fields(page: &mut String, messages: &Fields) {
    page.push_str(
        "\n## Fields\n\n\"works\": sent with a value in the scripts above, or seen with one in the answers of both.\n\n\
         | message | works | otherwise |\n|---|---|---|\n",
    );
    for (message, fields) in messages {
        let (mut works, mut otherwise) = (Vec::new(), Vec::new());
        for (name, stand) in fields {
            match stand {
                Stand::Works => works.push(name.clone()),
                Stand::Otherwise(why) => otherwise.push(format!("{name}: {why}")),
            }
        }
        let _ = writeln!(page, "| {message} | {} | {} |", works.join(", "), otherwise.join("; "));
    }
}

fn table(page: &mut String, title: &str, what: &str, lines: &[Line]) {
    let dashes = "---|".repeat(what.split('|').count());
    let _ = writeln!(page, "\n## {title}\n\n| {what} | stands |\n|{dashes}---|");
    for (name, stands) in lines {
        let _ = writeln!(page, "| {name} | {stands} |");
    }
}
