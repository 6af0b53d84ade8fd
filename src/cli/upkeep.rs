//! The flags of `skiff token` and of `skiff certificate`.

use super::flag::{Flag, Group, Kind, Table};
use super::table::on;

use Group::{Cluster, Server};
use Kind::{Choice, Duration, Int, List, Text};

/// The flags of `skiff token`.
pub(crate) static TOKEN: Table = Table { command: "skiff token", prefix: "SKIFF_", flags: TOKEN_FLAGS };

/// The flags of `skiff certificate`.
pub(crate) static CERTIFICATE: Table =
    Table { command: "skiff certificate", prefix: "SKIFF_", flags: CERTIFICATE_FLAGS };

const DATA_DIR: Flag =
    on(Cluster, "data-dir", Text, "/var/lib/skiff", "Folder of the server's data.").or(&["d"]);

#[rustfmt::skip] // one line a flag reads better than eight
const TOKEN_FLAGS: &[Flag] = &[
    DATA_DIR,
    on(Server, "server", Text, "https://127.0.0.1:6443", "The server to ask.").or(&["s", "url"]),
    on(Cluster, "token", Text, "", "The servers' token; the one in server/token of the data folder if not given.").or(&["t"]),
    on(Cluster, "new-token", Text, "", "With rotate: the new one; made if not given."),
    on(Cluster, "ttl", Duration, "24h0m0s", "With create: the time the token lasts; 0 for ever."),
    on(Cluster, "usages", List, "", "With create: what it may be used for, of authentication and signing; both if not given."),
    on(Cluster, "groups", List, "", "With create: the groups of who shows it."),
    on(Cluster, "description", Text, "", "With create: what it is for."),
    on(Cluster, "output", Choice(&["text", "json"]), "text", "With list: the form.").or(&["o"]),
];

#[rustfmt::skip] // one line a flag reads better than eight
const CERTIFICATE_FLAGS: &[Flag] = &[
    DATA_DIR,
    on(Cluster, "output", Choice(&["text", "table", "json", "yaml"]), "text", "With check: the form.").or(&["o"]),
    on(Cluster, "service", List, "", "With check and rotate: these alone, such as admin, api-server, etcd, scheduler, supervisor; all if not given.").or(&["s"]),
    on(Cluster, "days", Int, "0", "With check: fail if one ends within so many days."),
];
