//! What a node has once it joined.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::server::ResolvesServerCert;
use skiff_token::{CaBundle, wire};
use tokio::time::sleep;

use super::certificates::{self, Certificate, Request};
use super::http::{Ask, Client};
use super::joined::{self, Joined};
use super::live::Live;
use super::{JoinError, JoinOptions, Kind, TlsSource, node_password, trust};
use crate::backoff::Backoff;
use crate::files::{self, Readers};

const SERVER_CA: &str = "server-ca.crt";
const CLIENT_CA: &str = "client-ca.crt";

/// What a node has once it joined: whom it trusts, and what it shows.
#[derive(Debug)]
pub struct Identity {
    pub(super) options: JoinOptions,
    password: String,
    trusted: RwLock<Trusted>,
    live: Vec<(Kind, Arc<Live>)>,
}

#[derive(Debug)]
struct Trusted {
    bundle: CaBundle,
    /// Shows the node's own certificate.
    tls: Arc<ClientConfig>,
}

/// How long a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificateStatus {
    /// Which one.
    pub kind: Kind,
    /// Since when.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// By what right a certificate is asked for.
enum Right {
    Token,
    /// The node's own certificate, shown by these settings.
    Certificate(Arc<ClientConfig>),
}

impl Identity {
    /// Joins, or finds on disk that the node joined before. Tries again where that may help.
    ///
    /// # Errors
    /// One that trying again does not help, see [`JoinError::is_temporary`].
    pub async fn join(options: JoinOptions) -> Result<Arc<Self>, JoinError> {
        let mut backoff = Backoff::new(options.retry_first, options.retry_most);
        loop {
            match Self::join_once(options.clone()).await {
                Err(error) if error.is_temporary() => {
                    tracing::warn!(%error, "cannot join the cluster yet; trying again");
                    sleep(backoff.pause()).await;
                }
                joined => return joined,
            }
        }
    }

    /// Joins, or finds on disk that the node joined before.
    ///
    /// # Errors
    /// Says what is wrong and what to do.
    pub async fn join_once(options: JoinOptions) -> Result<Arc<Self>, JoinError> {
        let password = node_password(&options.node.password_file)?;
        let bundle = match kept_trust(&options)? {
            Some(bundle) => bundle,
            None => trust::establish(&options).await?,
        };
        let joined = Joined::new(&options, &bundle);
        let before = joined.was_before(&options.dir)?;
        let asker = Asker { options: &options, password: &password, bundle: &bundle };
        if !before {
            // Until everything is replaced, what is there counts for nothing.
            files::remove(&options.dir.join(joined::FILE))?;
            let clients = asker.client_authorities().await?;
            files::write(&options.dir.join(SERVER_CA), bundle.pem(), Readers::All)?;
            files::write(&options.dir.join(CLIENT_CA), clients.pem(), Readers::All)?;
        }
        let mut live = Vec::new();
        for kind in Kind::ALL {
            let kept = if before { certificates::load(&options.dir, kind)? } else { None };
            let certificate = match kept.filter(|kept| kept.is_fresh(SystemTime::now())) {
                Some(kept) => kept,
                None => asker.certificate(kind, Right::Token).await?,
            };
            live.push((kind, Live::new(certificate)));
        }
        joined.keep(&options.dir)?;
        let tls = trust::trusting(&bundle, own(&live))?;
        let trusted = RwLock::new(Trusted { bundle, tls });
        Ok(Arc::new(Identity { options, password, trusted, live }))
    }

    /// TLS settings that trust the cluster alone and show the node's own certificate, always
    /// the newest.
    #[must_use]
    pub fn tls(self: &Arc<Self>) -> TlsSource {
        let identity = self.clone();
        Arc::new(move || identity.trusted.read().tls.clone())
    }

    /// Shows the newest certificate of a kind to servers.
    #[must_use]
    pub fn client_certificate(&self, kind: Kind) -> Option<Arc<dyn ResolvesClientCert>> {
        self.live(kind).map(|live| live as Arc<dyn ResolvesClientCert>)
    }

    /// Shows the newest certificate of a kind to clients.
    #[must_use]
    pub fn server_certificate(&self, kind: Kind) -> Option<Arc<dyn ResolvesServerCert>> {
        self.live(kind).map(|live| live as Arc<dyn ResolvesServerCert>)
    }

    /// The cluster's authorities.
    #[must_use]
    pub fn authorities(&self) -> CaBundle {
        self.trusted.read().bundle.clone()
    }

    /// How long each certificate is good.
    #[must_use]
    pub fn status(&self) -> Vec<CertificateStatus> {
        let of = |(kind, live): &(Kind, Arc<Live>)| {
            let Certificate { not_before, not_after, .. } = live.get();
            CertificateStatus { kind: *kind, not_before, not_after }
        };
        self.live.iter().map(of).collect()
    }

