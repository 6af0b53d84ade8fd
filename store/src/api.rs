//! The seam: what everything above a store knows of it.
//!
//! [`Store`] is implemented by the Raft-replicated store and by every SQL
//! store; [`Cluster`] is the membership beside it. Both are object safe, and
//! both speak etcd's public messages ([`crate::pb`]), so that neither the API
//! above nor the stores below convert between two vocabularies.
//!
//! # Contract
//!
//! *Durability.* When [`Store::write`] returns `Ok`, the change survives the
//! crash of any minority of members and of the process at once. When it
//! returns a [`crate::NodeError`], the outcome is unknown: the change may
//! still happen. When it returns an [`crate::ApiError`], nothing happened.
//!
//! *Determinism.* A change is a [`Command`](crate::pb::skiff::v1::Command)
//! that carries every input of its evaluation. The evaluation reads no clock,
//! no random source and no local setting.
//!
//! *Revisions.* Every write that changes something takes exactly one revision,
//! one above the last; sub-revisions order the changes within. A reader that
//! saw revision N never sees a state before N on the same member.
//!
//! *Reads.* Linearizable unless the request says `serializable`. A read at
//! revision R sees exactly the writes up to R, or fails as compacted or future.
//!
//! *Watches.* A watcher gets every event of its range from its start revision
//! on, once, in revision order, and all events of one revision together. It
//! lags, or it is cancelled with a reason; it never skips.
//!
//! *Permissions.* Reads and writes say who asks. Without a [`Caller`] the
//! members themselves ask, and everything is permitted. With one the store
//! checks, against the very state it reads or changes, what the users and roles
//! in it permit.

mod reading;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

use crate::auth::{Access, Caller, Credentials};
use crate::error::{Error, Result};
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::{AuthChange, Authenticate};
use crate::watch::{WatchSpec, Watcher};

/// A request that changes nothing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Read {
    /// A range of keys.
    Range(pb::RangeRequest),
    /// A transaction that only reads.
    Txn(pb::TxnRequest),
    /// The time a lease has left.
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    /// All leases.
    LeaseLeases(pb::LeaseLeasesRequest),
    /// A hash of this member's whole state.
    Hash(pb::HashRequest),
    /// A hash of the key space at a revision.
    HashKv(pb::HashKvRequest),
    /// The alarms.
    Alarms,
    /// Whether auth is on.
    AuthStatus,
    /// The roles of a user.
    UserGet(pb::AuthUserGetRequest),
    /// The names of all users.
    UserList,
    /// The permissions of a role.
    RoleGet(pb::AuthRoleGetRequest),
    /// The names of all roles.
    RoleList,
    /// What a user's password is checked against. Never for a client.
    Credentials(String),
}

/// The answer to a [`Read`]; the variant is the request's.
///
/// Headers hold the revision only; the server above fills in the ids.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReadReply {
    /// Of [`Read::Range`].
    Range(pb::RangeResponse),
    /// Of [`Read::Txn`].
    Txn(pb::TxnResponse),
    /// Of [`Read::LeaseTimeToLive`].
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    /// Of [`Read::LeaseLeases`].
    LeaseLeases(pb::LeaseLeasesResponse),
    /// Of [`Read::Hash`].
    Hash(pb::HashResponse),
    /// Of [`Read::HashKv`].
    HashKv(pb::HashKvResponse),
    /// Of [`Read::Alarms`].
    Alarms(pb::AlarmResponse),
    /// Of [`Read::AuthStatus`].
    AuthStatus(pb::AuthStatusResponse),
    /// Of [`Read::UserGet`].
    UserGet(pb::AuthUserGetResponse),
    /// Of [`Read::UserList`].
    UserList(pb::AuthUserListResponse),
    /// Of [`Read::RoleGet`].
    RoleGet(pb::AuthRoleGetResponse),
    /// Of [`Read::RoleList`].
    RoleList(pb::AuthRoleListResponse),
    /// Of [`Read::Credentials`].
    Credentials(Credentials),
}

/// A request that may change something.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// Write a key.
    Put(pb::PutRequest),
    /// Delete a range.
    DeleteRange(pb::DeleteRangeRequest),
    /// Run a transaction.
    Txn(pb::TxnRequest),
    /// Forget history.
    Compact(pb::CompactionRequest),
    /// Create a lease.
    LeaseGrant(pb::LeaseGrantRequest),
    /// End a lease.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Renew a lease. Takes no revision and is not replicated.
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
    /// Raise or end an alarm.
    Alarm(pb::AlarmRequest),
    /// Change users, roles, or whether they count.
    Auth(AuthChange),
    /// Give a token to a user whose password was checked.
    Authenticate(Authenticate),
}

