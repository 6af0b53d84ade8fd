//! `--help`, and the same as a page of documentation.

use super::flag::{Effect, Flag, Group, Table};
use super::kine::KINE;
use super::table::ETCD;

/// The help of `skiff` itself.
pub(crate) const SKIFF: &str = "\
Skiff: a lightweight Kubernetes in one binary. Today: its store, a drop-in etcd.

Usage:
  skiff etcd [flags]     Run a member of an etcd-compatible store.
  skiff etcd --help      All its flags.
  skiff etcd util        Tools for the files of a member that does not run.
  skiff kine [flags]     Run the same API on Postgres, MySQL, MariaDB or SQLite.
  skiff kine --help      All its flags.
  skiff datastore migrate --help
                         Moves a store between databases, etcd and files.
  skiff --version        The versions.

Start a member and talk to it:
  skiff etcd --data-dir /tmp/m1
  etcdctl put greeting hello

Called by the name `etcd` (a link), skiff behaves as `skiff etcd`; by the name
`etcdutl`, as `skiff etcd util`; by the name `kine`, as `skiff kine`.
";

/// The help of `skiff etcd`.
pub(crate) fn etcd() -> String {
    let mut page = String::from(
        "\
A member of an etcd-compatible store: the etcd v3 API on a Raft-replicated store.

Usage:
  skiff etcd [flags]                       Start a member.
  skiff etcd --config-file /etc/etcd.yaml  Start it with a file's settings alone.
  skiff etcd --version                     Show the version.
  skiff etcd util --help                   Tools for the files of a stopped member.

A flag is written --flag=value or --flag value. Each is also an environment
variable (--data-dir is ETCD_DATA_DIR; a flag wins) and a key of the file.
",
    );
    page.push_str(&listed(&ETCD));
    page
}

/// The help of `skiff kine`.
pub(crate) fn kine() -> String {
    let mut page = String::from(
        "\
The etcd v3 API on an SQL database; takes kine's flags and kine's databases.

Usage:
  skiff kine                                         On SQLite, ./db/state.db.
  skiff kine --endpoint postgres://user:pw@host/db   On Postgres.
  skiff kine --endpoint 'mysql://user:pw@tcp(host:3306)/db'
                                                     On MySQL or MariaDB.
  skiff kine --version                               Show the version.

A flag is written --flag=value or --flag value. Each is also an environment
variable (--endpoint is KINE_ENDPOINT; a flag wins). A password is better kept
in the variable than among the arguments, which others on the host can see.
",
    );
    page.push_str(&listed(&KINE));
    page
}

/// The flags under their headings.
fn listed(table: &Table) -> String {
    let mut page = String::new();
    for (group, flags) in grouped(table) {
        page.push_str(&format!("\n{}:\n", group.title()));
        for flag in flags {
            page.push_str(&format!("  --{} {}\n", flag.name, flag.kind.placeholder()));
            page.push_str(&format!("      {}\n", sentence(flag)));
        }
    }
    page
}

/// The headings that have flags, and these.
fn grouped(table: &Table) -> Vec<(Group, Vec<&'static Flag>)> {
    Group::ALL
        .into_iter()
        .map(|group| (group, table.flags.iter().filter(|flag| flag.group == group).collect::<Vec<_>>()))
        .filter(|(_, flags)| !flags.is_empty())
        .collect()
}

fn sentence(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    match flag.effect {
        Effect::Ignored(why) if why != flag.help => text.push_str(&format!(" No effect: {why}.")),
        _ => {}
    }
    if let super::flag::Kind::Choice(words) = flag.kind {
        let words: Vec<&str> = words.iter().copied().filter(|w| !w.is_empty()).collect();
        text.push_str(&format!(" One of {}.", words.join(", ")));
    }
    if !flag.default.is_empty() {
        text.push_str(&format!(" (default {:?})", flag.default));
    }
    if !flag.aliases.is_empty() {
        text.push_str(&format!(" (also --{})", flag.aliases.join(", --")));
    }
    text
}

/// A page of documentation: `docs/etcd-flags.md` or `docs/kine-flags.md`.
#[cfg(test)]
fn markdown(table: &Table, source: &str, variables: &str) -> String {
    let mut page = format!(
        "# Flags of `{}`\n\nMade from the table in `{source}`; a test keeps the two equal \
         (`UPDATE_DOCS=1 cargo test` rewrites this page).\n\nEach flag is also an environment variable \
         {variables}.\n",
        table.command
    );
    for (group, flags) in grouped(table) {
        page.push_str(&format!("\n## {}\n\n", group.title()));
        for flag in flags {
            let key = flag.file_key.map(|key| format!(" (file: `{key}`)")).unwrap_or_default();
            page.push_str(&format!("- `--{}`{key}: {}\n", flag.name, sentence(flag)));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_flag() {
        for (table, page) in [(&ETCD, etcd()), (&KINE, kine())] {
            for flag in table.flags {
                assert!(page.contains(&format!("  --{} ", flag.name)), "{}", flag.name);
            }
        }
    }

    #[test]
    fn the_documented_flags_are_the_flags() {
        let etcd = "(`--data-dir` is `ETCD_DATA_DIR`) and a key of `--config-file` (the flag's name, or the key \
                    given here)";
        let pages = [
            ("etcd-flags.md", markdown(&ETCD, "src/cli/table.rs", etcd)),
            ("kine-flags.md", markdown(&KINE, "src/cli/kine.rs", "(`--endpoint` is `KINE_ENDPOINT`)")),
        ];
        for (name, page) in pages {
            let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(&path, &page).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap();
            assert!(written == page, "docs/{name} is stale: UPDATE_DOCS=1 cargo test rewrites it");
        }
    }
}
