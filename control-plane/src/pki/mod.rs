//! Authorities and certificates: K3s's files below `server/tls`.
//!
//! Whatever is there before the first start is used: an operator may place own
//! authorities, alone or below a root. What is missing is made. Certificates are
//! made anew well before they end, while the server runs; whoever serves by them
//! reads changed files again.
//!
//! Not here: replacing an authority while it is in use.

mod authority;
mod facts;
mod keys;
mod subjects;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rcgen::KeyPair;

pub use authority::Authority;
pub use facts::Facts;
pub use subjects::{Ca, LEAVES, Leaf};

use crate::files;

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate that ends within this is made anew.
pub const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 60 * 60);
/// The key that signs service accounts' tokens.
pub const SERVICE_KEY: &str = "service.key";

/// Who this server is, in its certificates.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Its own names and addresses.
    pub own: Vec<String>,
    /// More names of the port that clients and nodes use: load balancers, the
    /// cluster's own names for its API.
    pub public: Vec<String>,
}

/// The kind of certificate a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCertificate {
    /// The kubelet's port.
    ServingKubelet,
    /// The kubelet, as a client.
    ClientKubelet,
    /// kube-proxy.
    ClientKubeProxy,
    /// The agent's own controllers.
    ClientController,
}

/// The state of a certificate, for who looks after it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its file, below `server/tls`.
    pub file: String,
    /// What is in it: the certificate itself, then the authorities above it.
    pub facts: Vec<Facts>,
}

/// The certificates of a server.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    names: Mutex<Names>,
    /// One writer at a time.
    writing: Mutex<()>,
}

impl Pki {
    /// Those in this folder, for a server of these names.
    #[must_use]
    pub fn new(dir: PathBuf, names: Names) -> Pki {
        Pki { dir, names: Mutex::new(names), writing: Mutex::new(()) }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in it: `path` without its ending, which is `.crt` or `.key`.
    #[must_use]
    pub fn file(&self, path: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{path}.{ending}"))
    }

    /// True if the authorities are all there.
    #[must_use]
    pub fn has_authorities(&self) -> bool {
        Ca::ALL.iter().all(|ca| self.file(ca.path(), "crt").exists() && self.file(ca.path(), "key").exists())
    }

    /// Makes the authorities that are missing, and the key for service accounts;
    /// checks those that are there.
    ///
    /// # Errors
    /// A sentence: half of a pair is missing, or one cannot be used.
    pub fn ensure_authorities(&self) -> Result<(), String> {
        let _writing = self.writing.lock();
        for ca in Ca::ALL {
            let (cert, key) = (self.file(ca.path(), "crt"), self.file(ca.path(), "key"));
            match (cert.exists(), key.exists()) {
                (true, true) => {
                    Authority::load(&cert, &key)?;
                }
                (false, false) => {
                    let (cert_pem, key_pem) = authority::make(ca.title(), SystemTime::now())?;
                    // The certificate last: both are there, or the pair is made anew.
                    files::write(&key, key_pem.as_bytes())?;
                    files::write(&cert, cert_pem.as_bytes())?;
                }
                // Ours write the key first: one without a certificate was not used yet,
                // unless it was placed by hand, and then its other half is missed too.
                (true, false) => return Err(half(&cert, &key)),
                (false, true) => return Err(half(&key, &cert)),
            }
        }
        let service = self.dir.join(SERVICE_KEY);
        match files::read(&service)? {
            Some(pem) => keys::check_service_key(&pem).map_err(|e| format!("{}: {e}", service.display())),
            None => {
                let key = KeyPair::generate().map_err(|e| format!("cannot make a key: {e}"))?;
                files::write(&service, key.serialize_pem().as_bytes())
            }
        }
    }

    /// Makes every certificate that is missing, ends within [`RENEW_BEFORE`] of
    /// `now`, is by another authority, or lacks a name; answers which.
    ///
    /// # Errors
    /// A sentence: an authority or a file cannot be used.
    pub fn ensure_leaves(&self, now: SystemTime) -> Result<Vec<&'static str>, String> {
        self.renew(now, |_| false)
    }

