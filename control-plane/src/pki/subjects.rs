//! Who there is: the authorities, and whom they certify. The names are frozen:
//! Kubernetes' rights and K3s's tools go by them.

use std::net::IpAddr;

use super::{Names, NodeCertificate};

/// An authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ca {
    /// Certifies the ports that clients and nodes use.
    Server,
    /// Certifies clients.
    Client,
    /// Certifies the proxy in front of extension API servers.
    RequestHeader,
    /// Certifies the store's client port, and its clients.
    EtcdServer,
    /// Certifies members of the store to each other.
    EtcdPeer,
}

impl Ca {
    /// All of them.
    pub const ALL: [Ca; 5] = [Ca::Server, Ca::Client, Ca::RequestHeader, Ca::EtcdServer, Ca::EtcdPeer];

    /// Its files below `server/tls`, without their endings.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Ca::Server => "server-ca",
            Ca::Client => "client-ca",
            Ca::RequestHeader => "request-header-ca",
            Ca::EtcdServer => "etcd/server-ca",
            Ca::EtcdPeer => "etcd/peer-ca",
        }
    }

    /// What one that is made is called.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Ca::Server => "skiff-server-ca",
            Ca::Client => "skiff-client-ca",
            Ca::RequestHeader => "skiff-request-header-ca",
            Ca::EtcdServer => "etcd-server-ca",
            Ca::EtcdPeer => "etcd-peer-ca",
        }
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To be connected to.
    Server,
    /// To connect.
    Client,
    /// Both.
    Both,
}

/// Which names stand in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sans {
    None,
    Own,
    OwnAndPublic,
}

/// A certificate of the server's own.
#[derive(Debug)]
pub struct Leaf {
    /// Its files below `server/tls`, without their endings.
    pub path: &'static str,
    /// What `certificate rotate --service` calls it.
    pub service: &'static str,
    /// Who certifies it.
    pub ca: Ca,
    common_name: &'static str,
    organization: Option<&'static str>,
    usage: Use,
    sans: Sans,
}

/// What shall stand in a certificate.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) common_name: String,
    pub(super) organization: Option<String>,
    pub(super) usage: Use,
    pub(super) names: Vec<String>,
}

const fn client(
    service: &'static str,
    path: &'static str,
    common_name: &'static str,
    organization: Option<&'static str>,
) -> Leaf {
    Leaf { path, service, ca: Ca::Client, common_name, organization, usage: Use::Client, sans: Sans::None }
}

const MASTERS: Option<&str> = Some("system:masters");

/// The server's own certificates.
pub const LEAVES: &[Leaf] = &[
    client("admin", "client-admin", "system:admin", MASTERS),
    client("supervisor", "client-supervisor", "system:skiff-supervisor", MASTERS),
    client("controller-manager", "client-controller", "system:kube-controller-manager", None),
    client("scheduler", "client-scheduler", "system:kube-scheduler", None),
    client("api-server", "client-kube-apiserver", "system:apiserver", MASTERS),
    client("kube-proxy", "client-kube-proxy", "system:kube-proxy", None),
    client("skiff-controller", "client-skiff-controller", "system:skiff-controller", None),
    client("cloud-controller", "client-skiff-cloud-controller", "skiff-cloud-controller-manager", None),
    Leaf { ca: Ca::RequestHeader, ..client("auth-proxy", "client-auth-proxy", "system:auth-proxy", None) },
    Leaf {
        ca: Ca::Server,
        usage: Use::Server,
        sans: Sans::OwnAndPublic,
        ..client("api-server", "serving-kube-apiserver", "kube-apiserver", None)
    },
    Leaf { ca: Ca::EtcdServer, ..client("etcd", "etcd/client", "etcd-client", None) },
    Leaf {
        ca: Ca::EtcdServer,
        usage: Use::Both,
        sans: Sans::Own,
        ..client("etcd", "etcd/server-client", "etcd-server", None)
    },
    Leaf {
        ca: Ca::EtcdPeer,
        usage: Use::Both,
        sans: Sans::Own,
        ..client("etcd", "etcd/peer-server-client", "etcd-peer", None)
    },
];

impl Leaf {
    pub(super) fn names(&self, names: &Names) -> Vec<String> {
        let mut wanted: Vec<String> = match self.sans {
            Sans::None => Vec::new(),
            Sans::Own => names.own.clone(),
            Sans::OwnAndPublic => names.own.iter().chain(&names.public).cloned().collect(),
        };
        wanted.sort();
        wanted.dedup();
        wanted
    }

    pub(super) fn request(&self, names: &[String]) -> Request {
        Request {
            common_name: self.common_name.to_owned(),
            organization: self.organization.map(str::to_owned),
            usage: self.usage,
            names: names.to_vec(),
        }
    }
}

/// What stands in a certificate for a node.
pub(super) fn for_node(kind: NodeCertificate, node: &str, addresses: &[IpAddr]) -> (Ca, Request) {
    let request = |common_name: &str, organization: Option<&str>| Request {
        common_name: common_name.to_owned(),
        organization: organization.map(str::to_owned),
        usage: Use::Client,
        names: Vec::new(),
    };
    match kind {
        NodeCertificate::ServingKubelet => {
            let own = ["127.0.0.1".to_owned(), "localhost".to_owned(), node.to_owned()];
            let names = own.into_iter().chain(addresses.iter().map(ToString::to_string)).collect();
            (Ca::Server, Request { usage: Use::Server, names, ..request(node, None) })
        }
        NodeCertificate::ClientKubelet => {
            (Ca::Client, request(&format!("system:node:{node}"), Some("system:nodes")))
        }
        NodeCertificate::ClientKubeProxy => (Ca::Client, request("system:kube-proxy", None)),
        NodeCertificate::ClientController => (Ca::Client, request("system:skiff-controller", None)),
    }
}
