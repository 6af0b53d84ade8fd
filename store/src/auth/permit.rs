//! Whether a caller may do what it asks for.

use super::{AuthState, Caller};
use crate::api::Read;
use crate::error::{ApiError, Result};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::skiff::v1::command::Op;

/// What a caller asks for. Ranges are a key and a range end, as in a Range
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    /// To read a range.
    Read(&'a [u8], &'a [u8]),
    /// To write a range.
    Write(&'a [u8], &'a [u8]),
    /// Anything that every user may do, but nobody without a name.
    Identified,
    /// What only a user with the role root may do.
    Admin,
}

impl AuthState {
    /// Whether a caller may do something. With auth off everybody may do
    /// everything.
    ///
    /// # Errors
    /// etcd's, in etcd's order.
    pub fn permit(&self, caller: &Caller, access: Access<'_>) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        match access {
            Access::Admin => self.permit_admin(caller),
            Access::Identified if caller.auth_revision == 0 => Err(ApiError::UserEmpty),
            Access::Identified => Ok(()),
            Access::Read(key, range_end) => self.permit_range(caller, key, range_end, false),
            Access::Write(key, range_end) => self.permit_range(caller, key, range_end, true),
        }
    }

    fn permit_admin(&self, caller: &Caller) -> Result<(), ApiError> {
        if caller.user.is_empty() {
            return Err(ApiError::UserEmpty);
        }
        match self.users.get(&caller.user) {
            None => Err(ApiError::UserNotFound),
            Some(user) if !user.root => Err(ApiError::PermissionDenied),
            Some(_) => Ok(()),
        }
    }

    fn permit_range(
        &self,
        caller: &Caller,
        key: &[u8],
        range_end: &[u8],
        write: bool,
    ) -> Result<(), ApiError> {
        if caller.auth_revision == 0 {
            return Err(ApiError::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(ApiError::AuthOldRevision);
        }
        let user = self.users.get(&caller.user).ok_or(ApiError::PermissionDenied)?;
        let granted = if write { &user.write } else { &user.read };
        if user.root || granted.covers(key, range_end) { Ok(()) } else { Err(ApiError::PermissionDenied) }
    }
}

/// The keys attached to leases.
pub trait LeaseKeys {
    /// Calls `each` with the keys of a lease until it fails; a lease that is not
    /// there has none.
    ///
    /// # Errors
    /// That of `each`.
    fn each_key(
        &self,
        lease: i64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError>;

    /// Calls `each` with the keys of all leases until it fails.
    ///
    /// # Errors
    /// That of `each`.
    fn each_leased_key(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>) -> Result<(), ApiError>;
}

/// Checks commands and reads of one caller against one state.
pub struct Permit<'a> {
    auth: &'a AuthState,
    caller: &'a Caller,
    leases: &'a dyn LeaseKeys,
}

impl<'a> Permit<'a> {
    /// `None` where nothing has to be checked: auth is off, or the members
    /// themselves ask.
    pub fn new(auth: &'a AuthState, caller: Option<&'a Caller>, leases: &'a dyn LeaseKeys) -> Option<Self> {
        let caller = caller.filter(|_| auth.enabled)?;
        Some(Self { auth, caller, leases })
    }

    fn permit(&self, access: Access<'_>) -> Result<(), ApiError> {
        self.auth.permit(self.caller, access)
    }

    /// Whether a command may be done.
    ///
    /// # Errors
    /// etcd's, in etcd's order.
    pub fn command(&self, op: &Op) -> Result<(), ApiError> {
        match op {
            Op::Put(request) => self.put(request),
            Op::DeleteRange(request) => self.delete_range(request),
            Op::Txn(request) => self.txn(request),
            Op::LeaseGrant(_) => self.permit(Access::Identified),
            Op::LeaseRevoke(request) => self.write_leased(request.id),
            Op::Alarm(request) if request.action == AlarmAction::Get as i32 => {
                self.permit(Access::Identified)
            }
            Op::Authenticate(_) => Ok(()),
            // The last ones are never a client's.
            Op::Compact(_)
            | Op::Alarm(_)
            | Op::Auth(_)
            | Op::LeaseCheckpoint(_)
            | Op::MemberPublish(_)
            | Op::ClusterVersion(_)
            | Op::Downgrade(_)
            | Op::Adopt(_) => self.permit(Access::Admin),
        }
    }

