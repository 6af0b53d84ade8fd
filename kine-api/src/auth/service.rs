//! The Auth service.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::auth_change::Change;
use skiff_store::pb::skiff::v1::{AuthChange, Authenticate, UserAdd, UserPassword};
use skiff_store::{Access, ApiError, Caller, Error, Read, ReadReply, StoreExt, Write, WriteReply};
use tonic::{Request, Response, Status};

use super::{From, TokenKind};
use crate::api::Api;
use crate::services::auth_server::Auth;
use crate::{to_status, validate};

/// Random letters at the beginning of a simple token.
const TOKEN_LETTERS: usize = 16;
/// Longest name of a user, in bytes: it stands in the log beside every request
/// of that user.
const MAX_USER_BYTES: usize = 64 << 10;
/// How often a password is checked again because users or roles changed
/// meanwhile.
const MAX_CHECKS: usize = 8;

/// Answers etcd's Auth calls.
pub(crate) struct AuthService(pub(crate) Api);

impl AuthService {
    /// Makes a change in the name of who asks; answers the revision.
    async fn change(&self, caller: &Caller, change: Change) -> Result<Option<pb::ResponseHeader>, Status> {
        let change = AuthChange { change: Some(change) };
        validate::proposal(&change, self.0.config.max_request_bytes).map_err(to_status)?;
        match self.0.store.write(Some(caller), Write::Auth(change)).await.map_err(to_status)? {
            WriteReply::Done(revision) => Ok(Some(self.0.header(revision))),
            other => Err(Status::internal(format!("store answered a change of users with {other:?}"))),
        }
    }

    /// Who asks, if that may change users: whoever may not must not cost the
    /// hashing of a password.
    async fn administrator(&self, from: From) -> Result<Caller, Status> {
        let caller = self.0.caller(from).await?;
        self.0.store.authorize(&caller, Access::Admin).map_err(to_status)?;
        Ok(caller)
    }

    /// Asks in the name of who asks.
    async fn ask(&self, from: From, read: Read) -> Result<ReadReply, Status> {
        let caller = self.0.caller(from).await?;
        self.0.store.read(Some(&caller), read).await.map_err(to_status)
    }

    /// Checks a password and gives out a token.
    ///
    /// The password is compared with the hash of some auth revision, outside of
    /// the state machine; the token is given out only if that is still the
    /// revision then.
    async fn log_in(&self, request: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, Error> {
        let pb::AuthenticateRequest { name, password } = request;
        for _ in 0..MAX_CHECKS {
            let known = self.0.store.credentials(name.clone()).await?;
            self.0.passwords.compare(password.clone(), &known.password_hash.0).await?;
            if let TokenKind::Jwt(keys) = &self.0.config.tokens {
                let token = keys.sign(&name, known.auth_revision)?;
                return Ok(pb::AuthenticateResponse { header: None, token });
            }
            let ask = Authenticate {
                user: name.clone(),
                token_prefix: token_prefix(),
                auth_revision: known.auth_revision,
            };
            match self.0.store.authenticate(ask).await {
                Err(Error::Api(ApiError::AuthOldRevision)) => {
                    tracing::info!("users or roles changed while a password was checked; checking again");
                }
                answer => return answer,
            }
        }
        Err(ApiError::AuthOldRevision.into())
    }
}

/// Letters nobody can guess.
fn token_prefix() -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // Bytes from the last multiple of 52 on would make some letters likelier.
    let random = std::iter::repeat_with(rand::random::<u8>).filter(|byte| *byte < 208);
    random.take(TOKEN_LETTERS).map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect()
}

/// The hash a client brings instead of a password.
fn given_hash(text: &str) -> Result<Vec<u8>, Status> {
    STANDARD.decode(text).map_err(|_| to_status(ApiError::NoPasswordUser))
}

macro_rules! unexpected {
    ($reply:expr) => {
        Err(Status::internal(format!("store answered a question about users with {:?}", $reply)))
    };
}

