//! Errors of the store, with etcd's texts and codes.
//!
//! Two families, never mixed:
//!
//! * [`ApiError`] is *deterministic*: equal states give it for equal requests,
//!   on every member. It may be replicated, compared and cached.
//! * The other variants of [`Error`] are *local* to a node or a moment (no
//!   leader, a time-out, a full disk): a retry elsewhere or later may succeed.

use std::fmt;

/// The class of an error: a gRPC status code, kept free of any gRPC crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The request was cancelled.
    Cancelled = 1,
    /// No better class.
    Unknown = 2,
    /// The request can never succeed as it is.
    InvalidArgument = 3,
    /// The request ran out of time.
    DeadlineExceeded = 4,
    /// Something asked for is not there.
    NotFound = 5,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A quota or a limit is used up.
    ResourceExhausted = 8,
    /// The state of the system forbids it.
    FailedPrecondition = 9,
    /// A revision outside of what is kept.
    OutOfRange = 11,
    /// Not offered by this server.
    Unimplemented = 12,
    /// A fault of the server.
    Internal = 13,
    /// Try again.
    Unavailable = 14,
    /// Stored data is damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

macro_rules! errors {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $code:ident, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
        }

        impl $name {
            /// Every variant, for tables and tests.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The class of the error.
            pub fn code(self) -> Code {
                match self { $($name::$variant => Code::$code,)* }
            }

            /// etcd's text, which clients match literally.
            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }

        impl std::error::Error for $name {}
    };
}

errors! {
    /// Deterministic errors, with the texts of etcd's `rpctypes`.
    ApiError {
        /// A request without a key.
        EmptyKey => InvalidArgument, "etcdserver: key is not provided";
        /// `ignore_value` or `ignore_lease` on a key that is not there.
        KeyNotFound => InvalidArgument, "etcdserver: key not found";
        /// `ignore_value` together with a value.
        ValueProvided => InvalidArgument, "etcdserver: value is provided";
        /// `ignore_lease` together with a lease.
        LeaseProvided => InvalidArgument, "etcdserver: lease is provided";
        /// More operations than `--max-txn-ops`.
        TooManyOps => InvalidArgument, "etcdserver: too many operations in txn request";
        /// One transaction writes a key twice.
        DuplicateKey => InvalidArgument, "etcdserver: duplicate key given in txn request";
        /// `client-api-version` metadata that cannot be read.
        InvalidClientApiVersion => InvalidArgument, "etcdserver: invalid client api version";
        /// An unknown sort order or target.
        InvalidSortOption => InvalidArgument, "etcdserver: invalid sort option";
        /// The revision has been compacted.
        Compacted => OutOfRange, "etcdserver: mvcc: required revision has been compacted";
        /// The revision has not been written yet.
        FutureRevision => OutOfRange, "etcdserver: mvcc: required revision is a future revision";
        /// The quota is used up.
        NoSpace => ResourceExhausted, "etcdserver: mvcc: database space exceeded";
        /// The lease is not there.
        LeaseNotFound => NotFound, "etcdserver: requested lease not found";
        /// The lease is there already.
        LeaseExists => FailedPrecondition, "etcdserver: lease already exists";
        /// A TTL above 9,000,000,000 s.
        LeaseTtlTooLarge => OutOfRange, "etcdserver: too large lease TTL";
        /// The member id is taken.
        MemberExists => FailedPrecondition, "etcdserver: member ID already exist";
        /// A peer URL is taken.
        PeerUrlExists => FailedPrecondition, "etcdserver: Peer URLs already exists";
        /// A membership change would endanger the quorum.
        NotEnoughStartedMembers => FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
        /// Peer URLs that cannot be used.
        BadMemberUrls => InvalidArgument, "etcdserver: given member URLs are invalid";
        /// No such member.
        MemberNotFound => NotFound, "etcdserver: member not found";
        /// Promotion of a member that votes already.
        MemberNotLearner => FailedPrecondition, "etcdserver: can only promote a learner member";
        /// Promotion of a learner that is behind.
        LearnerNotReady => FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
        /// More learners than `--max-learners`.
        TooManyLearners => FailedPrecondition, "etcdserver: too many learner members in cluster";
        /// A request from another cluster.
        ClusterIdMismatch => FailedPrecondition, "etcdserver: cluster ID mismatch";
        /// The request is larger than `--max-request-bytes`.
        RequestTooLarge => InvalidArgument, "etcdserver: request is too large";
        /// Members disagree about their state.
        Corrupt => DataLoss, "etcdserver: corrupt cluster";
        /// The cluster version is not known during a downgrade.
        ClusterVersionUnavailable => FailedPrecondition, "etcdserver: cluster version not found during downgrade";
        /// A downgrade target that is not a version.
        WrongDowngradeVersionFormat => InvalidArgument, "etcdserver: wrong downgrade target version format";
        /// A downgrade target that is not one minor version lower.
        InvalidDowngradeTargetVersion => InvalidArgument, "etcdserver: invalid downgrade target version";
        /// A downgrade is in progress.
        DowngradeInProcess => FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
        /// No downgrade is in progress.
        NoInflightDowngrade => FailedPrecondition, "etcdserver: no inflight downgrade job";
        /// The requested feature is not there.
        NotCapable => FailedPrecondition, "etcdserver: not capable";
        /// Auth is not on.
        AuthNotEnabled => FailedPrecondition, "etcdserver: authentication is not enabled";
        /// Auth cannot be turned on without the user root.
        RootUserNotExist => FailedPrecondition, "etcdserver: root user does not exist";
        /// Auth cannot be turned on while the user root lacks the role root.
        RootRoleNotExist => FailedPrecondition, "etcdserver: root user does not have root role";
        /// The user name is taken.
        UserExists => FailedPrecondition, "etcdserver: user name already exists";
        /// A request without a user.
        UserEmpty => InvalidArgument, "etcdserver: user name is empty";
        /// No such user.
        UserNotFound => FailedPrecondition, "etcdserver: user name not found";
        /// The role name is taken.
        RoleExists => FailedPrecondition, "etcdserver: role name already exists";
        /// No such role.
        RoleNotFound => FailedPrecondition, "etcdserver: role name not found";
        /// A role without a name.
        RoleEmpty => InvalidArgument, "etcdserver: role name is empty";
        /// The password is wrong, or the user is not there.
        AuthFailed => InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
        /// A password was given for a user without one. etcd's own text, which it does not map to a code.
        NoPasswordUser => Unknown, "auth: authentication failed, password was given for no password user";
        /// A grant without a permission.
        PermissionNotGiven => InvalidArgument, "etcdserver: permission not given";
        /// The user may not do this.
        PermissionDenied => PermissionDenied, "etcdserver: permission denied";
        /// The user does not have the role.
        RoleNotGranted => FailedPrecondition, "etcdserver: role is not granted to the user";
        /// The role does not have the permission.
        PermissionNotGranted => FailedPrecondition, "etcdserver: permission is not granted to the role";
        /// The token is forged, has expired, or is of a user that is gone.
        InvalidAuthToken => Unauthenticated, "etcdserver: invalid auth token";
        /// The change would lock everybody out, or is no permission.
        InvalidAuthManagement => InvalidArgument, "etcdserver: invalid auth management";
        /// Users or roles have changed since the caller was identified.
        AuthOldRevision => InvalidArgument, "etcdserver: revision of auth store is old";
    }
}

