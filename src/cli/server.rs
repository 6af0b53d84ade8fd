//! The flags of `skiff server`: K3s's, with K3s's defaults. What waits for parts
//! that are not built yet is accepted without effect where that does no harm,
//! and refused by name where it would promise what does not happen.

use super::flag::{Effect, Flag, Group, Kind, Table};
use super::table::{off, on};

use Group::{Cluster, Components, Database, Logging, Network, Node, Server};
use Kind::{Bool, Choice, Duration, Int, List, Strings, Text};

/// Where the settings are, unless `--config` says otherwise.
pub(crate) const CONFIG_FILE: &str = "/etc/skiff/config.yaml";

/// The flags of `skiff server`.
pub(crate) static SERVER: Table = Table { command: "skiff server", prefix: "SKIFF_", flags: FLAGS };

/// Builds a flag that is refused when it is given.
const fn no(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { group: Group::Refused, effect: Effect::Refused(why), ..off(name, kind, default, why) }
}

const NO_API: &str = "the Kubernetes API server is not built in yet";
const NO_AGENT: &str = "this server runs no node agent yet";
const NO_PACKAGES: &str = "nothing is packaged yet";
const NO_SNAPSHOT: &str = "snapshots on a schedule are not taken yet; etcdctl snapshot save takes one";
const NO_S3: &str = "snapshots are not sent to S3 yet";

