//! Calls whose answers need no more than their header made comparable: users and roles, locks and elections.

use skiff_test_support::Client;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;

use crate::answer::{Answer, header};

macro_rules! calls {
    ($($name:ident: $call:ident($request:ty);)*) => {
        /// A call and its request.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Call {
            $(
                #[doc = concat!("`", stringify!($call), "`.")]
                $name($request),
            )*
        }

        impl Call {
            /// Asks a server.
            pub(crate) async fn ask(self, client: Client) -> Answer {
                match self {
                    $(
                        Call::$name(request) => Answer::of(client.$call(request).await, |mut answer| {
                            header(&mut answer.header);
                            Answer::Plain(format!("{answer:?}"))
                        }),
                    )*
                }
            }
        }
    };
}

calls! {
    Enable: auth_enable(AuthEnableRequest);
    Disable: auth_disable(AuthDisableRequest);
    AuthStatus: auth_status(AuthStatusRequest);
    UserAdd: user_add(AuthUserAddRequest);
    UserGet: user_get(AuthUserGetRequest);
    UserList: user_list(AuthUserListRequest);
    UserDelete: user_delete(AuthUserDeleteRequest);
    Password: user_change_password(AuthUserChangePasswordRequest);
    UserGrant: user_grant_role(AuthUserGrantRoleRequest);
    UserRevoke: user_revoke_role(AuthUserRevokeRoleRequest);
    RoleAdd: role_add(AuthRoleAddRequest);
    RoleGet: role_get(AuthRoleGetRequest);
    RoleList: role_list(AuthRoleListRequest);
    RoleDelete: role_delete(AuthRoleDeleteRequest);
    RoleGrant: role_grant_permission(AuthRoleGrantPermissionRequest);
    RoleRevoke: role_revoke_permission(AuthRoleRevokePermissionRequest);
    Lock: lock(LockRequest);
    Unlock: unlock(UnlockRequest);
    Campaign: campaign(CampaignRequest);
    Proclaim: proclaim(ProclaimRequest);
    Leader: leader(LeaderRequest);
    Resign: resign(ResignRequest);
}
