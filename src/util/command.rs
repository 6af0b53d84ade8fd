//! The tools: the one table from which they are run and explained.

use super::arguments::{Arguments, Flag};
use super::{Problem, defrag, dump_keys, dump_log, export, hashkv, help, output, restore, status, verify};
use crate::cli::flag::Kind;
use crate::cli::nearest;

/// A tool.
pub(super) struct Command {
    /// How it is called: one or two words.
    pub(super) name: &'static str,
    /// What comes behind its name.
    pub(super) usage: &'static str,
    /// What it does, in one line.
    pub(super) summary: &'static str,
    /// What else there is to know.
    pub(super) more: &'static str,
    pub(super) flags: &'static [&'static Flag],
    pub(super) run: fn(&Arguments) -> Result<(), Problem>,
}

/// What a command line asks for.
pub(super) enum Chosen {
    /// A page to print.
    Help(String),
    /// A tool to run.
    Run(&'static Command, Arguments),
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, default, help }
}

const DATA_DIR: Flag = flag("data-dir", Kind::Text, "", "Data directory of a member that does not run.");
const SCRATCH: Flag = flag(
    "scratch-dir",
    Kind::Text,
    "",
    "Where to put temporary files; the system's place for them if not given. A snapshot needs its own \
     size there, a data directory little.",
);
const WRITE_OUT: Flag = Flag {
    short: Some("w"),
    ..flag(
        "write-out",
        Kind::Choice(&["simple", "json", "table", "fields"]),
        "simple",
        "Format of the output.",
    )
};
const REV: Flag = flag("rev", Kind::Int, "0", "Revision; 0 for the newest.");
const FROM: Flag = flag("from", Kind::Int, "0", "Index of the first entry.");
const TO: Flag = flag("to", Kind::Int, "0", "Index of the last entry; 0 for all.");
const LOG_FORMAT: Flag = flag("format", Kind::Choice(&["json", "protobuf"]), "json", "Form of the entries.");
const PREFIX: Flag = flag("prefix", Kind::Text, "", "Only keys that begin like this.");
const HISTORY: Flag =
    flag("history", Kind::Bool, "false", "Every version kept, newest first within a key, and deletions.");
const NAME: Flag = flag("name", Kind::Text, "default", "Name of this member.");
const CLUSTER: Flag = flag(
    "initial-cluster",
    Kind::Text,
    "default=http://localhost:2380",
    "Members of the new cluster (name=peer-url,...), the same for each of them.",
);
const TOKEN: Flag = flag(
    "initial-cluster-token",
    Kind::Text,
    "etcd-cluster",
    "Tells the new cluster from others of equal members: choose one the old cluster did not have.",
);
const PEER_URLS: Flag = flag(
    "initial-advertise-peer-urls",
    Kind::Text,
    "http://localhost:2380",
    "URLs this member's peers reach it by.",
);
const SKIP_HASH: Flag = flag(
    "skip-hash-check",
    Kind::Bool,
    "false",
    "Take a snapshot whose checksum is wrong or, of etcd's, missing.",
);
const BUMP: Flag =
    flag("bump-revision", Kind::Int, "0", "Raise the revision by this much (with --mark-compacted).");
const MARK: Flag = flag(
    "mark-compacted",
    Kind::Bool,
    "false",
    "Mark all revisions up to the raised one as compacted, so that watches from before end (with --bump-revision).",
);
const WAL_DIR: Flag = flag(
    "wal-dir",
    Kind::Text,
    "",
    "Refused: a restored log lies in the data directory; move it afterwards and start with --wal-dir.",
);
const RESTORED_DIR: Flag = flag("data-dir", Kind::Text, "", "Directory to make; ${name}.etcd if not given.");