/// The answer to a [`Write`]; the variant is the request's.
///
/// Headers hold the revision only; the server above fills in the ids.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum WriteReply {
    /// Of [`Write::Put`].
    Put(pb::PutResponse),
    /// Of [`Write::DeleteRange`].
    DeleteRange(pb::DeleteRangeResponse),
    /// Of [`Write::Txn`].
    Txn(pb::TxnResponse),
    /// Of [`Write::Compact`].
    Compact(pb::CompactionResponse),
    /// Of [`Write::LeaseGrant`].
    LeaseGrant(pb::LeaseGrantResponse),
    /// Of [`Write::LeaseRevoke`].
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// Of [`Write::LeaseKeepAlive`]; TTL 0 if the lease is not there.
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    /// Of [`Write::Alarm`].
    Alarm(pb::AlarmResponse),
    /// Of [`Write::Authenticate`].
    Authenticate(pb::AuthenticateResponse),
    /// Of [`Write::Auth`], and of a command that has no answer of its own
    /// (member attributes, cluster version, lease checkpoint); holds the
    /// revision.
    Done(i64),
}

/// What a member tells of itself without waiting for anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Cluster id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The leader this member follows; 0 for none.
    pub leader: u64,
    /// Raft term.
    pub raft_term: u64,
    /// Committed log index.
    pub raft_index: u64,
    /// Applied log index.
    pub raft_applied_index: u64,
    /// Current revision.
    pub revision: i64,
    /// Revision compacted at; 0 or less before the first compaction.
    pub compact_revision: i64,
    /// Bytes the store occupies on disk.
    pub db_size: i64,
    /// Bytes in use by keys, values and kept history.
    pub db_size_in_use: i64,
    /// Quota, in bytes.
    pub db_size_quota: i64,
    /// This member has no vote.
    pub is_learner: bool,
    /// Alarms raised, of all members.
    pub alarms: Vec<pb::AlarmMember>,
    /// Faults other than alarms and the lack of a leader, in etcd's words.
    pub errors: Vec<String>,
    /// Cluster version ("3.6.0"); empty until it is known.
    pub cluster_version: String,
    /// Version of the stored format ("3.6.0").
    pub storage_version: String,
    /// A downgrade in progress.
    pub downgrade: Option<pb::DowngradeInfo>,
}

/// The part of a [`Status`] that every request needs: cheap to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Cluster id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The leader this member follows; 0 for none.
    pub leader: u64,
    /// Raft term.
    pub raft_term: u64,
    /// Current revision.
    pub revision: i64,
    /// This member has no vote.
    pub is_learner: bool,
    /// Permissions count.
    pub auth_enabled: bool,
    /// Counts changes of users and roles.
    pub auth_revision: u64,
}

/// A stream of pieces of a range; the merge of all is the range's answer.
pub type RangeStream = Pin<Box<dyn Stream<Item = Result<pb::RangeResponse>> + Send>>;

/// A consistent copy of a store, as a stream of bytes.
pub struct SnapshotStream {
    /// Total length in bytes, trailing checksum included.
    pub size: u64,
    /// Revision of the copy.
    pub revision: i64,
    /// The bytes.
    pub chunks: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
}

/// A store: etcd's semantics, whatever keeps the data. See the module's
/// contract.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Answers a request that changes nothing.
    async fn read(&self, caller: Option<&Caller>, read: Read) -> Result<ReadReply>;

    /// Answers a range in pieces, in key order, from one state, with bounded
    /// memory.
    ///
    /// # Errors
    /// As for a range, before the first piece.
    async fn read_stream(&self, caller: Option<&Caller>, request: pb::RangeRequest) -> Result<RangeStream>;

    /// Makes a change durable and answers it.
    async fn write(&self, caller: Option<&Caller>, write: Write) -> Result<WriteReply>;

    /// Whether a caller may do something in the current state, for what is
    /// neither a read nor a write: to start a watch, to take a snapshot, to
    /// change the membership. Never waits.
    ///
    /// # Errors
    /// As the request itself would fail.
    fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()>;

    /// Who presents a token that was given out by [`Write::Authenticate`]. A
    /// member that is behind waits for the entry that gave it out.
    ///
    /// # Errors
    /// [`InvalidAuthToken`](crate::ApiError::InvalidAuthToken) where it counts no
    /// more or never did.
    async fn resolve_token(&self, token: &str) -> Result<Caller>;

    /// Starts to report changes. Never waits; a start revision that has been
    /// compacted is reported by the watcher itself. Asks for no permission: see
    /// [`Store::authorize`].
    fn watch(&self, spec: WatchSpec) -> Watcher;

    /// This member's state, without waiting.
    fn status(&self) -> Status;

    /// What every request needs of the status. Called once or twice a request:
    /// must be cheap.
    fn vitals(&self) -> Vitals;

    /// A receiver of the leader this member follows; 0 for none.
    fn leader(&self) -> tokio::sync::watch::Receiver<u64>;

    /// A consistent copy of the whole store, made without stopping writers.
    async fn snapshot(&self) -> Result<SnapshotStream>;

    /// Gives unused space back while reads and writes go on.
    async fn defragment(&self) -> Result<()>;
}

