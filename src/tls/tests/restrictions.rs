//! Who may connect, of those that the authority signed.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, date_time_ymd};

use super::*;

impl Authority {
    /// Writes a list of revoked serial numbers.
    fn revoke(&self, path: &Path, serials: &[u64], pem: bool) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2024, 1, 2),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        let bytes = if pem { list.pem().unwrap().into_bytes() } else { list.der().to_vec() };
        fs::write(path, bytes).unwrap();
    }

    /// Options of a member that shows a certificate and asks for one.
    fn options(&self, own: KeyFiles) -> TlsOptions {
        let mut options = options();
        options.server = Some(own);
        options.ca = Some(self.ca());
        options
    }
}

#[tokio::test]
async fn only_allowed_names_may_connect_in_either_direction() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let plain = authority.options(authority.issue("alice", "alice"));
    for (names, hosts, welcome) in [
        (vec!["bob"], vec![], false),
        (vec!["bob", "alice"], vec![], true),
        (vec![], vec!["example.com"], false),
        (vec![], vec!["example.com", "localhost"], true),
    ] {
        let mut choosy = plain.clone();
        choosy.allowed_names = names.into_iter().map(str::to_owned).collect();
        choosy.allowed_hosts = hosts.into_iter().map(str::to_owned).collect();
        for (server, client) in [(&choosy, &plain), (&plain, &choosy)] {
            let server = ServerTls::new(server).unwrap().unwrap();
            let client = PeerClientTls::new(client).unwrap().unwrap();
            assert_eq!(meet(&server, client.config()).await.is_ok(), welcome, "{choosy:?}");
        }
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused_as_soon_as_the_list_says_so() {
    for pem in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(dir.path());
        let list = dir.path().join("revoked");
        authority.revoke(&list, &[41], pem);
        // A serial number whose first bit is set is written with a zero before it.
        let serial = 0xf000_0000_0000_0001;
        let mut served = authority.options(authority.issue_for("server", "server", &["localhost"], Some(7)));
        served.crl = Some(list.clone());
        let server = ServerTls::new(&served).unwrap().unwrap();
        let asking = authority.options(authority.issue_for("alice", "alice", &["localhost"], Some(serial)));
        let client = PeerClientTls::new(&asking).unwrap().unwrap();
        meet(&server, client.config()).await.unwrap();

        authority.revoke(&list, &[41, serial], pem);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while let Ok(met) = meet(&server, client.config()).await {
            assert!(tokio::time::Instant::now() < deadline, "{met:?} is still welcome");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }

        // Who connects looks at the list as well.
        let plain = ServerTls::new(&authority.options(served.server.clone().unwrap())).unwrap().unwrap();
        let mut wary = asking.clone();
        wary.crl = Some(list.clone());
        let other = PeerClientTls::new(&wary).unwrap().unwrap();
        meet(&plain, other.config()).await.unwrap();
        authority.revoke(&list, &[7], pem);
        let wary = PeerClientTls::new(&wary).unwrap().unwrap();
        assert!(meet(&plain, wary.config()).await.is_err());
    }
}

#[test]
fn a_list_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let mut served = authority.options(authority.issue("server", "server"));
    let list = dir.path().join("list");
    served.crl = Some(list.clone());
    assert!(ServerTls::new(&served).err().unwrap().contains("list"));
    fs::write(&list, "nonsense").unwrap();
    assert!(ServerTls::new(&served).err().unwrap().contains("revoked certificates"));
}

#[tokio::test]
async fn peers_must_come_from_where_their_certificates_say() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let mut served = authority.options(authority.issue("server", "server"));
    let asking = authority.options(authority.issue_for("peer", "peer", &["192.0.2.7"], None));
    let client = PeerClientTls::new(&asking).unwrap().unwrap();
    for (check, remote, welcome) in
        [(true, "192.0.2.7", true), (true, "192.0.2.8", false), (false, "192.0.2.8", true)]
    {
        served.check_address = check;
        let server = ServerTls::new(&served).unwrap().unwrap();
        let met = meet_from(&server, client.config(), Some(remote)).await;
        assert_eq!(met.is_ok(), welcome, "{check} {remote}: {met:?}");
    }
}
