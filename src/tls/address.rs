//! Whether a peer comes from where its certificate says
//! (`--peer-skip-client-san-verification` turns it off).
//!
//! As with etcd: a certificate with addresses must bear the one the peer comes
//! from; one with host names must bear one that the address resolves to, or
//! that resolves to the address. One without either may come from anywhere.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

use super::names::{self, AlternativeNames};

/// Checks a certificate against the address of the connection it came by.
///
/// # Errors
/// Why it does not fit.
pub(super) async fn check(certificate: &CertificateDer<'_>, remote: Option<IpAddr>) -> Result<(), String> {
    let borne = names::alternative_names(certificate).ok_or("client certificate cannot be read")?;
    if !borne.addresses && borne.hosts.is_empty() {
        return Ok(());
    }
    let remote = remote
        .ok_or("client certificate bears addresses or host names, and this connection has no address")?
        .to_canonical();
    if borne.addresses && names::is_for_host(certificate, &remote.to_string()) {
        return Ok(());
    }
    if resolves(&borne, remote).await {
        return Ok(());
    }
    Err(format!(
        "tls: {remote} is no address of the client certificate and does not match any of its DNS names {:?} \
         (--peer-skip-client-san-verification would not ask)",
        borne.hosts
    ))
}

async fn resolves(borne: &AlternativeNames, remote: IpAddr) -> bool {
    if borne.hosts.is_empty() {
        return false;
    }
    // Without a name for the address the names are still looked up.
    let back = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&remote)).await;
    if let Ok(Ok(name)) = back
        && bears(&borne.hosts, name.trim_end_matches('.'))
    {
        return true;
    }
    for host in borne.hosts.iter().filter(|host| !host.starts_with("*.")) {
        if let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 0)).await
            && found.any(|found| found.ip().to_canonical() == remote)
        {
            return true;
        }
    }
    false
}

/// True if one of the names, `*.` for any part, is this one.
fn bears(hosts: &[String], name: &str) -> bool {
    hosts.iter().any(|host| match host.strip_prefix('*') {
        Some(rest) if rest.starts_with('.') => name.ends_with(rest),
        _ => host == name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().der().clone()
    }

    #[tokio::test]
    async fn a_certificate_must_be_for_the_address_it_comes_from() {
        let cases: [(&[&str], &str, bool); 8] = [
            (&[], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.1", true),
            (&["192.0.2.1"], "192.0.2.2", false),
            (&["2001:db8::1"], "2001:db8::1", true),
            (&["192.0.2.1"], "::ffff:192.0.2.1", true),
            (&["localhost"], "127.0.0.1", true),
            (&["192.0.2.1", "localhost"], "127.0.0.1", true),
            (&["localhost"], "192.0.2.1", false),
        ];
        for (names, remote, fits) in cases {
            let checked = check(&certificate(names), Some(remote.parse().unwrap())).await;
            assert_eq!(checked.is_ok(), fits, "{names:?} from {remote}: {checked:?}");
        }
        assert!(check(&certificate(&["localhost"]), None).await.is_err());
        assert!(check(&certificate(&[]), None).await.is_ok());
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_resolved_name() {
        let hosts = ["*.example.com".to_owned(), "other.org".to_owned()];
        assert!(
            bears(&hosts, "a.example.com") && bears(&hosts, "a.b.example.com") && bears(&hosts, "other.org")
        );
        assert!(
            !bears(&hosts, "example.com") && !bears(&hosts, "a.other.org") && !bears(&hosts, "xexample.com")
        );
    }
}
