//! The certificates of a node.

/// A certificate that a node has. Names of files and routes are K3s's, but for its own name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The node itself, towards API servers and servers.
    ClientKubelet,
    /// The node's kubelet, towards those that connect to it.
    ServingKubelet,
    /// The node's proxy, towards API servers.
    ClientKubeProxy,
    /// The agent's controllers, towards API servers.
    ClientController,
}

impl Kind {
    /// Every one; the node's own first, since it stands for the token later.
    pub const ALL: [Kind; 4] =
        [Kind::ClientKubelet, Kind::ServingKubelet, Kind::ClientKubeProxy, Kind::ClientController];

    /// Its name in files and routes, without an ending.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::ClientKubelet => "client-kubelet",
            Kind::ServingKubelet => "serving-kubelet",
            Kind::ClientKubeProxy => "client-kube-proxy",
            Kind::ClientController => "client-skiff-controller",
        }
    }
}
