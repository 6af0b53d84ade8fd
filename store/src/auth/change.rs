//! Changes of users and roles.

use std::sync::Arc;

use super::{AuthState, ROOT, TokenChange};
use crate::error::{ApiError, Result};
use crate::pb::authpb::Permission;
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::auth_change::Change;
use crate::pb::skiff::v1::{StoredRole, StoredUser, UserAdd, UserPassword};

/// A stored message to write or to remove.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Write a user.
    PutUser(StoredUser),
    /// Remove a user.
    DeleteUser(String),
    /// Write a role.
    PutRole(StoredRole),
    /// Remove a role.
    DeleteRole(String),
}

/// What a change left behind, beside the changed state.
#[derive(Debug, Default)]
pub struct Changed {
    /// What to store; enabled flag and revision are the caller's to store.
    pub rows: Vec<Row>,
    /// Tokens that count no more.
    pub tokens: Option<TokenChange>,
}

impl AuthState {
    /// Makes a change.
    ///
    /// # Errors
    /// etcd's; nothing has changed then.
    pub fn change(&mut self, change: &Change) -> Result<Changed, ApiError> {
        match change {
            Change::Enable(_) => self.enable(),
            Change::Disable(_) => Ok(self.disable()),
            Change::UserAdd(request) => self.user_add(request),
            Change::UserDelete(request) => self.user_delete(&request.name),
            Change::UserPassword(request) => self.user_password(request),
            Change::UserGrant(request) => self.user_grant(&request.user, &request.role),
            Change::UserRevoke(request) => self.user_revoke(&request.name, &request.role),
            Change::RoleAdd(request) => self.role_add(&request.name),
            Change::RoleDelete(request) => self.role_delete(&request.role),
            Change::RoleGrant(request) => self.role_grant(request),
            Change::RoleRevoke(request) => self.role_revoke(request),
        }
    }

    /// Turning on does not count as a change of users and roles, as in etcd.
    fn enable(&mut self) -> Result<Changed, ApiError> {
        if self.enabled {
            return Ok(Changed::default());
        }
        match self.users.get(ROOT) {
            None => Err(ApiError::RootUserNotExist),
            Some(user) if !user.root => Err(ApiError::RootRoleNotExist),
            Some(_) => {
                self.enabled = true;
                Ok(Changed { tokens: Some(TokenChange::AllDropped), ..Changed::default() })
            }
        }
    }

    fn disable(&mut self) -> Changed {
        if !self.enabled {
            return Changed::default();
        }
        self.enabled = false;
        self.revision += 1;
        Changed { tokens: Some(TokenChange::AllDropped), ..Changed::default() }
    }

