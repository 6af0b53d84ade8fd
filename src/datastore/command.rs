//! The command line.

use std::process::ExitCode;
use std::time::Duration;

use skiff_sql::endpoint::TlsFiles;

use super::migrate::{Migration, Outcome};
use super::place::{Login, Place};
use crate::cli::flag::Kind;
use crate::cli::{nearest, value};
use crate::logging::{self, LogOptions};
use crate::util::arguments::{Arguments, Flag};
use crate::util::{Problem, output, source};
use crate::{USAGE, process};

const COMMAND: &str = "skiff datastore migrate";

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind, default, help }
}

/// The flags, as `--help` lists them.
static FLAGS: &[&Flag] = &[
    &flag(
        "from",
        Kind::Text,
        "",
        "What to move: a database (sqlite://, postgres://, mysql://), a running etcd or skiff (http://, https://), \
         the data directory of a stopped skiff etcd, or a snapshot.",
    ),
    &flag(
        "to",
        Kind::Text,
        "",
        "Where to: an empty database, an etcd that was never written to, data-dir:PATH for the data directory of a \
         new skiff etcd, or snapshot:PATH for a snapshot that etcd restores too.",
    ),
    &flag("online", Kind::Bool, "false", "Follow a source that is written to, and switch when it is quiet."),
    &flag("switch-after", Kind::Duration, "3s", "With --online: switch once the source was quiet this long."),
    &flag("dry-run", Kind::Bool, "false", "Read the source, look at the target, change nothing."),
    &flag(
        "restart",
        Kind::Bool,
        "false",
        "Throw away what an unfinished migration left in a target database.",
    ),
    &flag(
        "skip-auth",
        Kind::Bool,
        "false",
        "Leave users and roles behind, which a running etcd does not take with their passwords.",
    ),
    &flag("from-user", Kind::Text, "", "User at a source that is a running etcd, as name or name:password."),
    &flag("to-user", Kind::Text, "", "The same of the target."),
    &flag("from-cacert", Kind::Text, "", "Authorities that certify the source, PEM."),
    &flag("from-cert", Kind::Text, "", "Certificate to show to the source, PEM."),
    &flag("from-key", Kind::Text, "", "Its key."),
    &flag("from-insecure-skip-tls-verify", Kind::Bool, "false", "Trust any certificate of the source."),
    &flag("to-cacert", Kind::Text, "", "Authorities that certify the target, PEM."),
    &flag("to-cert", Kind::Text, "", "Certificate to show to the target, PEM."),
    &flag("to-key", Kind::Text, "", "Its key."),
    &flag("to-insecure-skip-tls-verify", Kind::Bool, "false", "Trust any certificate of the target."),
    &flag("name", Kind::Text, "default", "With data-dir: as the target: name of the new member."),
    &flag(
        "initial-cluster",
        Kind::Text,
        "default=http://localhost:2380",
        "With data-dir: as the target: members of the new cluster (name=peer-url,...).",
    ),
    &flag("initial-cluster-token", Kind::Text, "etcd-cluster", "The same: tells the cluster from others."),
    &flag(
        "initial-advertise-peer-urls",
        Kind::Text,
        "http://localhost:2380",
        "The same: URLs the member's peers reach it by.",
    ),
    &flag(
        "scratch-dir",
        Kind::Text,
        "",
        "Where the replica of the source is kept meanwhile, and that of the target for the comparison; the \
         system's place for temporary files if not given.",
    ),
    &flag("skip-hash-check", Kind::Bool, "false", "Take a snapshot without its checksum."),
    &Flag {
        short: Some("w"),
        ..flag(
            "write-out",
            Kind::Choice(&["simple", "json", "table", "fields"]),
            "simple",
            "Format of the outcome, on the standard output.",
        )
    },
    &flag("debug", Kind::Bool, "false", "Log more, to the standard error."),
    // Of `data-dir:`; what the place names counts.
    &flag("data-dir", Kind::Text, "", "Not used here: write data-dir:PATH behind --from or --to."),
];

const SYNOPSIS: &str = "\
Moves a store to another place: all keys with their revisions, versions and
history, leases, users and roles.

Usage:
  skiff datastore migrate --from PLACE --to PLACE [flags]

Examples:
  skiff datastore migrate --from sqlite:///var/lib/skiff/state.db --to postgres://u:pw@host/skiff
  skiff datastore migrate --from http://127.0.0.1:2379 --to data-dir:m1.etcd --online
  skiff datastore migrate --from backup.db --to 'mysql://u:pw@tcp(host:3306)/skiff'

The source is only read. What was interrupted goes on with the same command,
into a database or a running etcd; files are made anew. In the end both are read
and their hashes compared. Leases begin their time anew. Writes after the switch
are not seen: stop what writes before it (with --online it says when).