#[rustfmt::skip] // one line a flag reads better than eight
const FLAGS: &[Flag] = &[
    on(Logging, "config", Text, CONFIG_FILE, "YAML file with settings, and beside it the folder <file>.d with more of them, read in the order of their names.")
        .or(&["c", "config-file"]),
    on(Logging, "debug", Bool, "false", "Log more."),
    on(Logging, "v", Int, "0", "Verbosity; from 4 on as --debug."),
    on(Logging, "log", Text, "", "File to write the log to, instead of stderr.").or(&["l"]),
    on(Logging, "alsologtostderr", Bool, "false", "With --log: write to stderr too."),
    off("vmodule", Text, "", "verbosity is not set by source file"),

    on(Server, "bind-address", Text, "0.0.0.0", "Address to listen on."),
    on(Server, "https-listen-port", Int, "6443", "Port of the supervisor (and of the API server, when there is one)."),
    on(Server, "advertise-address", Text, "", "Address the other nodes reach this server by; the node's address if not given."),
    on(Server, "advertise-port", Int, "0", "Port they reach it by; 0 for the port it listens on."),
    on(Server, "tls-san", List, "", "More names and addresses for the certificate of that port: a load balancer's, say."),
    on(Server, "supervisor-metrics", Bool, "false", "Serve /metrics on that port, to who shows a server's token or certificate."),
    off("tls-san-security", Bool, "true", "names in the certificate are those of --tls-san alone, which is what this asks for"),

    on(Network, "cluster-cidr", List, "10.42.0.0/16", "Networks of pods; the same on every server."),
    on(Network, "service-cidr", List, "10.43.0.0/16", "Networks of services; the same on every server."),
    on(Network, "service-node-port-range", Text, "30000-32767", "Ports for services on nodes; the same on every server."),
    on(Network, "cluster-dns", List, "10.43.0.10", "Addresses of the cluster's DNS; the same on every server."),
    on(Network, "cluster-domain", Text, "cluster.local", "Domain of the cluster; the same on every server."),
    on(Network, "flannel-backend", Choice(&["vxlan", "host-gw", "wireguard-native", "none"]), "vxlan", "How pods of different nodes reach each other; the same on every server."),
    on(Network, "flannel-ipv6-masq", Bool, "false", "Masquerade IPv6 of pods; the same on every server."),
    on(Network, "flannel-external-ip", Bool, "false", "Connect nodes by their external addresses; the same on every server."),
    on(Network, "egress-selector-mode", Choice(&["agent", "pod", "cluster", "disabled"]), "agent", "How the API server reaches nodes; the same on every server."),
    off("servicelb-namespace", Text, "kube-system", NO_PACKAGES),

    on(Cluster, "data-dir", Text, "/var/lib/skiff", "Folder of everything that is kept.").or(&["d"]),
    on(Cluster, "token", Text, "", "Secret that servers and agents join with; made by the first server if not given. Better in a file: arguments can be seen by others.").or(&["t"]),
    on(Cluster, "token-file", Text, "", "File with that secret."),
    on(Cluster, "agent-token", Text, "", "Secret that only agents can join with."),
    on(Cluster, "agent-token-file", Text, "", "File with that secret."),
    on(Cluster, "server", Text, "", "URL of a server to join; has no effect once this server's own data is there.").or(&["s", "url"]),
    on(Cluster, "cluster-init", Bool, "false", "Start a new cluster: what a server without --server does anyway; every server can be joined."),
    no("cluster-reset", Bool, "false", "a cluster is not reset yet; skiff etcd --force-new-cluster on server/db/etcd makes one member of it"),
    no("cluster-reset-restore-path", Text, "", "a snapshot is not restored by this command yet; see skiff etcd util snapshot restore"),

    on(Database, "datastore-endpoint", Text, "", "An SQL database instead of the servers' own store: postgres://, mysql:// or sqlite://."),
    on(Database, "datastore-cafile", Text, "", "Authorities (PEM) for the database's certificate."),
    on(Database, "datastore-certfile", Text, "", "Certificate (PEM) to show to the database."),
    on(Database, "datastore-keyfile", Text, "", "Its private key (PEM)."),
    on(Database, "etcd-expose-metrics", Bool, "false", "Serve the store's metrics on the node's address at port 2381, not on loopback alone."),
    on(Database, "etcd-arg", Strings, "", "A flag of skiff etcd for the store, as flag=value; may be given several times."),
    off("etcd-disable-snapshots", Bool, "false", NO_SNAPSHOT),
    off("etcd-snapshot-name", Text, "etcd-snapshot", NO_SNAPSHOT),
    off("etcd-snapshot-reconcile-interval", Duration, "10m", NO_SNAPSHOT),
    off("etcd-snapshot-retention", Int, "5", NO_SNAPSHOT),
    off("etcd-snapshot-dir", Text, "", NO_SNAPSHOT),
    off("etcd-snapshot-compress", Bool, "false", NO_SNAPSHOT),
    no("etcd-snapshot-schedule-cron", Text, "0 */12 * * *", NO_SNAPSHOT),
    no("etcd-s3", Bool, "false", NO_S3),
    no("etcd-s3-endpoint", Text, "s3.amazonaws.com", NO_S3),
    no("etcd-s3-endpoint-ca", Text, "", NO_S3),
    no("etcd-s3-skip-ssl-verify", Bool, "false", NO_S3),
    no("etcd-s3-access-key", Text, "", NO_S3),
    no("etcd-s3-secret-key", Text, "", NO_S3),
    no("etcd-s3-session-token", Text, "", NO_S3),
    no("etcd-s3-bucket", Text, "", NO_S3),
    no("etcd-s3-bucket-lookup-type", Text, "", NO_S3),
    no("etcd-s3-region", Text, "us-east-1", NO_S3),
    no("etcd-s3-folder", Text, "", NO_S3),
    no("etcd-s3-proxy", Text, "", NO_S3),
    no("etcd-s3-insecure", Bool, "false", NO_S3),
    no("etcd-s3-timeout", Duration, "5m", NO_S3),
    no("etcd-s3-retention", Int, "5", NO_S3),
    no("etcd-s3-config-secret", Text, "", NO_S3),

    on(Components, "disable", List, "", "Packaged components to leave out (coredns, servicelb, traefik, local-storage, metrics-server, runtimes); the same on every server. None is packaged yet."),
    on(Components, "disable-cloud-controller", Bool, "false", "Leave the cloud controller out; the same on every server. None is built in yet."),
    on(Components, "disable-kube-proxy", Bool, "false", "Leave kube-proxy out; the same on every server. None is built in yet."),
    on(Components, "disable-network-policy", Bool, "false", "Leave network policies out; the same on every server. None are built in yet."),
    on(Components, "disable-helm-controller", Bool, "false", "Leave the Helm controller out; the same on every server. None is built in yet."),
    on(Components, "embedded-registry", Bool, "false", "Nodes share images; the same on every server. None do yet."),
    off("disable-scheduler", Bool, "false", NO_API),
    off("disable-apiserver", Bool, "false", NO_API),
    off("disable-controller-manager", Bool, "false", NO_API),
    off("disable-agent", Bool, "false", NO_AGENT),
    no("disable-etcd", Bool, "false", "a server without a store of its own is not offered yet"),

    no("secrets-encryption", Bool, "false", "Secrets are not encrypted yet (nor are there any without the API server)"),
    no("secrets-encryption-provider", Choice(&["aescbc", "secretbox"]), "aescbc", "Secrets are not encrypted yet"),
    no("rootless", Bool, "false", "running without root is not tried yet"),
    off("kube-apiserver-arg", Strings, "", NO_API),
    off("kube-scheduler-arg", Strings, "", NO_API),
    off("kube-controller-manager-arg", Strings, "", NO_API),
    off("kube-cloud-controller-manager-arg", Strings, "", NO_API),
    off("kube-controller-arg", Strings, "", NO_API),
    off("write-kubeconfig", Text, "", NO_API).or(&["o"]),
    off("write-kubeconfig-mode", Text, "", NO_API),
    off("write-kubeconfig-group", Text, "", NO_API),
    off("helm-job-image", Text, "", NO_PACKAGES),
    off("default-local-storage-path", Text, "", NO_PACKAGES),
    off("system-default-registry", Text, "", NO_PACKAGES),
    off("airgap-extra-registry", Strings, "", NO_PACKAGES),
    off("kine-tls", Bool, "false", "the store is called directly, not over a socket"),

    on(Node, "node-name", Text, "", "Name of this node, in lower case; the host's if not given."),
    on(Node, "with-node-id", Bool, "false", "Append a fixed random id to the node's name."),
    on(Node, "node-ip", List, "", "Addresses of this node; the one towards the default route if not given."),
    on(Node, "node-external-ip", List, "", "Addresses of this node for others outside of its network; they stand in its certificates."),
    off("node-internal-dns", Strings, "", NO_AGENT),
    off("node-external-dns", Strings, "", NO_AGENT),
    off("node-label", Strings, "", NO_AGENT),
    off("node-taint", Strings, "", NO_AGENT),
    off("image-credential-provider-bin-dir", Text, "", NO_AGENT),
    off("image-credential-provider-config", Text, "", NO_AGENT),
    off("docker", Bool, "false", NO_AGENT),
    off("container-runtime-endpoint", Text, "", NO_AGENT),
    off("image-service-endpoint", Text, "", NO_AGENT),
    off("default-runtime", Text, "", NO_AGENT),
    off("disable-default-registry-endpoint", Bool, "false", NO_AGENT),
    off("nonroot-devices", Bool, "false", NO_AGENT),
    off("pause-image", Text, "", NO_AGENT),
    off("snapshotter", Text, "", NO_AGENT),
    off("private-registry", Text, "", NO_AGENT),
    off("resolv-conf", Text, "", NO_AGENT),
    off("flannel-iface", Text, "", NO_AGENT),
    off("flannel-conf", Text, "", NO_AGENT),
    off("flannel-cni-conf", Text, "", NO_AGENT),
    off("vpn-auth", Text, "", NO_AGENT),
    off("vpn-auth-file", Text, "", NO_AGENT),
    off("kubelet-arg", Strings, "", NO_AGENT),
    off("kube-proxy-arg", Strings, "", NO_AGENT),
    off("protect-kernel-defaults", Bool, "false", NO_AGENT),
    off("selinux", Bool, "false", NO_AGENT),
    off("lb-server-port", Int, "6444", NO_AGENT),
    off("disable-apiserver-lb", Bool, "false", NO_AGENT),
    off("enable-pprof", Bool, "false", "profiles are served by skiff etcd alone so far"),
    off("prefer-bundled-bin", Bool, "false", "no programs are bundled yet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_or_ignored_says_why() {
        for flag in SERVER.flags {
            let refused = matches!(flag.effect, Effect::Refused(_));
            assert_eq!(flag.group == Group::Refused, refused, "{}", flag.name);
        }
    }
}