    /// Makes these certificates anew, whatever their age; all if `only` is empty.
    ///
    /// # Errors
    /// As [`Pki::ensure_leaves`].
    pub fn rotate(&self, now: SystemTime, only: &[String]) -> Result<Vec<&'static str>, String> {
        self.renew(now, |leaf| only.is_empty() || only.iter().any(|name| name == leaf.service))
    }

    /// The same by one who does not know the server's names: each certificate keeps
    /// those that it has. One that is not there is not made.
    ///
    /// # Errors
    /// As [`Pki::ensure_leaves`].
    pub fn rotate_keeping_names(
        &self,
        now: SystemTime,
        only: &[String],
    ) -> Result<Vec<&'static str>, String> {
        let _writing = self.writing.lock();
        let mut renewed = Vec::new();
        for leaf in
            LEAVES.iter().filter(|leaf| only.is_empty() || only.iter().any(|name| name == leaf.service))
        {
            let path = self.file(leaf.path, "crt");
            let Some(pem) = files::read(&path)? else { continue };
            let facts = Facts::all(&pem).map_err(|e| format!("{}: {e}", path.display()))?;
            let names = facts.into_iter().next().map(|facts| facts.names).unwrap_or_default();
            self.make(leaf, &self.authority(leaf.ca)?, &names, now)?;
            renewed.push(leaf.path);
        }
        Ok(renewed)
    }

    fn renew(&self, now: SystemTime, asked: impl Fn(&Leaf) -> bool) -> Result<Vec<&'static str>, String> {
        let _writing = self.writing.lock();
        let names = self.names.lock().clone();
        let mut renewed = Vec::new();
        for leaf in LEAVES {
            let authority = self.authority(leaf.ca)?;
            let wanted = leaf.names(&names);
            if asked(leaf) || !self.is_good(leaf, &authority, &wanted, now) {
                self.make(leaf, &authority, &wanted, now)?;
                renewed.push(leaf.path);
            }
        }
        Ok(renewed)
    }

    fn make(
        &self,
        leaf: &Leaf,
        authority: &Authority,
        names: &[String],
        now: SystemTime,
    ) -> Result<(), String> {
        let key = KeyPair::generate().map_err(|e| format!("cannot make a key: {e}"))?;
        let pem = authority.issue(&leaf.request(names), &key, now)?;
        // A reader that meets the new key with the old certificate keeps what it has,
        // and looks again.
        files::write(&self.file(leaf.path, "key"), key.serialize_pem().as_bytes())?;
        files::write(&self.file(leaf.path, "crt"), pem.as_bytes())
    }

    fn is_good(&self, leaf: &Leaf, authority: &Authority, wanted: &[String], now: SystemTime) -> bool {
        let (cert, key) = (self.file(leaf.path, "crt"), self.file(leaf.path, "key"));
        let (Ok(Some(pem)), Ok(Some(key))) = (files::read(&cert), files::read(&key)) else { return false };
        let Ok(facts) = Facts::all(&pem) else { return false };
        let Some(own) = facts.first() else { return false };
        let names: BTreeSet<&str> = own.names.iter().map(String::as_str).collect();
        let fits = keys::read(&key).is_ok_and(|key| own.public_key == key.public_key_raw());
        // One that an ending authority makes would not last longer than this one.
        let ends_early = own.ends_within(now, RENEW_BEFORE) && authority.not_after > own.not_after + DAY;
        fits && authority.issued(&pem)
            && !ends_early
            && own.not_before <= now
            && wanted.iter().all(|name| names.contains(name.as_str()))
    }

    /// An authority, with its key.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn authority(&self, ca: Ca) -> Result<Authority, String> {
        Authority::load(&self.file(ca.path(), "crt"), &self.file(ca.path(), "key"))
    }

    /// The authorities of the port that clients and nodes use, as PEM.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn bundle(&self, ca: Ca) -> Result<Vec<u8>, String> {
        let path = self.file(ca.path(), "crt");
        files::read(&path)?.ok_or_else(|| format!("{} is missing", path.display()))
    }

    /// Signs what a node asks for. Only the key is taken from its request: name,
    /// rights and end are the server's to say.
    ///
    /// # Errors
    /// A sentence: the request is malformed or not signed by its own key.
    pub fn sign(
        &self,
        kind: NodeCertificate,
        csr: &[u8],
        node: &str,
        addresses: &[IpAddr],
        now: SystemTime,
    ) -> Result<String, String> {
        let key = keys::requested(csr)?;
        let (ca, request) = subjects::for_node(kind, node, addresses);
        self.authority(ca)?.issue(&request, &key, now)
    }

    /// What is in every file of certificates.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn check(&self) -> Result<Vec<Checked>, String> {
        let paths = LEAVES.iter().map(|leaf| leaf.path).chain(Ca::ALL.iter().map(|ca| ca.path()));
        let mut checked = Vec::new();
        for file in paths.map(|path| format!("{path}.crt")) {
            let path = self.dir.join(&file);
            if let Some(pem) = files::read(&path)? {
                let facts = Facts::all(&pem).map_err(|e| format!("{}: {e}", path.display()))?;
                checked.push(Checked { file, facts });
            }
        }
        Ok(checked)
    }
}

fn half(there: &Path, missing: &Path) -> String {
    format!(
        "{} is there but {} is not: place both to bring your own authority, or remove the one to have a new \
         authority made (nobody trusts that one yet)",
        there.display(),
        missing.display()
    )
}

#[cfg(test)]
mod tests;