/// The tools, as `--help` lists them.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        usage: "<data-dir or snapshot>",
        summary: "Tells what a data directory or a snapshot holds.",
        more: "Of a data directory it tells what the member's next start will bring: entries of the log that are \
               known to be committed count, those that may not be are counted as unconfirmed.",
        flags: &[&DATA_DIR, &WRITE_OUT, &SCRATCH, &SKIP_HASH],
        run: status::run,
    },
    Command {
        name: "hashkv",
        usage: "<data-dir or snapshot> [--rev N]",
        summary: "Hashes the key space, as `etcdctl endpoint hashkv` does of a running member.",
        more: "Members of a cluster have the same hash at the same revision and compacted revision.",
        flags: &[&DATA_DIR, &REV, &WRITE_OUT, &SCRATCH, &SKIP_HASH],
        run: hashkv::run,
    },
    Command {
        name: "verify",
        usage: "<data-dir or snapshot>",
        summary: "Reads and checks everything; ends with 1 and names the first damage.",
        more: "Changes nothing. Every checksum is compared (log, tables, metadata, index file, snapshot), and what \
               is written is checked against each other: versions of keys, revisions, leases, log against state.",
        flags: &[&DATA_DIR, &WRITE_OUT, &SCRATCH, &SKIP_HASH],
        run: verify::run,
    },
    Command {
        name: "defrag",
        usage: "--data-dir <data-dir>",
        summary: "Gives the space of removed data back to the disk.",
        more: "Needs room for a copy of a part of the data while it works. It may be interrupted at any time.",
        flags: &[&DATA_DIR],
        run: defrag::run,
    },
    Command {
        name: "dump log",
        usage: "--data-dir <data-dir> [--from N] [--to N]",
        summary: "Writes the Raft log out, one entry a line of JSON.",
        more: "Keys and values stand there in base64 and, as far as they can be printed, as text. With --format \
               protobuf each entry is a message skiff.raft.v1.DumpedEntry behind its length as a varint: \
               raft/proto/skiff/raft/v1/dump.proto. The output holds all secrets that the log holds.",
        flags: &[&DATA_DIR, &FROM, &TO, &LOG_FORMAT],
        run: dump_log::run,
    },
    Command {
        name: "dump keys",
        usage: "<data-dir or snapshot> [--prefix P] [--rev N] [--history]",
        summary: "Writes the keys out, one a line of JSON, in the order of the keys.",
        more: "Keys and values stand there in base64 and, as far as they can be printed, as text. Values are not \
               held in memory, only what a member holds: all current keys.",
        flags: &[&DATA_DIR, &PREFIX, &REV, &HISTORY, &SCRATCH, &SKIP_HASH],
        run: dump_keys::run,
    },
    Command {
        name: "snapshot status",
        usage: "<snapshot>",
        summary: "Tells hash, revision, keys and size of a snapshot.",
        more: "Checks the snapshot's checksum first. Of a snapshot of etcd it tells what etcd's own tool tells: its \
               hash, and how many versions of keys and other entries there are.",
        flags: &[&WRITE_OUT, &SCRATCH, &SKIP_HASH],
        run: status::snapshot,
    },
    Command {
        name: "snapshot restore",
        usage: "<snapshot> --data-dir <new-dir> [--name ...] [--initial-cluster ...]",
        summary: "Makes the data directory of a member of a new cluster out of a snapshot.",
        more: "Run it once for each member, with the same snapshot, --initial-cluster and --initial-cluster-token, \
               and each time another --name, --initial-advertise-peer-urls and --data-dir; then start all of them \
               with the same flags. The snapshot is one that `etcdctl snapshot save` took of skiff or of etcd, or \
               (with --skip-hash-check) the file member/snap/db of an etcd that does not run. The directory must not exist, or be empty; it appears at the end and whole, or not at all.",
        flags: &[
            &RESTORED_DIR,
            &NAME,
            &CLUSTER,
            &TOKEN,
            &PEER_URLS,
            &SKIP_HASH,
            &BUMP,
            &MARK,
            &WAL_DIR,
            &WRITE_OUT,
        ],
        run: restore::run,
    },
    Command {
        name: "snapshot export",
        usage: "<data-dir or snapshot> <file>",
        summary: "Writes a snapshot that etcd's own tools restore.",
        more: "All keys with their revisions and history, leases, users and roles go along; members do not: `etcdutl \
               snapshot restore` is told the new ones. Watches go on where they were.",
        flags: &[&DATA_DIR, &WRITE_OUT, &SCRATCH, &SKIP_HASH],
        run: export::run,
    },
    Command {
        name: "version",
        usage: "",
        summary: "Tells the versions.",
        more: "",
        flags: &[],
        run: |arguments| {
            arguments.no_words()?;
            output::print(&crate::etcd::version())
        },
    },
];

