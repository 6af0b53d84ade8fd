//! The TLS flags of one port.

use std::path::{Path, PathBuf};

use rustls::{CipherSuite, SupportedProtocolVersion};

use super::self_signed;
use crate::cli::Settings;

/// Suites Go knows and rustls does not offer: named in a list they are passed
/// over, as long as one of the list is offered.
const KNOWN_BUT_NOT_OFFERED: [&str; 16] = [
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyFiles {
    /// The certificate chain, PEM.
    pub(crate) cert: PathBuf,
    /// The private key, PEM.
    pub(crate) key: PathBuf,
}

/// The TLS settings of the client port, or of the traffic between peers.
#[derive(Debug, Clone)]
pub(crate) struct TlsOptions {
    /// What the port shows.
    pub(crate) server: Option<KeyFiles>,
    /// What to show when connecting; the above if not given.
    pub(crate) client: Option<KeyFiles>,
    /// Authorities the other end must be certified by.
    pub(crate) ca: Option<PathBuf>,
    /// The other end may show no certificate at all.
    pub(crate) ca_optional: bool,
    /// Revoked certificates.
    pub(crate) crl: Option<PathBuf>,
    /// Common names one of which the other end must bear; empty for any.
    pub(crate) allowed_names: Vec<String>,
    /// Host names one of which the other end must bear; empty for any.
    pub(crate) allowed_hosts: Vec<String>,
    /// Whoever shows a certificate must come from where it says.
    pub(crate) check_address: bool,
    /// Make a self-signed certificate.
    pub(crate) auto: bool,
    /// Years a self-signed certificate is valid.
    pub(crate) auto_years: u32,
    /// TLS versions.
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// Suites for TLS 1.2; empty for all.
    pub(crate) suites: Vec<CipherSuite>,
}

impl TlsOptions {
    /// The flags of the client port.
    pub(crate) fn for_clients(settings: &Settings) -> Result<TlsOptions, String> {
        let mut options = TlsOptions::read(settings, "", "client-cert-auth")?;
        options.crl = path(settings, "client-crl-file");
        options.allowed_hosts = settings.list("client-cert-allowed-hostname");
        options.check("")
    }

    /// The flags of the traffic between peers.
    pub(crate) fn for_peers(settings: &Settings) -> Result<TlsOptions, String> {
        let mut options = TlsOptions::read(settings, "peer-", "peer-client-cert-auth")?;
        options.crl = path(settings, "peer-crl-file");
        options.client = key_files(settings, "peer-client-cert-file", "peer-client-key-file")?;
        options.allowed_names = settings.list("peer-cert-allowed-cn");
        options.allowed_hosts = settings.list("peer-cert-allowed-hostname");
        options.check_address = !settings.bool("peer-skip-client-san-verification");
        options.check("peer-")
    }

    /// Nothing configured.
    pub(crate) fn none() -> TlsOptions {
        TlsOptions {
            server: None,
            client: None,
            ca: None,
            ca_optional: false,
            crl: None,
            allowed_names: Vec::new(),
            allowed_hosts: Vec::new(),
            check_address: false,
            auto: false,
            auto_years: 1,
            versions: vec![&rustls::version::TLS12, &rustls::version::TLS13],
            suites: Vec::new(),
        }
    }

    /// The flags of `skiff kine`; it has few.
    pub(crate) fn for_kine(settings: &Settings) -> Result<TlsOptions, String> {
        let options = TlsOptions {
            server: key_files(settings, "server-cert-file", "server-key-file")?,
            ca: path(settings, "trusted-ca-file"),
            ..TlsOptions::none()
        };
        if options.ca.is_some() && options.server.is_none() {
            return Err(
                "--trusted-ca-file needs --server-cert-file and --server-key-file: without TLS no client \
                        shows a certificate"
                    .to_owned(),
            );
        }
        Ok(options)
    }

    fn read(settings: &Settings, prefix: &str, auth: &str) -> Result<TlsOptions, String> {
        let flag = |name: &str| format!("{prefix}{name}");
        let ca = path(settings, &flag("trusted-ca-file"));
        if settings.bool(auth) && ca.is_none() {
            return Err(format!("--{auth} needs --{prefix}trusted-ca-file: the authorities to trust"));
        }
        Ok(TlsOptions {
            server: key_files(settings, &flag("cert-file"), &flag("key-file"))?,
            client: None,
            ca,
            ca_optional: false,
            crl: None,
            allowed_names: Vec::new(),
            allowed_hosts: Vec::new(),
            check_address: false,
            auto: settings.bool(&flag("auto-tls")),
            auto_years: u32::try_from(settings.int("self-signed-cert-validity"))
                .ok()
                .filter(|years| (1..=1000).contains(years))
                .ok_or("--self-signed-cert-validity must be 1 to 1000 years")?,
            versions: versions(settings)?,
            suites: suites(settings)?,
        })
    }

    fn check(mut self, prefix: &str) -> Result<TlsOptions, String> {
        let restricted =
            !self.allowed_names.is_empty() || !self.allowed_hosts.is_empty() || self.crl.is_some();
        if restricted && self.ca.is_none() {
            return Err(format!(
                "certificates can only be restricted together with --{prefix}trusted-ca-file"
            ));
        }
        if !self.allowed_names.is_empty() && !self.allowed_hosts.is_empty() {
            return Err(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns={:?}, hostnames={:?}): give only \
                 one of --{prefix}cert-allowed-cn and --{prefix}cert-allowed-hostname",
                self.allowed_names, self.allowed_hosts
            ));
        }
        // As with etcd: given files win over --auto-tls.
        self.auto &= self.server.is_none();
        Ok(self)
    }

    /// True if the port can speak TLS.
    pub(crate) fn enabled(&self) -> bool {
        self.auto || self.server.is_some()
    }

    /// Makes the self-signed certificate if one is asked for and none is there.
    ///
    /// # Errors
    /// A sentence with the path.
    pub(crate) fn prepare(&mut self, dir: &Path, hosts: &[String]) -> Result<(), String> {
        if self.auto && self.server.is_none() {
            self.server = Some(self_signed::ensure(dir, hosts, self.auto_years)?);
        }
        Ok(())
    }
}

