//! A cluster's authorities, as `/cacerts` serves them.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hash::CaHash;

/// The authorities of a cluster, with the hash that a token holds of them.
///
/// One certificate is hashed as the bytes of the file. Of more, the root above the first
/// one stands for all, so that what is between may be replaced while tokens stay good;
/// then only certificates that the root vouches for are trusted. Where there is no such
/// root, all bytes are hashed, and all certificates are trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaBundle {
    pem: Vec<u8>,
    hash: CaHash,
    trusted: Vec<CertificateDer<'static>>,
}

/// Why bytes are no bundle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    /// More than any bundle holds.
    #[error(
        "the bundle of authorities is larger than {} bytes or {} certificates",
        CaBundle::MAX_BYTES,
        CaBundle::MAX_CERTIFICATES
    )]
    TooLarge,
    /// Not PEM, or a certificate in it cannot be read.
    #[error("the bundle of authorities cannot be read: {0}")]
    Malformed(String),
    /// No certificate in it.
    #[error("the bundle of authorities holds no certificate")]
    Empty,
}

impl CaBundle {
    /// The largest bundle that is read.
    pub const MAX_BYTES: usize = 256 << 10;
    /// The most certificates that are read.
    pub const MAX_CERTIFICATES: usize = 32;

    /// Reads a bundle of certificates in PEM.
    ///
    /// # Errors
    /// It is too large, empty or malformed.
    pub fn from_pem(pem: Vec<u8>) -> Result<Self, BundleError> {
        if pem.len() > Self::MAX_BYTES {
            return Err(BundleError::TooLarge);
        }
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            if certificates.len() == Self::MAX_CERTIFICATES {
                return Err(BundleError::TooLarge);
            }
            certificates.push(certificate.map_err(|e| BundleError::Malformed(e.to_string()))?);
        }
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        let parsed = certificates
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| BundleError::Malformed(e.to_string()))?;
        let (hash, trusted) = match root_of_first(&parsed) {
            Some((root, below)) => (CaHash::of(&certificates[root]), below),
            None => (CaHash::of(&pem), (0..certificates.len()).collect()),
        };
        let trusted = trusted.into_iter().map(|index| certificates[index].clone()).collect();
        Ok(CaBundle { pem, hash, trusted })
    }

    /// The bytes it was read from.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// What a token holds of it.
    #[must_use]
    pub fn hash(&self) -> CaHash {
        self.hash
    }

    /// The certificates that the hash vouches for, and no others.
    #[must_use]
    pub fn trusted(&self) -> &[CertificateDer<'static>] {
        &self.trusted
    }
}

/// The root above the first of several certificates, and every certificate it vouches for.
fn root_of_first(certificates: &[X509Certificate<'_>]) -> Option<(usize, Vec<usize>)> {
    (1..certificates.len()).filter(|&index| issued(&certificates[index], &certificates[index])).find_map(
        |root| {
            let below = vouched_for(root, certificates);
            below.contains(&0).then_some((root, below))
        },
    )
}

fn vouched_for(root: usize, certificates: &[X509Certificate<'_>]) -> Vec<usize> {
    let mut known = vec![root];
    let mut next = 0;
    while let Some(&issuer) = known.get(next) {
        for (index, certificate) in certificates.iter().enumerate() {
            if !known.contains(&index) && issued(&certificates[issuer], certificate) {
                known.push(index);
            }
        }
        next += 1;
    }
    known
}

/// True if the one, an authority, signed the other.
fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.is_ca()
        && certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn root(name: &str) -> Authority {
        CertifiedIssuer::self_signed(params(name), KeyPair::generate().unwrap()).unwrap()
    }

    fn below(name: &str, issuer: &Authority) -> Authority {
        CertifiedIssuer::signed_by(params(name), KeyPair::generate().unwrap(), issuer).unwrap()
    }

    fn bundle(authorities: &[&Authority]) -> CaBundle {
        CaBundle::from_pem(authorities.iter().map(|a| a.pem()).collect::<String>().into_bytes()).unwrap()
    }

    #[test]
    fn one_certificate_is_hashed_as_the_file() {
        let ca = root("ca");
        let bundle = bundle(&[&ca]);
        assert_eq!(bundle.hash(), CaHash::of(ca.pem().as_bytes()));
        assert_eq!(bundle.trusted(), [ca.der().clone()]);
        assert_eq!(bundle.pem(), ca.pem().as_bytes());
    }

    #[test]
    fn of_a_chain_the_root_is_hashed_so_that_intermediates_may_change() {
        let root = root("root");
        let (middle, other) = (below("middle", &root), below("other", &root));
        let ca = below("ca", &middle);
        let first = bundle(&[&ca, &middle, &root]);
        assert_eq!(first.hash(), CaHash::of(root.der()));
        assert_eq!(first.trusted().len(), 3);
        assert_eq!(bundle(&[&other, &root]).hash(), first.hash());
    }

    #[test]
    fn a_stranger_beside_a_pinned_root_is_not_trusted() {
        let (root, stranger) = (root("root"), root("stranger"));
        let ca = below("ca", &root);
        let bundle = bundle(&[&ca, &root, &stranger]);
        assert_eq!(bundle.hash(), CaHash::of(root.der()));
        assert!(!bundle.trusted().contains(stranger.der()));
    }

    #[test]
    fn a_first_certificate_that_the_root_did_not_sign_hides_behind_no_root() {
        let (root, same_name) = (root("root"), root("root"));
        let forged = below("ca", &same_name);
        let bundle = bundle(&[&forged, &root]);
        assert_ne!(bundle.hash(), CaHash::of(root.der()));
        assert_eq!(bundle.hash(), CaHash::of(bundle.pem()));
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(CaBundle::from_pem(Vec::new()), Err(BundleError::Empty));
        assert_eq!(CaBundle::from_pem(b"no PEM".to_vec()), Err(BundleError::Empty));
        assert_eq!(CaBundle::from_pem(vec![b'x'; CaBundle::MAX_BYTES + 1]), Err(BundleError::TooLarge));
        let many = root("ca").pem().repeat(CaBundle::MAX_CERTIFICATES + 1);
        assert_eq!(CaBundle::from_pem(many.into_bytes()), Err(BundleError::TooLarge));
        let cut = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        assert!(matches!(CaBundle::from_pem(cut.into()), Err(BundleError::Malformed(_))));
    }
}
