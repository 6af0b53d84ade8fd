//! Certificates of `--auto-tls`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use chrono::{DateTime, Datelike, Utc};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

use super::options::KeyFiles;

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
    let now: DateTime<Utc> = std::time::SystemTime::now().into();
    let mut params = CertificateParams::new(hosts.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "etcd");
    params.distinguished_name = name;
    // A day of grace for clocks that go wrong; never the 29th of February.
    let (month, day) = (u8::try_from(now.month()).unwrap_or(1), u8::try_from(now.day()).unwrap_or(1).min(28));
    params.not_before = rcgen::date_time_ymd(now.year(), month, day) - std::time::Duration::from_secs(86_400);
    params.not_after = rcgen::date_time_ymd(now.year() + i32::try_from(years).unwrap_or(1), month, day);
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
