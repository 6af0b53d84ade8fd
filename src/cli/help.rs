//! `--help`, and the same as a page of documentation.

use super::agent::AGENT;
use super::flag::{Effect, Flag, Group, Table};
use super::kine::KINE;
use super::server::SERVER;
use super::table::ETCD;
use super::upkeep::{CERTIFICATE, TOKEN};

/// The help of `skiff` itself.
pub(crate) const SKIFF: &str = "\
Skiff: a lightweight Kubernetes in one binary. Today: its store, a drop-in etcd,
and servers that join to a cluster of it.

Usage:
  skiff server [flags]   Run a server of a cluster; --help lists its flags.
  skiff agent [flags]    Connect a node to a cluster; --help lists its flags.
  skiff token            Tokens to join with: create, list, delete, generate, rotate.
  skiff certificate      Certificates of a server: check, rotate.
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

/// The help of `skiff server`.
pub(crate) fn server() -> String {
    let mut page = String::from(
        "\
A server of a cluster: certificates, tokens, the store, and the supervisor that
others join by. The Kubernetes API server is not built in yet.

Usage:
  skiff server                                   Start the first server.
  skiff server --server https://first:6443 --token-file T
                                                 Join it, with its token.
  skiff server --version                         Show the version.

A flag is written --flag=value or --flag value. Each is also an environment
variable (--node-ip is SKIFF_NODE_IP; --server is SKIFF_URL too) and a key of the
config file; key+ adds to a list. The command line wins over the environment, and
that over the files.
",
    );
    page.push_str(&listed(&SERVER));
    page
}

/// The help of `skiff agent`.
pub(crate) fn agent() -> String {
    let mut page = String::from(
        "\
The agent of a node: joins a cluster, gets and renews the node's certificates, keeps
a port on loopback that leads to whichever server is well, and a tunnel to each
server. It runs no pods yet.

Usage:
  skiff agent --server https://server:6443 --token-file T
                                                 Join, with a server's token.
  skiff agent --version                          Show the version.

A flag is written --flag=value or --flag value. Each is also an environment
variable (--node-ip is SKIFF_NODE_IP; --server is SKIFF_URL too) and a key of the
config file; key+ adds to a list. The command line wins over the environment, and
that over the files.
",
    );
    page.push_str(&listed(&AGENT));
    page
}

/// The help of `skiff token`.
pub(crate) fn token() -> String {
    let usage = "\
Tokens to join with. All but generate ask a running server.

Usage:
  skiff token create [id.secret]   Make a token that lets agents join for a while.
  skiff token list                 List those, without their secrets.
  skiff token delete <id>...       Delete some.
  skiff token generate             Print one that could be created.
  skiff token rotate               Replace the servers' token, on all servers.
";
    format!("{usage}{}", listed(&TOKEN))
}

/// The help of `skiff certificate`.
pub(crate) fn certificate() -> String {
    let usage = "\
Certificates of a server, on its disk. A running server takes up what changes.

Usage:
  skiff certificate check          Tell when each ends.
  skiff certificate rotate         Make certificates anew, by the same authorities.
";
    format!("{usage}{}", listed(&CERTIFICATE))
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
        for (table, page) in [
            (&ETCD, etcd()),
            (&KINE, kine()),
            (&SERVER, server()),
            (&AGENT, agent()),
            (&TOKEN, token()),
            (&CERTIFICATE, certificate()),
        ] {
            for flag in table.flags {
                assert!(page.contains(&format!("  --{} ", flag.name)), "{}", flag.name);
            }
        }
    }

    #[test]
    fn the_documented_flags_are_the_flags() {
        let etcd = "(`--data-dir` is `ETCD_DATA_DIR`) and a key of `--config-file` (the flag's name, or the key \
                    given here)";
        let server = "(`--node-ip` is `SKIFF_NODE_IP`) and a key of the config file";
        let pages = [
            ("etcd-flags.md", markdown(&ETCD, "src/cli/table.rs", etcd)),
            ("kine-flags.md", markdown(&KINE, "src/cli/kine.rs", "(`--endpoint` is `KINE_ENDPOINT`)")),
            ("server-flags.md", markdown(&SERVER, "src/cli/server.rs", server)),
            ("agent-flags.md", markdown(&AGENT, "src/cli/agent.rs", server)),
        ];
        for (name, page) in pages {
            let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(&path, &page).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == page, "docs/{name} is stale: UPDATE_DOCS=1 cargo test rewrites it");
        }
    }
}
