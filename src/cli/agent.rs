//! The flags of `skiff agent`: K3s's, with K3s's defaults. What waits for parts that are
//! not built yet is accepted without effect.

use super::flag::{Flag, Group, Kind, Table};
use super::server::CONFIG_FILE;
use super::table::{off, on};

use Group::{Cluster, Logging, Node};
use Kind::{Bool, Int, List, Strings, Text};

/// The flags of `skiff agent`.
pub(crate) static AGENT: Table = Table { command: "skiff agent", prefix: "SKIFF_", flags: FLAGS };

const NO_PODS: &str = "the agent runs no pods yet";

#[rustfmt::skip] // one line a flag reads better than eight
const FLAGS: &[Flag] = &[
    on(Logging, "config", Text, CONFIG_FILE, "YAML file with settings, and beside it the folder <file>.d with more of them, read in the order of their names.")
        .or(&["c", "config-file"]),
    on(Logging, "debug", Bool, "false", "Log more."),
    on(Logging, "v", Int, "0", "Verbosity; from 4 on as --debug."),
    on(Logging, "log", Text, "", "File to write the log to, instead of stderr.").or(&["l"]),
    on(Logging, "alsologtostderr", Bool, "false", "With --log: write to stderr too."),
    off("vmodule", Text, "", "verbosity is not set by source file"),

    on(Cluster, "server", Text, "", "URL of a server of the cluster; the others are learned from it.").or(&["s", "url"]),
    on(Cluster, "token", Text, "", "Secret to join with. Better in a file: arguments can be seen by others.").or(&["t"]),
    on(Cluster, "token-file", Text, "", "File with that secret."),
    on(Cluster, "data-dir", Text, "/var/lib/skiff", "Folder of everything that is kept. With the default one the node's password and id are in /etc/skiff/node, with another in the folder node below it.").or(&["d"]),
    on(Cluster, "lb-server-port", Int, "6444", "Port on 127.0.0.1 that leads to whichever server is well."),

    on(Node, "node-name", Text, "", "Name of this node, in lower case; the host's if not given."),
    on(Node, "with-node-id", Bool, "false", "Append a fixed random id to the node's name."),
    on(Node, "node-ip", List, "", "Addresses of this node; the one towards the server if not given."),
    off("disable-apiserver-lb", Bool, "false", "the balancer is always there"),
    off("node-external-ip", List, "", NO_PODS),
    off("node-internal-dns", Strings, "", NO_PODS),
    off("node-external-dns", Strings, "", NO_PODS),
    off("node-label", Strings, "", NO_PODS),
    off("node-taint", Strings, "", NO_PODS),
    off("image-credential-provider-bin-dir", Text, "", NO_PODS),
    off("image-credential-provider-config", Text, "", NO_PODS),
    off("docker", Bool, "false", NO_PODS),
    off("container-runtime-endpoint", Text, "", NO_PODS),
    off("image-service-endpoint", Text, "", NO_PODS),
    off("default-runtime", Text, "", NO_PODS),
    off("disable-default-registry-endpoint", Bool, "false", NO_PODS),
    off("nonroot-devices", Bool, "false", NO_PODS),
    off("pause-image", Text, "", NO_PODS),
    off("snapshotter", Text, "", NO_PODS),
    off("private-registry", Text, "", NO_PODS),
    off("airgap-extra-registry", Strings, "", NO_PODS),
    off("resolv-conf", Text, "", NO_PODS),
    off("flannel-iface", Text, "", NO_PODS),
    off("flannel-conf", Text, "", NO_PODS),
    off("flannel-cni-conf", Text, "", NO_PODS),
    off("vpn-auth", Text, "", NO_PODS),
    off("vpn-auth-file", Text, "", NO_PODS),
    off("kubelet-arg", Strings, "", NO_PODS),
    off("kube-proxy-arg", Strings, "", NO_PODS),
    off("protect-kernel-defaults", Bool, "false", NO_PODS),
    off("selinux", Bool, "false", NO_PODS),
    off("bind-address", Text, "127.0.0.1", "only the balancer's port is bound, on loopback"),
    off("enable-pprof", Bool, "false", "profiles are served by skiff etcd alone so far"),
    off("prefer-bundled-bin", Bool, "false", "no programs are bundled yet"),
    off("rootless", Bool, "false", NO_PODS),
];