macro_rules! auth_service {
    (
        changes { $($change:ident($request:ident) -> $response:ident = $variant:ident;)* }
        asks { $($ask:ident($ask_request:ident) -> $ask_response:ident = $read:expr, $reply:ident;)* }
        rest { $($rest:tt)* }
    ) => {
        #[async_trait]
        impl Auth for AuthService {
            $(
                async fn $change(
                    &self,
                    request: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    let (from, request) = self.0.split(request);
                    let caller = self.0.caller(from).await?;
                    let header = self.change(&caller, Change::$variant(request)).await?;
                    Ok(Response::new(pb::$response { header }))
                }
            )*
            $(
                async fn $ask(
                    &self,
                    request: Request<pb::$ask_request>,
                ) -> Result<Response<pb::$ask_response>, Status> {
                    let (from, request) = self.0.split(request);
                    #[allow(clippy::redundant_closure_call)]
                    match self.ask(from, ($read)(request)).await? {
                        ReadReply::$reply(mut response) => {
                            self.0.fill(&mut response.header);
                            Ok(Response::new(response))
                        }
                        other => unexpected!(other),
                    }
                }
            )*
            $($rest)*
        }
    };
}

auth_service! {
    changes {
        auth_enable(AuthEnableRequest) -> AuthEnableResponse = Enable;
        auth_disable(AuthDisableRequest) -> AuthDisableResponse = Disable;
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse = UserDelete;
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse = UserGrant;
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse = UserRevoke;
        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse = RoleAdd;
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse = RoleDelete;
        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse = RoleGrant;
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse = RoleRevoke;
    }
    asks {
        auth_status(AuthStatusRequest) -> AuthStatusResponse = |_| Read::AuthStatus, AuthStatus;
        user_get(AuthUserGetRequest) -> AuthUserGetResponse = Read::UserGet, UserGet;
        user_list(AuthUserListRequest) -> AuthUserListResponse = |_| Read::UserList, UserList;
        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse = Read::RoleGet, RoleGet;
        role_list(AuthRoleListRequest) -> AuthRoleListResponse = |_| Read::RoleList, RoleList;
    }
    rest {
        async fn authenticate(
            &self,
            request: Request<pb::AuthenticateRequest>,
        ) -> Result<Response<pb::AuthenticateResponse>, Status> {
            let mut response = self.log_in(request.into_inner()).await.map_err(to_status)?;
            self.0.fill(&mut response.header);
            Ok(Response::new(response))
        }

        /// A hash that a client brings is not taken here, as in etcd.
        async fn user_add(
            &self,
            request: Request<pb::AuthUserAddRequest>,
        ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
            let (from, request) = self.0.split(request);
            let caller = self.administrator(from).await?;
            if request.name.len() > MAX_USER_BYTES {
                return Err(to_status(ApiError::RequestTooLarge));
            }
            let no_password = request.options.is_some_and(|options| options.no_password);
            let password_hash = if no_password {
                String::new()
            } else {
                self.0.passwords.hash(request.password).await.map_err(to_status)?
            };
            let add = UserAdd { name: request.name, password_hash: password_hash.into(), no_password };
            let header = self.change(&caller, Change::UserAdd(add)).await?;
            Ok(Response::new(pb::AuthUserAddResponse { header }))
        }

        async fn user_change_password(
            &self,
            request: Request<pb::AuthUserChangePasswordRequest>,
        ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
            let (from, request) = self.0.split(request);
            let caller = self.administrator(from).await?;
            let password_hash = if request.password.is_empty() {
                given_hash(&request.hashed_password)?.into()
            } else {
                self.0.passwords.hash(request.password).await.map_err(to_status)?.into()
            };
            let change = UserPassword { name: request.name, password_hash };
            let header = self.change(&caller, Change::UserPassword(change)).await?;
            Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
        }
    }
}
