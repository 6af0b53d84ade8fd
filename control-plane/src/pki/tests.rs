use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn pki(dir: &Path) -> Pki {
    let names = Names { own: vec!["127.0.0.1".into(), "s1".into()], public: vec!["kubernetes".into()] };
    let pki = Pki::new(dir.join("tls"), names);
    pki.ensure_authorities().unwrap();
    pki
}

fn facts(pki: &Pki, path: &str) -> Facts {
    Facts::all(&fs::read(pki.file(path, "crt")).unwrap()).unwrap().remove(0)
}

#[test]
fn everything_is_made_once_and_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let now = SystemTime::now();
    assert_eq!(pki.ensure_leaves(now).unwrap().len(), LEAVES.len());
    let before = fs::read(pki.file("server-ca", "crt")).unwrap();
    pki.ensure_authorities().unwrap();
    assert_eq!(pki.ensure_leaves(now).unwrap(), Vec::<&str>::new());
    assert_eq!(fs::read(pki.file("server-ca", "crt")).unwrap(), before);
    for file in ["server-ca.key", "etcd/peer-server-client.key", "client-admin.crt", SERVICE_KEY] {
        let mode = fs::metadata(pki.dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let admin = facts(&pki, "client-admin");
    assert_eq!(admin.common_name.as_deref(), Some("system:admin"));
    assert_eq!(admin.organizations, ["system:masters"]);
    assert_eq!((admin.names.len(), admin.usages), (0, vec!["ClientAuth"]));
    assert_eq!(facts(&pki, "serving-kube-apiserver").names, ["127.0.0.1", "kubernetes", "s1"]);
    assert_eq!(facts(&pki, "etcd/peer-server-client").names, ["127.0.0.1", "s1"]);
}

#[test]
fn certificates_are_renewed_before_they_end_and_again_when_names_change() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let now = SystemTime::now();
    pki.ensure_leaves(now).unwrap();
    let first = facts(&pki, "client-admin").not_after;
    assert!(pki.ensure_leaves(now + DAY * 240).unwrap().is_empty(), "125 days are left");
    assert_eq!(pki.ensure_leaves(now + DAY * 250).unwrap().len(), LEAVES.len());
    assert!(facts(&pki, "client-admin").not_after > first + DAY * 240);
    pki.names.lock().public.push("lb.example".into());
    assert_eq!(pki.ensure_leaves(now + DAY * 250).unwrap(), ["serving-kube-apiserver"]);
    // Near its own end an authority makes what lasts as long as itself, once.
    let late = now + DAY * 3600;
    assert_eq!(pki.ensure_leaves(late).unwrap().len(), LEAVES.len());
    assert!(pki.ensure_leaves(late).unwrap().is_empty());
}

#[test]
fn rotation_takes_those_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    pki.ensure_leaves(SystemTime::now()).unwrap();
    let etcd = pki.rotate(SystemTime::now(), &["etcd".to_owned()]).unwrap();
    assert_eq!(etcd, ["etcd/client", "etcd/server-client", "etcd/peer-server-client"]);
    assert_eq!(pki.rotate(SystemTime::now(), &[]).unwrap().len(), LEAVES.len());
    let stranger = Pki::new(pki.dir().to_owned(), Names::default());
    let before = facts(&pki, "serving-kube-apiserver");
    stranger.rotate_keeping_names(SystemTime::now(), &["api-server".to_owned()]).unwrap();
    let after = facts(&pki, "serving-kube-apiserver");
    assert!(after.names == before.names && after.public_key != before.public_key);
    assert!(pki.ensure_leaves(SystemTime::now()).unwrap().is_empty());
    assert_eq!(pki.check().unwrap().len(), LEAVES.len() + Ca::ALL.len());
}

