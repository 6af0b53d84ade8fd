//! Certificates of authorities made for a test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

use super::process::{Scratch, give};

/// A folder with an authority (`ca.pem`), certificates by it for a server on
/// 127.0.0.1 (`server`) and for the user `app`; and another authority
/// (`other.pem`) with another certificate for `app` (`stranger`).
pub struct Certificates(Scratch);

impl Certificates {
    /// Makes them, to be read by `user`'s servers.
    pub fn new(user: &str) -> Self {
        let folder = Scratch::new("skiff-certificates-");
        let ours = authority(folder.path(), "ca");
        issue(folder.path(), &ours, "server", "server");
        issue(folder.path(), &ours, "app", "app");
        let other = authority(folder.path(), "other");
        issue(folder.path(), &other, "stranger", "app");
        give(folder.path(), user);
        Self(folder)
    }

    /// The path of a file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An argument or a setting with a file as its value.
    pub fn setting(&self, name: &str, file: &str) -> String {
        format!("{name}={}", self.file(file).display())
    }
}

fn authority(folder: &Path, name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("test authority {name}"));
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
    std::fs::write(folder.join(format!("{name}.pem")), authority.pem()).expect("a file");
    authority
}

fn issue(folder: &Path, authority: &CertifiedIssuer<'static, KeyPair>, file: &str, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    std::fs::write(folder.join(format!("{file}.pem")), certificate.pem()).expect("a file");
    let key_file = folder.join(format!("{file}.key"));
    std::fs::write(&key_file, key.serialize_pem()).expect("a file");
    // PostgreSQL takes no key that others may read.
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("its rights");
}