errors! {
    /// Errors local to a member or a moment, with etcd's texts.
    NodeError {
        /// No leader is known.
        NoLeader => Unavailable, "etcdserver: no leader";
        /// The leader changed while the request was under way; its outcome is unknown.
        LeaderChanged => Unavailable, "etcdserver: leader changed";
        /// This member does not lead.
        NotLeader => FailedPrecondition, "etcdserver: not leader";
        /// The target cannot take leadership.
        BadLeaderTransferee => FailedPrecondition, "etcdserver: bad leader transferee";
        /// The member is stopping.
        Stopped => Unavailable, "etcdserver: server stopped";
        /// The request ran out of time; its outcome is unknown.
        Timeout => Unavailable, "etcdserver: request timed out";
        /// The request ran out of time, perhaps because the leader failed.
        TimeoutLeaderFail => Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
        /// The request ran out of time, perhaps because a connection failed.
        TimeoutConnectionLost => Unavailable, "etcdserver: request timed out, possibly due to connection lost";
        /// The member did not reach the index it waited for.
        TimeoutWaitAppliedIndex => Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
        /// Too few members are connected for a membership change.
        UnhealthyCluster => Unavailable, "etcdserver: unhealthy cluster";
        /// The queue of requests is full.
        TooManyRequests => ResourceExhausted, "etcdserver: too many requests";
        /// A learner does not serve this request.
        NotSupportedForLearner => FailedPrecondition, "etcdserver: rpc not supported for learner";
        /// The request was cancelled by the caller.
        RequestCanceled => Cancelled, "etcdserver: request canceled";
    }
}

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is at fault, or the state forbids it; equal on all members.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// This member cannot serve the request now.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Stored data is damaged: the text names the place. Never skipped over.
    #[error("corrupt data: {0}")]
    Corruption(String),
    /// What keeps the data cannot serve the request now; a retry may succeed.
    #[error("etcdserver: {0}")]
    Unavailable(String),
    /// The disk or the database failed.
    #[error("storage: {0}")]
    Storage(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// True where every member would give this error for this request.
    pub fn is_deterministic(&self) -> bool {
        matches!(self, Error::Api(_))
    }

    /// The class of the error.
    pub fn code(&self) -> Code {
        match self {
            Error::Api(e) => e.code(),
            Error::Node(e) => e.code(),
            Error::Corruption(_) => Code::DataLoss,
            Error::Unavailable(_) => Code::Unavailable,
            Error::Storage(_) | Error::Other(_) => Code::Unknown,
        }
    }
}

/// The result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
