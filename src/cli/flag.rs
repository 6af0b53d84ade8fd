//! What a flag is.

/// The shape of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// `--flag`, `--flag=false`; as Go's flags, it never takes the next argument.
    Bool,
    /// A whole number.
    Int,
    /// A Go duration: `10s`, `1m30s`, `100ms`.
    Duration,
    /// Texts separated by commas; a file may give a YAML list. Given several
    /// times on a layered command line, they add up.
    List,
    /// A text with any commas, which may be given several times; a file may give
    /// a YAML list.
    Strings,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// The word for a value in `--help`.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Kind::Text | Kind::Strings => "TEXT",
            Kind::Bool => "BOOL",
            Kind::Int => "N",
            Kind::Duration => "DURATION",
            Kind::List => "LIST",
            Kind::Choice(_) => "WORD",
        }
    }
}

/// What a flag does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is honoured.
    Applies,
    /// Accepted with a warning: nothing here corresponds to it. Why.
    Ignored(&'static str),
    /// Refused when it is given: without it something would not happen that the
    /// user counts on. Why.
    Refused(&'static str),
}

/// A heading of `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// What clients connect to.
    Server,
    /// The database.
    Database,
    /// This member.
    Member,
    /// The cluster it belongs to.
    Cluster,
    /// The networks of pods and services.
    Network,
    /// What runs on top.
    Components,
    /// This machine.
    Node,
    /// Limits and compaction.
    Limits,
    /// TLS.
    Security,
    /// Users and tokens.
    Auth,
    /// Logs and metrics.
    Logging,
    /// Checks and features.
    Features,
    /// Not for daily use.
    Unsafe,
    /// Accepted because etcd accepts them.
    Compatibility,
    /// Refused when given.
    Refused,
}

impl Group {
    /// All groups, in the order `--help` shows them.
    pub(crate) const ALL: [Group; 15] = [
        Group::Server,
        Group::Database,
        Group::Member,
        Group::Cluster,
        Group::Network,
        Group::Components,
        Group::Node,
        Group::Limits,
        Group::Security,
        Group::Auth,
        Group::Logging,
        Group::Features,
        Group::Unsafe,
        Group::Compatibility,
        Group::Refused,
    ];

    /// The heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Group::Server => "Server",
            Group::Database => "Database",
            Group::Member => "Member",
            Group::Cluster => "Cluster",
            Group::Network => "Network",
            Group::Components => "Components",
            Group::Node => "Node",
            Group::Limits => "Limits and compaction",
            Group::Security => "Security",
            Group::Auth => "Users and tokens",
            Group::Logging => "Logs and metrics",
            Group::Features => "Checks and features",
            Group::Unsafe => "Unsafe",
            Group::Compatibility => "Accepted for compatibility (no effect here)",
            Group::Refused => "Known, and refused when given",
        }
    }
}

/// A flag of a command; also an environment variable, and with `skiff etcd` a
/// key of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// The name, without dashes.
    pub(crate) name: &'static str,
    /// The shape of the value.
    pub(crate) kind: Kind,
    /// The default, as one would type it.
    pub(crate) default: &'static str,
    /// The heading it stands under.
    pub(crate) group: Group,
    /// One sentence.
    pub(crate) help: &'static str,
    /// Other spellings: older names of etcd's.
    pub(crate) aliases: &'static [&'static str],
    /// Key in the file where it is not the name: `section.key`.
    pub(crate) file_key: Option<&'static str>,
    /// What it does here.
    pub(crate) effect: Effect,
}

impl Flag {
    /// True for the flag's own name and its other spellings.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// All flags of a command.
#[derive(Debug)]
pub(crate) struct Table {
    /// The command, as one types it.
    pub(crate) command: &'static str,
    /// What the names of its environment variables begin with.
    pub(crate) prefix: &'static str,
    /// The flags.
    pub(crate) flags: &'static [Flag],
}

impl Table {
    /// The flag of a name or another spelling. `experimental-` before a flag's
    /// name is understood too.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Flag> {
        self.flags.iter().find(|f| f.answers_to(name)).or_else(|| {
            name.strip_prefix("experimental-").and_then(|plain| self.flags.iter().find(|f| f.name == plain))
        })
    }

    /// The environment variable of a spelling: the prefix and the spelling in
    /// capitals.
    pub(crate) fn env_name(&self, spelling: &str) -> String {
        format!("{}{}", self.prefix, spelling.to_ascii_uppercase().replace('-', "_"))
    }
}
