//! Certificates of an authority made for a test.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

use crate::Fault;

/// The name of a certificate that bears no common name.
pub const NAMELESS: &str = "nameless";

/// Writes an authority (`ca.pem`), a server's certificate (`server.pem`, `server.key`) and one for each
/// user, whose common name it bears; that of [`NAMELESS`] bears none. All are for 127.0.0.1.
///
/// # Errors
/// A file cannot be written.
pub fn write(dir: &Path, users: &[&str]) -> Result<(), Fault> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(dir.join("ca.pem"), authority.pem())?;
    for name in users.iter().chain(&["server"]) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "tests");
        if *name != NAMELESS {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem())?;
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}
