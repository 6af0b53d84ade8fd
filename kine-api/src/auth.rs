//! The Auth service as it stands without users: auth is off, and what would
//! manage users and roles is not implemented yet, and says so.

use async_trait::async_trait;
use skiff_store::ApiError;
use skiff_store::pb::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::services::auth_server::Auth;
use crate::to_status;

/// Revision of an auth store in which nothing was ever changed, as in etcd.
pub(crate) const FIRST_AUTH_REVISION: u64 = 1;

/// Answers etcd's Auth calls.
pub(crate) struct AuthService(pub(crate) Api);

macro_rules! auth_service {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[async_trait]
        impl Auth for AuthService {
            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                Ok(Response::new(pb::AuthStatusResponse {
                    header: Some(self.0.header(0)),
                    enabled: false,
                    auth_revision: FIRST_AUTH_REVISION,
                }))
            }

            /// Turning off what is off succeeds, as in etcd.
            async fn auth_disable(
                &self,
                _: Request<pb::AuthDisableRequest>,
            ) -> Result<Response<pb::AuthDisableResponse>, Status> {
                Ok(Response::new(pb::AuthDisableResponse { header: Some(self.0.header(0)) }))
            }

            async fn authenticate(
                &self,
                _: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                Err(to_status(ApiError::AuthNotEnabled))
            }

            $(
                async fn $name(
                    &self,
                    _: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    Err(Status::unimplemented(concat!("etcdserver: ", stringify!($name), " is not implemented yet")))
                }
            )*
        }
    };
}

auth_service! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    user_list(AuthUserListRequest) -> AuthUserListResponse;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}