    fn user_add(&mut self, request: &UserAdd) -> Result<Changed, ApiError> {
        if request.name.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(ApiError::UserExists);
        }
        let user = StoredUser {
            name: request.name.clone(),
            password_hash: request.password_hash.clone(),
            no_password: request.no_password,
            roles: Vec::new(),
        };
        Ok(self.change_user(user))
    }

    fn user_delete(&mut self, name: &str) -> Result<Changed, ApiError> {
        if self.enabled && name == ROOT {
            return Err(ApiError::InvalidAuthManagement);
        }
        if Arc::make_mut(&mut self.users).remove(name).is_none() {
            return Err(ApiError::UserNotFound);
        }
        let changed = self.changed(vec![Row::DeleteUser(name.to_owned())]);
        Ok(Changed { tokens: Some(TokenChange::UserDropped(name.to_owned())), ..changed })
    }

    fn user_password(&mut self, request: &UserPassword) -> Result<Changed, ApiError> {
        let mut user = self.user(&request.name)?.clone();
        // A user without a password gets none by this.
        if !user.no_password {
            user.password_hash = request.password_hash.clone();
        }
        let changed = self.change_user(user);
        Ok(Changed { tokens: Some(TokenChange::UserDropped(request.name.clone())), ..changed })
    }

    fn user_grant(&mut self, name: &str, role: &str) -> Result<Changed, ApiError> {
        let mut user = self.user(name)?.clone();
        // The role root needs not to be there: it permits everything anyway.
        if role != ROOT {
            self.role(role)?;
        }
        match user.roles.binary_search_by(|own| own.as_str().cmp(role)) {
            Ok(_) => Ok(Changed::default()),
            Err(at) => {
                user.roles.insert(at, role.to_owned());
                Ok(self.change_user(user))
            }
        }
    }

    fn user_revoke(&mut self, name: &str, role: &str) -> Result<Changed, ApiError> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(ApiError::InvalidAuthManagement);
        }
        let mut user = self.user(name)?.clone();
        let at = user.roles.iter().position(|own| own == role).ok_or(ApiError::RoleNotGranted)?;
        user.roles.remove(at);
        Ok(self.change_user(user))
    }

    fn role_add(&mut self, name: &str) -> Result<Changed, ApiError> {
        if name.is_empty() {
            return Err(ApiError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(ApiError::RoleExists);
        }
        let role = StoredRole { name: name.to_owned(), permissions: Vec::new() };
        let row = self.put_role(role);
        Ok(self.changed(vec![row]))
    }

    fn role_delete(&mut self, name: &str) -> Result<Changed, ApiError> {
        if self.enabled && name == ROOT {
            return Err(ApiError::InvalidAuthManagement);
        }
        if Arc::make_mut(&mut self.roles).remove(name).is_none() {
            return Err(ApiError::RoleNotFound);
        }
        let mut rows = vec![Row::DeleteRole(name.to_owned())];
        for mut user in self.having(name) {
            user.roles.retain(|own| own != name);
            rows.push(self.put_user(user));
        }
        Ok(self.changed(rows))
    }

    fn role_grant(&mut self, request: &pb::AuthRoleGrantPermissionRequest) -> Result<Changed, ApiError> {
        let granted = request.perm.as_ref().ok_or(ApiError::PermissionNotGiven)?;
        if !holds_a_key(granted) {
            return Err(ApiError::InvalidAuthManagement);
        }
        let mut role = self.role(&request.name)?.clone();
        let same = |p: &&mut Permission| p.key == granted.key && p.range_end == granted.range_end;
        match role.permissions.iter_mut().find(same) {
            Some(known) => known.perm_type = granted.perm_type,
            None => {
                let behind = role.permissions.partition_point(|p| p.key <= granted.key);
                role.permissions.insert(behind, granted.clone());
            }
        }
        Ok(self.change_role(role))
    }

    fn role_revoke(&mut self, request: &pb::AuthRoleRevokePermissionRequest) -> Result<Changed, ApiError> {
        let mut role = self.role(&request.role)?.clone();
        let before = role.permissions.len();
        role.permissions.retain(|p| p.key != request.key || p.range_end != request.range_end);
        if role.permissions.len() == before {
            return Err(ApiError::PermissionNotGranted);
        }
        Ok(self.change_role(role))
    }

    fn change_user(&mut self, user: StoredUser) -> Changed {
        let row = self.put_user(user);
        self.changed(vec![row])
    }

    /// Replaces a role; what its users may do follows.
    fn change_role(&mut self, role: StoredRole) -> Changed {
        let name = role.name.clone();
        let row = self.put_role(role);
        for user in self.having(&name) {
            self.put_user(user);
        }
        self.changed(vec![row])
    }

    fn having(&self, role: &str) -> Vec<StoredUser> {
        let has = |user: &&StoredUser| user.roles.iter().any(|own| own == role);
        self.users.values().map(|user| &user.stored).filter(has).cloned().collect()
    }

    fn put_user(&mut self, user: StoredUser) -> Row {
        let resolved = Arc::new(self.resolve(user.clone()));
        Arc::make_mut(&mut self.users).insert(user.name.clone(), resolved);
        Row::PutUser(user)
    }

    fn put_role(&mut self, role: StoredRole) -> Row {
        Arc::make_mut(&mut self.roles).insert(role.name.clone(), Arc::new(role.clone()));
        Row::PutRole(role)
    }

    fn changed(&mut self, rows: Vec<Row>) -> Changed {
        self.revision += 1;
        Changed { rows, tokens: None }
    }
}

/// A permission on no key at all is a mistake, and refused.
fn holds_a_key(permission: &Permission) -> bool {
    let Permission { key, range_end, .. } = permission;
    !key.is_empty() && (range_end.is_empty() || range_end[..] == [0] || key < range_end)
}