#[test]
fn own_authorities_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let (cert, key) = authority::make("of-the-house", SystemTime::now()).unwrap();
    files::write(&tls.join("server-ca.crt"), cert.as_bytes()).unwrap();
    files::write(&tls.join("server-ca.key"), key.as_bytes()).unwrap();
    let pki = pki(dir.path());
    pki.ensure_leaves(SystemTime::now()).unwrap();
    assert_eq!(pki.bundle(Ca::Server).unwrap(), cert.as_bytes());
    assert!(
        pki.authority(Ca::Server)
            .unwrap()
            .issued(&fs::read(pki.file("serving-kube-apiserver", "crt")).unwrap())
    );
    // Another authority in its place: what the old one certified is made anew.
    let (cert, key) = authority::make("of-the-house", SystemTime::now()).unwrap();
    files::write(&tls.join("server-ca.crt"), cert.as_bytes()).unwrap();
    let error = pki.ensure_authorities().unwrap_err();
    assert!(error.contains("is not the key of"), "{error}");
    files::write(&tls.join("server-ca.key"), key.as_bytes()).unwrap();
    assert_eq!(pki.ensure_leaves(SystemTime::now()).unwrap(), ["serving-kube-apiserver"]);
    fs::remove_file(tls.join("server-ca.key")).unwrap();
    let error = pki.ensure_authorities().unwrap_err();
    assert!(error.contains("place both"), "{error}");
    // A leaf is no authority.
    let leaf = fs::read(pki.file("client-admin", "crt")).unwrap();
    files::write(&tls.join("server-ca.crt"), &leaf).unwrap();
    files::write(&tls.join("server-ca.key"), &fs::read(pki.file("client-admin", "key")).unwrap()).unwrap();
    let error = pki.ensure_authorities().unwrap_err();
    assert!(error.contains("not that of an authority"), "{error}");
}

/// Keys as `openssl ecparam -genkey` and `openssl genrsa -traditional` write them.
#[test]
fn keys_of_older_tools_are_read() {
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).output().expect("openssl runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    for arguments in [
        vec!["ecparam", "-name", "prime256v1", "-genkey"],
        vec!["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        vec!["genrsa", "-traditional", "2048"],
        vec!["genrsa", "2048"],
        vec!["genpkey", "-algorithm", "ed25519"],
    ] {
        let pem = run(&arguments);
        keys::read(&pem).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
        keys::check_service_key(&pem).unwrap();
    }
    let error = keys::read(&run(&["ecparam", "-name", "secp521r1", "-genkey", "-noout"])).unwrap_err();
    assert!(error.contains("P-256"), "{error}");
    assert!(keys::read(b"nonsense").is_err() && keys::check_service_key(b"").is_err());
}

#[test]
fn a_nodes_request_gets_what_the_server_says() {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki(dir.path());
    let key = KeyPair::generate().unwrap();
    // It asks to be an administrator; only its key is taken.
    let mut asked = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    let csr = asked.serialize_request(&key).unwrap();
    let sign =
        |kind, csr: &[u8]| pki.sign(kind, csr, "n1", &["10.0.0.1".parse().unwrap()], SystemTime::now());
    let of = |kind| Facts::all(sign(kind, csr.der()).unwrap().as_bytes()).unwrap().remove(0);
    let client = of(NodeCertificate::ClientKubelet);
    assert_eq!(client.common_name.as_deref(), Some("system:node:n1"));
    assert_eq!((client.organizations, client.names), (vec!["system:nodes".to_owned()], Vec::new()));
    assert_eq!(client.public_key, key.public_key_raw());
    let serving = of(NodeCertificate::ServingKubelet);
    assert_eq!(serving.names, ["127.0.0.1", "localhost", "n1", "10.0.0.1"]);
    assert!(sign(NodeCertificate::ClientKubeProxy, csr.pem().unwrap().as_bytes()).is_ok());
    let mut forged = csr.der().to_vec();
    let end = forged.len() - 1;
    forged[end] ^= 1;
    for wrong in [&forged[..], b"", b"-----BEGIN x", &csr.der()[..40]] {
        assert!(sign(NodeCertificate::ClientKubelet, wrong).is_err());
    }
}