fn path(settings: &Settings, flag: &str) -> Option<PathBuf> {
    Some(settings.text(flag)).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn key_files(settings: &Settings, cert_flag: &str, key_flag: &str) -> Result<Option<KeyFiles>, String> {
    match (path(settings, cert_flag), path(settings, key_flag)) {
        (Some(cert), Some(key)) => Ok(Some(KeyFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("--{cert_flag} needs --{key_flag}")),
        (None, Some(_)) => Err(format!("--{key_flag} needs --{cert_flag}")),
    }
}

fn versions(settings: &Settings) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let order = ["TLS1.2", "TLS1.3"];
    let place = |flag: &str, otherwise: usize| {
        order.iter().position(|version| *version == settings.text(flag)).unwrap_or(otherwise)
    };
    let (low, high) = (place("tls-min-version", 0), place("tls-max-version", 1));
    if low > high {
        return Err(format!(
            "min version ({}) is greater than max version ({}): --tls-min-version is above --tls-max-version",
            order[low], order[high]
        ));
    }
    if low == 1 && settings.given("cipher-suites") && !settings.list("cipher-suites").is_empty() {
        return Err(
            "cipher suites cannot be configured when only TLS1.3 is enabled (--cipher-suites)".to_owned()
        );
    }
    let all = [&rustls::version::TLS12, &rustls::version::TLS13];
    Ok(all[low..=high].to_vec())
}

fn suites(settings: &Settings) -> Result<Vec<CipherSuite>, String> {
    let names = settings.list("cipher-suites");
    let offered = rustls::crypto::ring::default_provider().cipher_suites;
    let mut suites = Vec::new();
    for name in &names {
        // Go knows the ChaCha suites by a shorter name too.
        let full = if name.ends_with("_CHACHA20_POLY1305") { format!("{name}_SHA256") } else { name.clone() };
        // Those of TLS 1.3 lack a part of the name here.
        let is_named = |suite: &CipherSuite| {
            suite.as_str().is_some_and(|known| known == full || known.replacen("TLS13_", "TLS_", 1) == full)
        };
        match offered.iter().map(|suite| suite.suite()).find(is_named) {
            Some(suite) => suites.push(suite),
            None if KNOWN_BUT_NOT_OFFERED.contains(&full.as_str()) => {}
            None => return Err(format!("unexpected TLS cipher suite {name:?} (--cipher-suites)")),
        }
    }
    if suites.is_empty() && !names.is_empty() {
        return Err("--cipher-suites: none of the suites is offered; offered are the ECDHE suites with AES-GCM or ChaCha20".to_owned());
    }
    Ok(suites)
}
