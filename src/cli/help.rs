//! `--help`, and the same as a page of documentation.

use super::flag::{Effect, Flag, Group};
use super::table::FLAGS;

/// The help of `skiff` itself.
pub(crate) const SKIFF: &str = "\
Skiff: a lightweight Kubernetes in one binary. Today: its store, a drop-in etcd.

Usage:
  skiff etcd [flags]     Run a member of an etcd-compatible store.
  skiff etcd --help      All its flags.
  skiff etcd util        Tools for the files of a member that does not run.
  skiff --version        The versions.

Start a member and talk to it:
  skiff etcd --data-dir /tmp/m1
  etcdctl put greeting hello

Called by the name `etcd` (a link), skiff behaves as `skiff etcd`; by the name
`etcdutl`, as `skiff etcd util`.
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
    for group in Group::ALL {
        page.push_str(&format!("\n{}:\n", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            page.push_str(&format!("  --{} {}\n", flag.name, flag.kind.placeholder()));
            page.push_str(&format!("      {}\n", sentence(flag)));
        }
    }
    page
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

/// The page `docs/etcd-flags.md`.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut page = String::from(
        "# Flags of `skiff etcd`\n\nMade from the table in `src/cli/table.rs`; a test keeps the two equal \
         (`UPDATE_DOCS=1 cargo test` rewrites this page).\n\nEach flag is also an environment variable (`--data-dir` \
         is `ETCD_DATA_DIR`) and a key of `--config-file` (the flag's name, or the key given here).\n",
    );
    for group in Group::ALL {
        page.push_str(&format!("\n## {}\n\n", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
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
        let page = etcd();
        for flag in FLAGS {
            assert!(page.contains(&format!("  --{} ", flag.name)), "{}", flag.name);
        }
    }

    #[test]
    fn the_documented_flags_are_the_flags() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/etcd-flags.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written == markdown(), "docs/etcd-flags.md is stale: UPDATE_DOCS=1 cargo test rewrites it");
    }
}
