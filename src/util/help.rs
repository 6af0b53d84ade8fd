//! What `--help` prints.

use super::arguments::Flag;
use super::command::{COMMANDS, Command};
use crate::cli::flag::Kind;

/// Columns of a line.
const WIDTH: usize = 80;

/// All tools, or those whose name begins with a word.
pub(super) fn overview(group: Option<&str>) -> String {
    let mut page = String::from(
        "Tools for the files of a member that does not run, and for snapshots.\n\nUsage:\n  \
         skiff etcd util <tool> [flags]     (also by a link named `etcdutl`)\n\nTools:\n",
    );
    let listed = COMMANDS.iter().filter(|command| group.is_none_or(|word| command.name.starts_with(word)));
    for command in listed {
        page.push_str(&format!("  {:<18}{}\n", command.name, command.summary));
    }
    page.push_str(
        "\nExamples:\n  skiff etcd util status default.etcd\n  skiff etcd util verify default.etcd\n  \
         etcdctl snapshot save backup && skiff etcd util snapshot restore backup --data-dir new.etcd\n\n\
         skiff etcd util <tool> --help tells more of one.\n",
    );
    page
}

/// One tool.
pub(super) fn page(command: &Command) -> String {
    let mut page =
        format!("{}\n\nUsage:\n  skiff etcd util {} {}\n", command.summary, command.name, command.usage);
    if !command.more.is_empty() {
        page.push_str(&format!("\n{}", wrapped(command.more, "")));
    }
    if !command.flags.is_empty() {
        page.push_str("\nFlags:\n");
    }
    page.push_str(&flags(command.flags));
    page
}

/// Flags, as pages list them.
pub(crate) fn flags(flags: &[&Flag]) -> String {
    let mut page = String::new();
    for flag in flags {
        let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
        page.push_str(&format!("  {short}--{} {}\n", flag.name, flag.kind.placeholder()));
        let mut text = flag.help.to_owned();
        if let Kind::Choice(words) = flag.kind {
            text.push_str(&format!(" One of {}.", words.join(", ")));
        }
        if !flag.default.is_empty() {
            text.push_str(&format!(" (default {:?})", flag.default));
        }
        page.push_str(&wrapped(&text, "      "));
    }
    page
}

fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > WIDTH {
            lines.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push_str(&format!("{indent}{line}\n"));
    lines
}
