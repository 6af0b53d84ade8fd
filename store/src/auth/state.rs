//! Users and roles between two log entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FIRST_REVISION, ROOT, Ranges};
use crate::error::{ApiError, Result};
use crate::pb::authpb::permission::Type;
use crate::pb::skiff::v1::{StoredRole, StoredUser};

/// A user, with its permissions worked out.
#[derive(Debug, Clone)]
pub struct User {
    pub(super) stored: StoredUser,
    /// Has the role that permits everything.
    pub(super) root: bool,
    pub(super) read: Ranges,
    pub(super) write: Ranges,
}

/// What a password is checked against, and when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Hash of the password.
    pub password_hash: HiddenHash,
    /// Auth revision at which the hash was this one.
    pub auth_revision: u64,
}

/// A hash that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenHash(pub bytes::Bytes);

impl std::fmt::Debug for HiddenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<hidden>")
    }
}

/// All users and roles. A copy costs O(1).
#[derive(Debug, Clone)]
pub struct AuthState {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: Arc<BTreeMap<String, Arc<User>>>,
    pub(super) roles: Arc<BTreeMap<String, Arc<StoredRole>>>,
}

impl Default for AuthState {
    fn default() -> Self {
        Self { enabled: false, revision: FIRST_REVISION, users: Arc::default(), roles: Arc::default() }
    }
}

impl AuthState {
    /// Of what is stored; a revision of 0 stands for the first one.
    pub fn new(
        enabled: bool,
        revision: u64,
        users: impl IntoIterator<Item = StoredUser>,
        roles: impl IntoIterator<Item = StoredRole>,
    ) -> Self {
        let roles = roles.into_iter().map(|role| (role.name.clone(), Arc::new(role))).collect();
        let mut state = Self {
            enabled,
            revision: revision.max(FIRST_REVISION),
            users: Arc::default(),
            roles: Arc::new(roles),
        };
        let users = users.into_iter().map(|user| (user.name.clone(), Arc::new(state.resolve(user))));
        state.users = Arc::new(users.collect());
        state
    }

    /// True while permissions count.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Counts changes of users and roles.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Names of all users.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// Names of all roles.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// A user as it is stored.
    ///
    /// # Errors
    /// [`ApiError::UserNotFound`].
    pub fn user(&self, name: &str) -> Result<&StoredUser, ApiError> {
        self.users.get(name).map(|user| &user.stored).ok_or(ApiError::UserNotFound)
    }

    /// A role as it is stored.
    ///
    /// # Errors
    /// [`ApiError::RoleNotFound`].
    pub fn role(&self, name: &str) -> Result<&StoredRole, ApiError> {
        self.roles.get(name).map(AsRef::as_ref).ok_or(ApiError::RoleNotFound)
    }

    /// What a user's password is checked against.
    ///
    /// # Errors
    /// Auth is off, the user is not there, or has no password.
    pub fn credentials(&self, name: &str) -> Result<Credentials, ApiError> {
        if !self.enabled {
            return Err(ApiError::AuthNotEnabled);
        }
        let user = self.user(name).map_err(|_| ApiError::AuthFailed)?;
        if user.no_password {
            return Err(ApiError::NoPasswordUser);
        }
        Ok(Credentials {
            password_hash: HiddenHash(user.password_hash.clone()),
            auth_revision: self.revision,
        })
    }

    /// Works out what a user may do.
    pub(super) fn resolve(&self, stored: StoredUser) -> User {
        let granted = |wanted: Type| {
            let permissions = stored
                .roles
                .iter()
                .filter_map(|role| self.roles.get(role))
                .flat_map(|role| &role.permissions);
            // A kind this version does not know permits nothing.
            Ranges::union(
                permissions
                    .filter(|p| [wanted, Type::Readwrite].iter().any(|kind| *kind as i32 == p.perm_type))
                    .map(|p| (&p.key, &p.range_end)),
            )
        };
        let (read, write) = (granted(Type::Read), granted(Type::Write));
        let root = stored.roles.iter().any(|role| role == ROOT);
        User { root, read, write, stored }
    }
}
