//! How messages that hold secrets are printed: without them.
//!
//! A password, its hash, and a token must never reach a log line by way of a
//! request that is printed in full.

use std::fmt;

use crate::pb::{authpb, etcdserverpb, skiff::v1};

/// Stands for a secret. An empty one is none, and shown.
fn hidden(secret: &[u8]) -> &'static str {
    if secret.is_empty() { "" } else { "<hidden>" }
}

macro_rules! secretive {
    ($($message:ty { $($shown:ident)* | $($secret:ident)* })*) => {
        $(impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), &self.$shown))*
                    $(.field(stringify!($secret), &hidden(self.$secret.as_ref())))*
                    .finish()
            }
        })*
    };
}

secretive! {
    authpb::User { name roles options | password }
    etcdserverpb::AuthenticateRequest { name | password }
    etcdserverpb::AuthenticateResponse { header | token }
    etcdserverpb::AuthUserAddRequest { name options | password hashed_password }
    etcdserverpb::AuthUserChangePasswordRequest { name | password hashed_password }
    v1::Authenticate { user auth_revision | token_prefix }
    v1::StoredUser { name no_password roles | password_hash }
    v1::UserAdd { name no_password | password_hash }
    v1::UserPassword { name | password_hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let (name, secret) = ("alice".to_owned(), "hunter2".to_owned());
        let hash = bytes::Bytes::from(secret.clone());
        let printed = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            authpb::User { name: "alice".into(), password: hash.clone(), ..Default::default() },
            etcdserverpb::AuthenticateRequest { name: name.clone(), password: secret.clone() },
            etcdserverpb::AuthenticateResponse { token: secret.clone(), ..Default::default() },
            etcdserverpb::AuthUserAddRequest {
                name: name.clone(),
                password: secret.clone(),
                hashed_password: secret.clone(),
                ..Default::default()
            },
            etcdserverpb::AuthUserChangePasswordRequest {
                name: name.clone(),
                password: secret.clone(),
                hashed_password: secret.clone(),
            },
            v1::Authenticate { user: name.clone(), token_prefix: secret, auth_revision: 1 },
            v1::StoredUser { name: name.clone(), password_hash: hash.clone(), ..Default::default() },
            v1::UserAdd { name: name.clone(), password_hash: hash.clone(), no_password: false },
            v1::UserPassword { name, password_hash: hash },
        );
        assert!(!printed.contains("hunter2") && printed.matches("alice").count() == 8, "{printed}");
    }
}
