//! What a request brings to identify its user.

use skiff_store::{Access, ApiError, Caller};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use super::TokenKind;
use crate::api::Api;
use crate::to_status;

/// Who is at the other end of a connection, as an extension of every request of
/// a client that showed a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Common name of its certificate.
    pub common_name: Option<String>,
}

/// What a request brings to identify its user.
#[derive(Clone, Default)]
pub(crate) struct Identity {
    token: Option<String>,
    common_name: Option<String>,
}

/// What a unary request brought; nothing was looked at where auth is off.
pub(crate) struct From(Option<Identity>);

impl Identity {
    /// Takes it from metadata and connection.
    pub(crate) fn of(metadata: &MetadataMap, extensions: &Extensions, by_certificate: bool) -> Self {
        let token = metadata.get("token").or_else(|| metadata.get("authorization"));
        // What is no text is no token either.
        let token = token.map(|token| token.to_str().unwrap_or_default().to_owned());
        // The gateway's own certificate must not speak for its clients.
        let own = by_certificate && token.is_none() && !metadata.contains_key("grpcgateway-accept");
        let peer = extensions.get::<PeerIdentity>().filter(|_| own);
        Self { token, common_name: peer.and_then(|peer| peer.common_name.clone()) }
    }
}

impl Api {
    /// Takes a request apart: what it brings to identify its user, and the
    /// message.
    pub(crate) fn split<T>(&self, request: Request<T>) -> (From, T) {
        if !self.store.vitals().auth_enabled {
            return (From(None), request.into_inner());
        }
        let (metadata, extensions, message) = request.into_parts();
        (From(Some(Identity::of(&metadata, &extensions, self.config.client_cert_auth))), message)
    }

    /// Who asks.
    pub(crate) async fn caller(&self, from: From) -> Result<Caller, Status> {
        match from.0 {
            Some(identity) => self.identify(&identity).await,
            None => Ok(Caller::default()),
        }
    }

    /// Refuses a request that its user may not make.
    pub(crate) async fn authorize(&self, from: From, access: Access<'_>) -> Result<(), Status> {
        let caller = self.caller(from).await?;
        self.store.authorize(&caller, access).map_err(to_status)
    }

    /// Who asks. A token that does not count is refused, whatever is asked for;
    /// no token at all is nobody's, and the store decides.
    pub(crate) async fn identify(&self, identity: &Identity) -> Result<Caller, Status> {
        let vitals = self.store.vitals();
        if !vitals.auth_enabled {
            return Ok(Caller::default());
        }
        match (identity, &self.config.tokens) {
            (Identity { token: Some(token), .. }, TokenKind::Simple) => {
                self.store.resolve_token(token).await.map_err(to_status)
            }
            (Identity { token: Some(token), .. }, TokenKind::Jwt(keys)) => {
                keys.verify(token).ok_or_else(|| to_status(ApiError::InvalidAuthToken))
            }
            (Identity { common_name: Some(user), .. }, _) => {
                Ok(Caller { user: user.clone(), auth_revision: vitals.auth_revision })
            }
            _ => Ok(Caller::default()),
        }
    }
}
