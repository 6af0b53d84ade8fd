//! A client of a running etcd.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use skiff_kine_api::services::auth_client::AuthClient;
use skiff_kine_api::services::kv_client::KvClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_kine_api::services::maintenance_client::MaintenanceClient;
use skiff_kine_api::services::watch_client::WatchClient;
use skiff_sql::endpoint::EtcdEndpoint;
use skiff_store::pb::etcdserverpb as pb;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};

use super::place::Login;
use crate::kine::upstream;
use crate::serve::Stop;

/// Largest message taken.
const MAX_MESSAGE: usize = 512 << 20;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);
/// Attempts while nobody answers.
const ATTEMPTS: u32 = 30;
/// Pause before the next.
const PAUSE: Duration = Duration::from_secs(1);

/// The connections, with a token where there is a user.
pub(super) type Service = InterceptedService<Router, Token>;

/// Puts the token into every call.
#[derive(Clone, Default)]
pub(super) struct Token(Arc<Mutex<Option<MetadataValue<Ascii>>>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.lock().clone() {
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }
}

/// A client; the connections are shared by its clones.
#[derive(Clone)]
pub(super) struct Etcd {
    service: Service,
    token: Token,
    login: Login,
    _stop: Arc<tokio::sync::watch::Sender<bool>>,
}

impl Etcd {
    /// Connects, and logs in where there is a user.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn connect(endpoint: &EtcdEndpoint, login: &Login) -> Result<Self, String> {
        let (stopper, stop) = Stop::new();
        let router = upstream::router(endpoint, &stop)?;
        let token = Token::default();
        let service = InterceptedService::new(router, token.clone());
        let client = Self { service, token, login: login.clone(), _stop: Arc::new(stopper) };
        client.log_in().await.map_err(|status| told(&status))?;
        client.status().await?;
        Ok(client)
    }

    async fn log_in(&self) -> Result<(), Status> {
        if self.login.name.is_empty() {
            return Ok(());
        }
        *self.token.0.lock() = None;
        let request =
            pb::AuthenticateRequest { name: self.login.name.clone(), password: self.login.password.clone() };
        let answer = AuthClient::new(self.service.clone()).authenticate(request).await?.into_inner();
        let token = answer.token.parse().map_err(|_| Status::internal("the token is no header"))?;
        *self.token.0.lock() = Some(token);
        Ok(())
    }

    /// Makes a call that may be made twice, until it is answered.
    pub(super) async fn again<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        call: impl Fn(Service) -> F,
    ) -> Result<T, Status> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let status = match Self::once(call(self.service.clone())).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if attempt >= ATTEMPTS || !self.passes(&status).await {
                return Err(status);
            }
            tracing::warn!(%status, attempt, "a call to etcd failed; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes a call once.
    pub(super) async fn once<T>(
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(CALL, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// Whether a failed call may succeed a moment later; logs in again where
    /// that was the reason.
    pub(super) async fn passes(&self, status: &Status) -> bool {
        match status.code() {
            Code::Unauthenticated => self.log_in().await.is_ok(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
            Code::ResourceExhausted => status.message().contains("too many requests"),
            _ => false,
        }
    }

    /// The service for a client of one's own.
    pub(super) fn kv(&self) -> KvClient<Service> {
        KvClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn leases(&self) -> LeaseClient<Service> {
        LeaseClient::new(self.service.clone())
    }

    pub(super) fn watches(&self) -> WatchClient<Service> {
        WatchClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn auth(&self) -> AuthClient<Service> {
        AuthClient::new(self.service.clone())
    }

    /// Who answers, and where it stands.
    pub(super) async fn status(&self) -> Result<pb::StatusResponse, String> {
        let call = |service| async { MaintenanceClient::new(service).status(pb::StatusRequest {}).await };
        self.again(call).await.map_err(|status| told(&status))
    }

    /// The revision, as of after this was called, and how many keys there are.
    pub(super) async fn revision(&self) -> Result<(i64, i64), String> {
        let request = pb::RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            count_only: true,
            ..Default::default()
        };
        let call = |service| {
            let request = request.clone();
            async { KvClient::new(service).range(request).await }
        };
        let answer = self.again(call).await.map_err(|status| told(&status))?;
        Ok((answer.header.map_or(0, |header| header.revision), answer.count))
    }

    /// The ids of all leases.
    pub(super) async fn lease_ids(&self) -> Result<Vec<i64>, String> {
        let call =
            |service| async { LeaseClient::new(service).lease_leases(pb::LeaseLeasesRequest {}).await };
        let answer = self.again(call).await.map_err(|status| told(&status))?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// The granted TTL of a lease; `None` where it is gone.
    pub(super) async fn lease_ttl(&self, id: i64) -> Result<Option<i64>, String> {
        let call = |service| async move {
            let request = pb::LeaseTimeToLiveRequest { id, keys: false };
            LeaseClient::new(service).lease_time_to_live(request).await
        };
        match self.again(call).await {
            Ok(answer) => Ok((answer.ttl >= 0).then_some(answer.granted_ttl)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(told(&status)),
        }
    }

    /// Whether keys would go with a lease.
    pub(super) async fn lease_has_keys(&self, id: i64) -> Result<bool, String> {
        let call = |service| async move {
            let request = pb::LeaseTimeToLiveRequest { id, keys: true };
            LeaseClient::new(service).lease_time_to_live(request).await
        };
        match self.again(call).await {
            Ok(answer) => Ok(!answer.keys.is_empty()),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(told(&status)),
        }
    }

    /// The revision of users and roles; `None` where this etcd does not tell it.
    pub(super) async fn auth_revision(&self) -> Result<Option<u64>, String> {
        let call = |service| async { AuthClient::new(service).auth_status(pb::AuthStatusRequest {}).await };
        match self.again(call).await {
            Ok(answer) => Ok(Some(answer.auth_revision)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(told(&status)),
        }
    }

    /// Writes a snapshot into a new file.
    pub(super) async fn snapshot(&self, path: &Path, told_bytes: impl Fn(u64)) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut maintenance =
            MaintenanceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE);
        let answer = maintenance.snapshot(pb::SnapshotRequest {}).await;
        let mut stream = answer.map_err(|status| told(&status))?.into_inner();
        let mut options = tokio::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(path).await.map_err(failed)?;
        let mut bytes = 0;
        while let Some(piece) = stream.message().await.map_err(|status| told(&status))? {
            bytes += piece.blob.len() as u64;
            file.write_all(&piece.blob).await.map_err(failed)?;
            told_bytes(bytes);
        }
        file.flush().await.map_err(failed)
    }
}

/// An answer that is an error, in words.
pub(super) fn told(status: &Status) -> String {
    format!("etcd answered: {} ({})", status.message(), status.code())
}