/// Finds the tool that a command line names.
pub(super) fn choose(given: &[String]) -> Result<Chosen, Problem> {
    let is_help = |word: &String| matches!(word.as_str(), "help" | "--help" | "-help" | "-h");
    // `help status` is `status --help`.
    let asks = given.first().is_some_and(is_help);
    let given = if asks { &given[1..] } else { given };
    let words: Vec<&str> =
        given.iter().map(String::as_str).take_while(|word| !word.starts_with('-')).collect();
    if words.is_empty() {
        return match given.first() {
            Some(flag) if !is_help(flag) => {
                Err(Problem::Usage(format!("{flag} comes behind the name of a tool")))
            }
            None if !asks => Err(Problem::Usage(format!("name a tool\n\n{}", help::overview(None)))),
            _ => Ok(Chosen::Help(help::overview(None))),
        };
    }
    for count in [2, 1] {
        let Some(name) = words.get(..count).map(|words| words.join(" ")) else { continue };
        let Some(command) = COMMANDS.iter().find(|command| command.name == name) else { continue };
        let arguments = Arguments::parse(&given[count..], command.flags)?;
        return Ok(if asks || arguments.help() {
            Chosen::Help(help::page(command))
        } else {
            Chosen::Run(command, arguments)
        });
    }
    let group = words[0];
    if COMMANDS.iter().any(|command| command.name.split_once(' ').is_some_and(|(first, _)| first == group)) {
        let page = help::overview(Some(group));
        if asks || given.iter().any(is_help) {
            return Ok(Chosen::Help(page));
        }
        if words.len() == 1 {
            return Err(Problem::Usage(format!("{group} has more than one tool\n\n{page}")));
        }
    }
    Err(unknown(&words))
}

fn unknown(words: &[&str]) -> Problem {
    let typed = words[..words.len().min(2)].join(" ");
    let names = || COMMANDS.iter().map(|command| command.name);
    let meant = nearest(&typed, names()).or_else(|| nearest(words[0], names()));
    let hint = meant.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
    Problem::Usage(format!("unknown tool {typed:?}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_line(line: &str) -> Result<Chosen, Problem> {
        choose(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn usage(line: &str) -> String {
        match choose_line(line) {
            Err(Problem::Usage(text)) => text,
            _ => panic!("{line}: accepted"),
        }
    }

    #[test]
    fn the_nearest_name_is_offered() {
        assert!(usage("statsu x").contains("did you mean \"status\"?"));
        assert!(usage("snapshot restor x").contains("did you mean \"snapshot restore\"?"));
        assert!(usage("dump logs").contains("did you mean \"dump log\"?"));
        assert!(usage("status --data-dri x").contains("did you mean --data-dir?"));
        assert!(usage("frobnicate").ends_with("\"frobnicate\""));
    }

    #[test]
    fn values_are_checked() {
        assert!(usage("hashkv x --rev soon").contains("--rev"));
        assert!(usage("status x -w yaml").contains("\"yaml\""));
        assert!(usage("hashkv --rev").contains("needs a value"));
    }

    #[test]
    fn every_tool_has_a_page() {
        for command in COMMANDS {
            for line in [format!("{} --help", command.name), format!("help {}", command.name)] {
                let Ok(Chosen::Help(page)) = choose_line(&line) else { panic!("{line}") };
                assert!(
                    page.contains(command.summary) && command.flags.iter().all(|f| page.contains(f.name))
                );
            }
        }
        for line in ["--help", "help", "snapshot --help", "help dump"] {
            assert!(matches!(choose_line(line), Ok(Chosen::Help(_))), "{line}");
        }
    }
}
