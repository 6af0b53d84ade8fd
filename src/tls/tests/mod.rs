use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::options::KeyFiles;
use super::reload::Reload;
use super::*;

mod restrictions;
mod versions;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir: dir.to_owned() }
    }

    fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn issue(&self, name: &str, common_name: &str) -> KeyFiles {
        self.issue_for(name, common_name, &["localhost"], None)
    }

    /// A certificate for hosts and addresses, with a serial number.
    fn issue_for(&self, name: &str, common_name: &str, hosts: &[&str], serial: Option<u64>) -> KeyFiles {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.serial_number = serial.map(Into::into);
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = KeyFiles {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::write(&files.cert, certificate.pem()).unwrap();
        files
    }
}

fn options() -> TlsOptions {
    TlsOptions::none()
}

/// Shakes hands; answers the server's certificate and the client's name.
async fn meet(
    server: &ServerTls,
    client: Arc<rustls::ClientConfig>,
) -> std::io::Result<(CertificateDer<'static>, Option<String>)> {
    meet_from(server, client, None).await
}

/// The same with a client at an address.
async fn meet_from(
    server: &ServerTls,
    client: Arc<rustls::ClientConfig>,
    remote: Option<&str>,
) -> std::io::Result<(CertificateDer<'static>, Option<String>)> {
    let remote = remote.map(|address| address.parse().unwrap());
    let (near, far) = tokio::io::duplex(16 << 10);
    let connect = async {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        // A server that refuses the certificate says so after the handshake.
        stream.read_u8().await?;
        Ok::<_, std::io::Error>(shown)
    };
    let serve = async {
        let mut accepted = accept(server, far, remote).await?;
        accepted.stream.write_u8(1).await?;
        Ok::<_, std::io::Error>(accepted.common_name)
    };
    let (shown, name) = tokio::join!(connect, serve);
    Ok((shown?, name?))
}

#[tokio::test]
async fn clients_are_asked_for_a_certificate_of_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let mut served = options();
    served.server = Some(authority.issue("server", "server"));
    served.ca = Some(authority.ca());
    let server = ServerTls::new(&served).unwrap().unwrap();

    let mut asking = options();
    asking.server = Some(authority.issue("alice", "alice"));
    asking.ca = Some(authority.ca());
    let known = PeerClientTls::new(&asking).unwrap().unwrap();
    assert_eq!(meet(&server, known.config()).await.unwrap().1.as_deref(), Some("alice"));

    let elsewhere = tempfile::tempdir().unwrap();
    asking.server = Some(Authority::new(elsewhere.path()).issue("mallory", "alice"));
    let unknown = PeerClientTls::new(&asking).unwrap().unwrap();
    assert!(meet(&server, unknown.config()).await.is_err());
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_once_and_kept_private() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir().unwrap();
    let fixtures = dir.path().join("fixtures/peer");
    let mut tls = options();
    tls.auto = true;
    tls.auto_years = 3;
    tls.prepare(&fixtures, &["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = tls.server.clone().unwrap();
    assert_eq!(fs::metadata(&files.key).unwrap().mode() & 0o777, 0o600);
    let first = fs::read(&files.cert).unwrap();
    let der = load::certificates(&files.cert).unwrap().remove(0);
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let now = ASN1Time::now().timestamp();
    let left = parsed.validity().not_after.timestamp() - now;
    assert!((left - 3 * 365 * 86_400).abs() < 600, "{left} seconds are not three years");
    assert!(parsed.validity().not_before.timestamp() < now);
    let server = ServerTls::new(&tls).unwrap().unwrap();
    let client = PeerClientTls::new(&tls).unwrap().unwrap();
    meet(&server, client.config()).await.unwrap();

    let mut again = options();
    again.auto = true;
    again.prepare(&fixtures, &["localhost".to_owned()]).unwrap();
    assert_eq!(fs::read(&files.cert).unwrap(), first);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let mut served = options();
    served.server = Some(authority.issue("server", "old"));
    let server = ServerTls::new(&served).unwrap().unwrap();
    let mut asking = options();
    asking.server = Some(authority.issue("client", "client"));
    asking.ca = Some(authority.ca());
    let client = PeerClientTls::new(&asking).unwrap().unwrap();
    let before = meet(&server, client.config()).await.unwrap().0;

    authority.issue("server", "new");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let now = meet(&server, client.config()).await.unwrap().0;
        if now != before {
            assert_eq!(names::common_name(&now).as_deref(), Some("new"));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the renewed certificate was never served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn unusable_new_files_leave_the_old_value_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("number");
    fs::write(&path, "1").unwrap();
    let read = path.clone();
    let make = move || {
        fs::read_to_string(&read).map_err(|e| e.to_string())?.parse::<u32>().map_err(|e| e.to_string())
    };
    let value = Reload::with_interval(vec![path.clone()], Duration::ZERO, make).unwrap();
    assert_eq!(*value.get(), 1);
    fs::write(&path, "half a fi").unwrap();
    assert_eq!(*value.get(), 1);
    fs::remove_file(&path).unwrap();
    assert_eq!(*value.get(), 1);
    fs::write(&path, "22").unwrap();
    assert_eq!(*value.get(), 22);
}

#[test]
fn what_is_missing_is_named() {
    let mut tls = options();
    tls.server = Some(KeyFiles { cert: "/no/cert.pem".into(), key: "/no/key.pem".into() });
    let error = ServerTls::new(&tls).err().unwrap();
    assert!(error.contains("/no/"), "{error}");
    let error = PeerClientTls::new(&tls).err().unwrap();
    assert!(error.contains("--peer-trusted-ca-file"), "{error}");
}