Passwords: SKIFF_MIGRATE_FROM_PASSWORD and SKIFF_MIGRATE_TO_PASSWORD, where they
do not stand in the flags.
";

/// Runs `skiff datastore`.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let given: Vec<String> = arguments.collect();
    let outcome = match given.first().map(String::as_str) {
        Some("migrate") => parse(&given[1..]),
        None | Some("help" | "--help" | "-h" | "-help") => Ok(None),
        Some(other) => {
            let hint =
                nearest(other, ["migrate"].into_iter()).map(|name| format!("; did you mean {name:?}?"));
            Err(format!("unknown command {other:?}{}", hint.unwrap_or_default()))
        }
    };
    match outcome {
        Ok(None) => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        Ok(Some(migration)) => {
            let options = LogOptions::for_kine(false, migration.arguments.bool("debug")).quiet();
            if let Err(problem) = logging::start(&options) {
                eprintln!("{COMMAND}: {problem}");
                return ExitCode::FAILURE;
            }
            process::run_tool(COMMAND, run(migration))
        }
        Err(problem) => {
            eprintln!("{COMMAND}: {problem}\nSee {COMMAND} --help.");
            ExitCode::from(USAGE)
        }
    }
}

async fn run(migration: Migration) -> Result<(), String> {
    let scratch = source::scratch(&migration.arguments)?;
    let (arguments, from, to) =
        (migration.arguments.clone(), migration.from.to_string(), migration.to.to_string());
    let (answer, simple) = match migration.run(scratch.path()).await? {
        Outcome::Moved(answer) => {
            let simple = format!(
                "moved {from} to {to}: {} keys at revision {}, hashes equal\n",
                answer["keys"], answer["revision"]
            );
            (answer, simple)
        }
        Outcome::Looked(answer) => {
            let simple = format!(
                "would move {} keys in {} versions at revision {}; nothing was changed\n",
                answer["keys"], answer["versions"], answer["revision"]
            );
            (answer, simple)
        }
    };
    match output::answer(&arguments, &answer, &simple, &[]) {
        Err(Problem::Failed(problem) | Problem::Usage(problem)) => Err(problem),
        Ok(()) | Err(Problem::Unread) => Ok(()),
    }
}

/// Reads the flags; `None` where help is asked for.
fn parse(given: &[String]) -> Result<Option<Migration>, String> {
    let arguments = Arguments::parse(given, FLAGS).map_err(text)?;
    if arguments.help() {
        return Ok(None);
    }
    arguments.no_words().map_err(text)?;
    let duration = value::duration(arguments.text("switch-after"));
    Ok(Some(Migration {
        from: Place::source(
            required(&arguments, "from")?,
            tls(&arguments, "from"),
            login(&arguments, "from"),
        )
        .map_err(|problem| format!("--from: {problem}"))?,
        to: Place::target(required(&arguments, "to")?, tls(&arguments, "to"), login(&arguments, "to"))
            .map_err(|problem| format!("--to: {problem}"))?,
        online: arguments.bool("online"),
        dry_run: arguments.bool("dry-run"),
        switch_after: duration.map_err(|problem| format!("--switch-after: {problem}"))?.max(Duration::ZERO),
        arguments,
    }))
}

fn required<'a>(arguments: &'a Arguments, flag: &str) -> Result<&'a str, String> {
    match arguments.text(flag) {
        "" => Err(format!("--{flag} is required")),
        text => Ok(text),
    }
}

fn tls(arguments: &Arguments, side: &str) -> TlsFiles {
    let file = |name: &str| {
        Some(arguments.text(&format!("{side}-{name}"))).filter(|text| !text.is_empty()).map(Into::into)
    };
    TlsFiles {
        ca_file: file("cacert"),
        cert_file: file("cert"),
        key_file: file("key"),
        skip_verify: arguments.bool(&format!("{side}-insecure-skip-tls-verify")),
    }
}

fn login(arguments: &Arguments, side: &str) -> Login {
    let given = arguments.text(&format!("{side}-user"));
    let (name, password) = match given.split_once(':') {
        Some((name, password)) => (name, password.to_owned()),
        None => {
            let variable = format!("SKIFF_MIGRATE_{}_PASSWORD", side.to_uppercase());
            (
                given,
                process::environment().find(|(name, _)| *name == variable).map_or_else(String::new, |v| v.1),
            )
        }
    };
    Login { name: name.to_owned(), password }
}

fn text(problem: Problem) -> String {
    match problem {
        Problem::Usage(text) | Problem::Failed(text) => text,
        Problem::Unread => String::new(),
    }
}

fn help() -> String {
    format!("{SYNOPSIS}\nFlags:\n{}", crate::util::help::flags(FLAGS))
}
