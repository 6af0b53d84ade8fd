//! Where a server's files are: K3s's places below the data folder.

use std::path::{Path, PathBuf};

/// The places below one data folder.
#[derive(Debug, Clone)]
pub struct Layout {
    server: PathBuf,
}

impl Layout {
    /// Those of this data folder.
    #[must_use]
    pub fn new(data_dir: &Path) -> Layout {
        Layout { server: data_dir.join("server") }
    }

    /// Everything of the server.
    #[must_use]
    pub fn server(&self) -> &Path {
        &self.server
    }

    /// Authorities, certificates and keys.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.server.join("tls")
    }

    /// The secret that servers join with.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.server.join("token")
    }

    /// A link to it, by an older name.
    #[must_use]
    pub fn node_token(&self) -> PathBuf {
        self.server.join("node-token")
    }

    /// The secret that agents join with.
    #[must_use]
    pub fn agent_token(&self) -> PathBuf {
        self.server.join("agent-token")
    }

    /// The store's data.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.server.join("db/etcd")
    }

    /// The store's name in its cluster.
    #[must_use]
    pub fn member_name(&self) -> PathBuf {
        self.etcd().join("name")
    }

    /// True once this server has a store of its own.
    #[must_use]
    pub fn has_member(&self) -> bool {
        self.etcd().join("member/metadata").exists()
    }

    /// The SQLite database that is used if one is asked for without a path.
    #[must_use]
    pub fn sqlite(&self) -> PathBuf {
        self.server.join("db/state.db")
    }

    /// What to source in a shell to use etcdctl.
    #[must_use]
    pub fn etcdctl(&self) -> PathBuf {
        self.server.join("etcdctl.env")
    }

    /// A fixed random id of this machine.
    #[must_use]
    pub fn node_id(&self) -> PathBuf {
        self.server.join("node-id")
    }
}