    /// Whether a read may be answered.
    ///
    /// # Errors
    /// etcd's, in etcd's order.
    pub fn read(&self, read: &Read) -> Result<(), ApiError> {
        match read {
            Read::Range(request) => self.permit(Access::Read(&request.key, &request.range_end)),
            Read::Txn(request) => self.txn(request),
            Read::LeaseTimeToLive(request) => self.time_to_live(request),
            Read::LeaseLeases(_) => self.leases(),
            Read::Alarms => self.permit(Access::Identified),
            Read::UserGet(request) => {
                let own = request.name == self.caller.user;
                self.permit(Access::Admin).or_else(|error| if own { Ok(()) } else { Err(error) })
            }
            Read::RoleGet(request) => {
                let own = self.has_role(&request.role);
                self.permit(Access::Admin).or_else(|error| if own { Ok(()) } else { Err(error) })
            }
            Read::Hash(_) | Read::HashKv(_) | Read::AuthStatus | Read::UserList | Read::RoleList => {
                self.permit(Access::Admin)
            }
            // For those who check passwords, never for a client.
            Read::Credentials(_) => Err(ApiError::PermissionDenied),
        }
    }

    /// Whether a lease may be renewed: by those who may write all its keys.
    ///
    /// # Errors
    /// As for a revocation.
    pub fn renew(&self, lease: i64) -> Result<(), ApiError> {
        self.write_leased(lease)
    }

    fn has_role(&self, role: &str) -> bool {
        let user = self.auth.users.get(&self.caller.user);
        user.is_some_and(|user| user.stored.roles.iter().any(|own| own == role))
    }

    fn put(&self, request: &pb::PutRequest) -> Result<(), ApiError> {
        self.permit(Access::Write(&request.key, &[]))?;
        // Who attaches a key to a lease may end the lease, and with it all its
        // keys.
        if request.lease != 0 {
            self.write_leased(request.lease)?;
        }
        if request.prev_kv {
            self.permit(Access::Read(&request.key, &[]))?;
        }
        Ok(())
    }

    fn delete_range(&self, request: &pb::DeleteRangeRequest) -> Result<(), ApiError> {
        self.permit(Access::Write(&request.key, &request.range_end))?;
        if request.prev_kv {
            self.permit(Access::Read(&request.key, &request.range_end))?;
        }
        Ok(())
    }

    /// All conditions and both branches: which one is taken tells something too.
    /// The recursion is bounded by protobuf's own limit on nesting.
    fn txn(&self, request: &pb::TxnRequest) -> Result<(), ApiError> {
        for condition in &request.compare {
            self.permit(Access::Read(&condition.key, &condition.range_end))?;
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Request::RequestRange(range)) => {
                    self.permit(Access::Read(&range.key, &range.range_end))?;
                }
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.delete_range(delete)?,
                Some(Request::RequestTxn(txn)) => self.txn(txn)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Leases belong to nobody: to those who may write all their keys.
    fn write_leased(&self, lease: i64) -> Result<(), ApiError> {
        self.permit(Access::Identified)?;
        if self.permit(Access::Admin).is_ok() {
            return Ok(());
        }
        self.leases.each_key(lease, &mut |key| self.permit(Access::Write(key, &[])))
    }

    fn time_to_live(&self, request: &pb::LeaseTimeToLiveRequest) -> Result<(), ApiError> {
        self.permit(Access::Identified)?;
        if !request.keys || self.permit(Access::Admin).is_ok() {
            return Ok(());
        }
        self.leases.each_key(request.id, &mut |key| self.permit(Access::Read(key, &[])))
    }

    fn leases(&self) -> Result<(), ApiError> {
        self.permit(Access::Identified)?;
        if self.permit(Access::Admin).is_ok() {
            return Ok(());
        }
        self.leases.each_leased_key(&mut |key| self.permit(Access::Read(key, &[])))
    }
}
