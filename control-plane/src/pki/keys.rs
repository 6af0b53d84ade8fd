//! Private keys in the forms that tools write, and requests for certificates.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateSigningRequestParams, KeyPair, PublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

/// OIDs, as DER: what kind of key, and which curve.
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const NULL: &[u8] = &[0x05, 0x00];

const INTEGER_ZERO: &[u8] = &[0x02, 0x01, 0x00];
const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;

/// Reads a private key: PKCS #8, or what older tools write for EC and RSA.
pub(super) fn read(pem: &[u8]) -> Result<KeyPair, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| format!("no private key: {e}"))?;
    let pkcs8 = match &key {
        PrivateKeyDer::Pkcs8(key) => key.secret_pkcs8_der().to_vec(),
        PrivateKeyDer::Sec1(key) => wrap(EC, curve(key.secret_sec1_der())?, key.secret_sec1_der()),
        PrivateKeyDer::Pkcs1(key) => wrap(RSA, NULL, key.secret_pkcs1_der()),
        _ => return Err("a kind of private key that is not known".to_owned()),
    };
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8))
        .map_err(|_| "a private key that cannot be used: it must be RSA, P-256, P-384 or Ed25519".to_owned())
}

/// Checks the key for service accounts. A file of public keys alone signs nothing.
pub(super) fn check_service_key(pem: &[u8]) -> Result<(), String> {
    if PrivateKeyDer::from_pem_slice(pem).is_err() {
        return Err(match SubjectPublicKeyInfoDer::from_pem_slice(pem) {
            Ok(_) => "holds a public key; the private one is needed".to_owned(),
            Err(_) => "holds no private key".to_owned(),
        });
    }
    read(pem).map(drop)
}

/// The curve that such a key names: what stands in it, since nothing else says.
fn curve(sec1: &[u8]) -> Result<&'static [u8], String> {
    let has = |oid: &[u8]| sec1.windows(oid.len()).any(|window| window == oid);
    match (has(P256), has(P384)) {
        (true, false) => Ok(P256),
        (false, true) => Ok(P384),
        _ => Err("an EC key of a curve other than P-256 and P-384".to_owned()),
    }
}

fn wrap(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[algorithm, parameters].concat());
    element(SEQUENCE, &[INTEGER_ZERO, &algorithm, &element(OCTETS, key)].concat())
}

/// One element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match content.len() {
        short @ 0..=127 => element.push(short as u8),
        _ => {
            element.push(0x80 | digits.len() as u8);
            element.extend(digits);
        }
    }
    element.extend_from_slice(content);
    element
}

/// The key that a request for a certificate is about, in DER or PEM; the request
/// must be signed by it.
pub(super) fn requested(csr: &[u8]) -> Result<PublicKey, String> {
    let der = match csr.starts_with(b"-----BEGIN") {
        true => CertificateSigningRequestDer::from_pem_slice(csr)
            .map_err(|e| format!("the request for a certificate is no PEM: {e}"))?,
        false => CertificateSigningRequestDer::from(csr.to_vec()),
    };
    CertificateSigningRequestParams::from_der(&der)
        .map(|request| request.public_key)
        .map_err(|e| format!("the request for a certificate cannot be used: {e}"))
}

/// A time as certificates hold it.
pub(super) fn calendar(at: SystemTime) -> time::OffsetDateTime {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since: Duration = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    epoch + since
}
