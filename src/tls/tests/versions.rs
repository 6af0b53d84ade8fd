//! `--tls-min-version`, `--tls-max-version` and `--cipher-suites`, from the
//! flags to the handshake.

use rustls::{CipherSuite, ProtocolVersion};

use super::*;
use crate::cli::{Request, Settings};

fn from_flags(files: &KeyFiles, flags: &[&str]) -> Result<TlsOptions, String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let arguments = [format!("--cert-file={cert}"), format!("--key-file={key}")];
    let arguments = arguments.into_iter().chain(flags.iter().map(|flag| (*flag).to_owned()));
    match Settings::parse(arguments, []) {
        Ok(Request::Run(settings)) => TlsOptions::for_clients(&settings),
        other => panic!("{other:?}"),
    }
}

/// What a client that can do everything, or these versions alone, agrees on with the server.
async fn agreed(
    server: &TlsOptions,
    ca: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<(ProtocolVersion, CipherSuite)> {
    let server = ServerTls::new(server).unwrap().unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider(&[]))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(load::roots(ca).unwrap())
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(16 << 10);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let (connected, _accepted) = tokio::join!(connector.connect(name, near), accept(&server, far, None));
    let stream = connected.ok()?;
    let session = stream.get_ref().1;
    Some((session.protocol_version().unwrap(), session.negotiated_cipher_suite().unwrap().suite()))
}

#[tokio::test]
async fn versions_and_suites_are_those_of_the_flags() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let files = authority.issue("server", "server");
    let ca = authority.ca();
    let both = [&rustls::version::TLS12, &rustls::version::TLS13];
    let only12 = [&rustls::version::TLS12];
    let only13 = [&rustls::version::TLS13];
    let version = |flags: &'static [&'static str],
                   offered: &'static [&'static rustls::SupportedProtocolVersion]| {
        let options = from_flags(&files, flags).unwrap();
        let ca = ca.clone();
        async move { agreed(&options, &ca, offered).await.map(|(version, _)| version) }
    };
    let (v12, v13) = (Some(ProtocolVersion::TLSv1_2), Some(ProtocolVersion::TLSv1_3));
    const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
    const ONLY12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    assert_eq!(version(&[], BOTH).await, v13);
    assert_eq!(version(&[], ONLY12).await, v12);
    assert_eq!(version(&["--tls-max-version=TLS1.2"], BOTH).await, v12);
    assert_eq!(version(&["--tls-min-version=TLS1.3"], BOTH).await, v13);
    assert_eq!(version(&["--tls-min-version=TLS1.3"], ONLY12).await, None);

    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let options = from_flags(&files, &[&format!("--cipher-suites={suite}")]).unwrap();
    let (_, chosen) = agreed(&options, &ca, &only12).await.unwrap();
    assert_eq!(chosen.as_str(), Some(suite));
    // The list is about TLS 1.2: 1.3 has its own suites.
    assert_eq!(agreed(&options, &ca, &both).await.unwrap().0, ProtocolVersion::TLSv1_3);
    // One that the certificate's key cannot serve.
    let options = from_flags(&files, &["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).unwrap();
    assert_eq!(agreed(&options, &ca, &only12).await, None);
    // Names of TLS 1.3 leave nothing for 1.2.
    let options = from_flags(&files, &["--cipher-suites=TLS_AES_128_GCM_SHA256"]).unwrap();
    assert_eq!(agreed(&options, &ca, &only12).await, None);
    assert!(agreed(&options, &ca, &only13).await.is_some());
}

#[test]
fn what_cannot_be_is_refused_in_the_words_of_etcd() {
    let files = KeyFiles { cert: "/c".into(), key: "/k".into() };
    for (flags, want) in [
        (&["--cipher-suites=TLS_NOPE"][..], "unexpected TLS cipher suite \"TLS_NOPE\""),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (&["--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"], "none of the suites is offered"),
    ] {
        let error = from_flags(&files, flags).unwrap_err();
        assert!(error.contains(want), "{flags:?}: {error}");
    }
    // Go's short names, and suites that are passed over beside one that is offered.
    let options = from_flags(
        &files,
        &["--cipher-suites=TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_RC4_128_SHA"],
    )
    .unwrap();
    assert_eq!(options.suites, [CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]);
}

#[test]
fn names_and_hosts_cannot_both_be_asked_for() {
    let arguments = [
        "--peer-cert-file=/c",
        "--peer-key-file=/k",
        "--peer-trusted-ca-file=/ca",
        "--peer-cert-allowed-cn=b",
        "--peer-cert-allowed-hostname=c",
    ];
    let Ok(Request::Run(settings)) = Settings::parse(arguments.map(str::to_owned), []) else { panic!() };
    let error = TlsOptions::for_peers(&settings).unwrap_err();
    assert!(error.contains("AllowedCNs and AllowedHostnames are mutually exclusive"), "{error}");
}