    /// Where keys and certificates are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// When a certificate is to be replaced.
    pub(super) fn renewals(&self) -> impl Iterator<Item = (Kind, SystemTime)> + '_ {
        self.live.iter().map(|(kind, live)| (*kind, live.get().renew_at()))
    }

    /// Replaces a certificate. The node's own certificate is the right to it; the token
    /// where that is not taken.
    pub(super) async fn renew(&self, kind: Kind) -> Result<(), JoinError> {
        let (bundle, tls) = {
            let trusted = self.trusted.read();
            (trusted.bundle.clone(), trusted.tls.clone())
        };
        let asker = Asker { options: &self.options, password: &self.password, bundle: &bundle };
        let renewed = match asker.certificate(kind, Right::Certificate(tls)).await {
            // Expired while nobody was there, say, or the node was deleted.
            Err(error) => {
                tracing::debug!(%error, "the node's own certificate is not taken; trying the token");
                asker.certificate(kind, Right::Token).await
            }
            renewed => renewed,
        }?;
        if let Some(live) = self.live(kind) {
            live.set(renewed);
        }
        Ok(())
    }

    /// Asks a server for the list of servers; the path that was asked, and the answer.
    pub(crate) async fn ask_for_servers(&self) -> Result<(String, Vec<u8>), JoinError> {
        let (bundle, tls) = {
            let trusted = self.trusted.read();
            (trusted.bundle.clone(), trusted.tls.clone())
        };
        let asker = Asker { options: &self.options, password: &self.password, bundle: &bundle };
        let path = format!("{}{}", wire::PREFIX, wire::API_SERVERS);
        let body = asker.ask(&path, Right::Certificate(tls), None).await?;
        Ok((path, body))
    }

    /// Fetches the authorities over a connection that the known ones vouch for, and trusts the
    /// new ones from then on. Where the token holds a hash they must have it too.
    pub(super) async fn refresh_authorities(&self) -> Result<(), JoinError> {
        let known = self.authorities();
        let fetched = trust::fetch(&self.options, &known).await?;
        if fetched == known {
            return Ok(());
        }
        trust::check(&self.options, &fetched)?;
        let tls = trust::trusting(&fetched, own(&self.live))?;
        files::write(&self.options.dir.join(SERVER_CA), fetched.pem(), Readers::All)?;
        *self.trusted.write() = Trusted { bundle: fetched, tls };
        tracing::info!("the cluster's authorities have changed; the new ones are trusted");
        Ok(())
    }

    fn live(&self, kind: Kind) -> Option<Arc<Live>> {
        self.live.iter().find(|(of, _)| *of == kind).map(|(_, live)| live.clone())
    }
}

fn own(live: &[(Kind, Arc<Live>)]) -> Option<Arc<dyn ResolvesClientCert>> {
    let own = live.iter().find(|(kind, _)| *kind == Kind::ClientKubelet)?;
    Some(own.1.clone())
}

/// The authorities of the last run, if the token is for them.
fn kept_trust(options: &JoinOptions) -> Result<Option<CaBundle>, JoinError> {
    let file = options.dir.join(SERVER_CA);
    let Some(pem) = files::read(&file, CaBundle::MAX_BYTES as u64)? else { return Ok(None) };
    match CaBundle::from_pem(pem) {
        Ok(bundle) if options.token.ca_hash.is_none_or(|hash| hash == bundle.hash()) => Ok(Some(bundle)),
        Ok(_) => {
            tracing::warn!("the token is for another cluster than the node was in; joining that");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the authorities of the last run are not used");
            Ok(None)
        }
    }
}

/// Asks a server for certificates.
struct Asker<'a> {
    options: &'a JoinOptions,
    password: &'a str,
    bundle: &'a CaBundle,
}

impl Asker<'_> {
    async fn client_authorities(&self) -> Result<CaBundle, JoinError> {
        let path = format!("{}{}", wire::PREFIX, wire::CLIENT_CA);
        let body = self.ask(&path, Right::Token, None).await?;
        Ok(CaBundle::from_pem(body)?)
    }

    async fn certificate(&self, kind: Kind, right: Right) -> Result<Certificate, JoinError> {
        let request = Request::make(&self.options.node.name)?;
        let path = format!("{}/{}.crt", wire::PREFIX, kind.name());
        let pem = self.ask(&path, right, Some(request.csr)).await?;
        let certificate = Certificate::read(&pem, request.key_pem.as_bytes())
            .map_err(|problem| JoinError::Answer { path: path.clone(), problem })?;
        if certificate.not_after <= SystemTime::now() {
            let problem = "the certificate has expired; check the clocks of node and server".to_owned();
            return Err(JoinError::Answer { path, problem });
        }
        certificates::save(&self.options.dir, kind, &pem, &request.key_pem)?;
        Ok(certificate)
    }

    async fn ask(&self, path: &str, right: Right, csr: Option<Vec<u8>>) -> Result<Vec<u8>, JoinError> {
        let JoinOptions { server, token, node, request_timeout, .. } = self.options;
        let (tls, authorization) = match right {
            Right::Certificate(tls) => (tls, None),
            Right::Token => {
                let credentials = token.credentials.clone().or_user("node");
                (trust::trusting(self.bundle, None)?, Some(credentials.authorization()))
            }
        };
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let headers = vec![
            (wire::NODE_NAME, node.name.clone()),
            (wire::NODE_PASSWORD, self.password.to_owned()),
            (wire::NODE_IP, addresses.join(",")),
        ];
        let client = Client { server, tls, timeout: *request_timeout };
        let answer = client.ask(path, Ask { authorization, headers, csr }).await?;
        if let Some(reason) = answer.refused() {
            return Err(JoinError::refused(reason, &node.name, node.password_file.display().to_string()));
        }
        Ok(answer.good()?.to_vec())
    }
}