/// The membership of a cluster. A store without members answers as one.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// All members, ordered by id.
    async fn members(&self, linearizable: bool) -> Result<Vec<pb::Member>>;

    /// Adds a member; answers it and all members.
    async fn add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<(pb::Member, Vec<pb::Member>)>;

    /// Removes a member; answers those left.
    async fn remove(&self, id: u64) -> Result<Vec<pb::Member>>;

    /// Changes a member's peer URLs; answers all members.
    async fn update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<pb::Member>>;

    /// Gives a learner that is in sync a vote; answers all members.
    async fn promote(&self, id: u64) -> Result<Vec<pb::Member>>;

    /// Hands leadership over to a voter. Only on the leader.
    async fn move_leader(&self, target: u64) -> Result<()>;

    /// Validates, starts or ends a downgrade; answers the cluster version.
    async fn downgrade(&self, request: pb::DowngradeRequest) -> Result<String>;
}

/// A store as a client may use it: with the typed methods of [`StoreExt`], each
/// checked against what the client may do.
pub struct By<'a, S: ?Sized> {
    store: &'a S,
    caller: &'a Caller,
}

macro_rules! typed {
    ($($(#[$meta:meta])* $name:ident($request:ty) -> $reply:ty = $call:ident $enum:ident::$variant:ident / $replies:ident;)*) => {
        /// The seam with one method per request: the only place that takes the
        /// variants of replies apart. The methods here ask for nobody's
        /// permission; [`StoreExt::by`] does.
        #[async_trait]
        pub trait StoreExt: Store {
            /// The store for a client.
            fn by<'a>(&'a self, caller: &'a Caller) -> By<'a, Self> {
                By { store: self, caller }
            }

            $(
                $(#[$meta])*
                async fn $name(&self, request: $request) -> Result<$reply> {
                    typed!(@take $name, self.$call(None, $enum::$variant(request)), $replies::$variant)
                }
            )*
        }

        impl<S: Store + ?Sized> By<'_, S> {
            $(
                $(#[$meta])*
                pub async fn $name(&self, request: $request) -> Result<$reply> {
                    let call = self.store.$call(Some(self.caller), $enum::$variant(request));
                    typed!(@take $name, call, $replies::$variant)
                }
            )*
        }
    };
    (@take $name:ident, $call:expr, $replies:ident::$variant:ident) => {
        match $call.await? {
            $replies::$variant(reply) => Ok(reply),
            other => Err(Error::Other(format!("store answered {} with {other:?}", stringify!($name)))),
        }
    };
}

typed! {
    /// Reads a range.
    range(pb::RangeRequest) -> pb::RangeResponse = read Read::Range / ReadReply;
    /// Runs a transaction that only reads.
    read_txn(pb::TxnRequest) -> pb::TxnResponse = read Read::Txn / ReadReply;
    /// Asks for the time a lease has left.
    lease_time_to_live(pb::LeaseTimeToLiveRequest) -> pb::LeaseTimeToLiveResponse = read Read::LeaseTimeToLive / ReadReply;
    /// Lists the leases.
    lease_leases(pb::LeaseLeasesRequest) -> pb::LeaseLeasesResponse = read Read::LeaseLeases / ReadReply;
    /// Hashes the member's state.
    hash(pb::HashRequest) -> pb::HashResponse = read Read::Hash / ReadReply;
    /// Hashes the key space.
    hash_kv(pb::HashKvRequest) -> pb::HashKvResponse = read Read::HashKv / ReadReply;
    /// Writes a key.
    put(pb::PutRequest) -> pb::PutResponse = write Write::Put / WriteReply;
    /// Deletes a range.
    delete_range(pb::DeleteRangeRequest) -> pb::DeleteRangeResponse = write Write::DeleteRange / WriteReply;
    /// Runs a transaction.
    txn(pb::TxnRequest) -> pb::TxnResponse = write Write::Txn / WriteReply;
    /// Forgets history.
    compact(pb::CompactionRequest) -> pb::CompactionResponse = write Write::Compact / WriteReply;
    /// Creates a lease.
    lease_grant(pb::LeaseGrantRequest) -> pb::LeaseGrantResponse = write Write::LeaseGrant / WriteReply;
    /// Ends a lease.
    lease_revoke(pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse = write Write::LeaseRevoke / WriteReply;
    /// Renews a lease.
    lease_keep_alive(pb::LeaseKeepAliveRequest) -> pb::LeaseKeepAliveResponse = write Write::LeaseKeepAlive / WriteReply;
    /// Raises or ends an alarm.
    alarm(pb::AlarmRequest) -> pb::AlarmResponse = write Write::Alarm / WriteReply;
    /// Tells the roles of a user.
    user_get(pb::AuthUserGetRequest) -> pb::AuthUserGetResponse = read Read::UserGet / ReadReply;
    /// Tells the permissions of a role.
    role_get(pb::AuthRoleGetRequest) -> pb::AuthRoleGetResponse = read Read::RoleGet / ReadReply;
    /// Tells what a user's password is checked against.
    credentials(String) -> Credentials = read Read::Credentials / ReadReply;
    /// Gives a token to a user whose password was checked.
    authenticate(Authenticate) -> pb::AuthenticateResponse = write Write::Authenticate / WriteReply;
}

impl<T: Store + ?Sized> StoreExt for T {}
