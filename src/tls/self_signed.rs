//! Certificates of `--auto-tls`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::options::KeyFiles;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The self-signed certificate in `dir`, made if it is not there.
///
/// # Errors
/// A sentence with the path.
pub(crate) fn ensure(dir: &Path, hosts: &[String], years: u32) -> Result<KeyFiles, String> {
    let files = KeyFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let (cert, key) =
        make(hosts, years).map_err(|e| format!("cannot make a self-signed certificate: {e}"))?;
    let at = |path: &Path, e: std::io::Error| format!("cannot write {}: {e}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| at(dir, e))?;
    // The certificate last: both are there, or the pair is made anew.
    let _ = fs::remove_file(&files.cert);
    write(&files.key, &key).map_err(|e| at(&files.key, e))?;
    write(&files.cert, &cert).map_err(|e| at(&files.cert, e))?;
    Ok(files)
}

fn make(hosts: &[String], years: u32) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "etcd");
    params.distinguished_name = name;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = epoch + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = now - DAY; // of grace, for clocks that go wrong
    params.not_after = now + DAY * 365 * years;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
