//! Why work on the database did not succeed, by what is to be done about it.

use skiff_store::Error;

use super::doubt::InDoubt;
use crate::db::{DbError, DbErrorKind};

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Nothing happened.
    Database(DbError),
    /// Nothing happened; the replica or the contract is at fault.
    Store(Error),
    /// Nothing happened but that an obstacle was removed.
    Again,
    /// Nothing happened; the replica is being filled.
    Busy,
    /// The log does not reach back to the replica's position.
    Behind,
    /// The commit may have happened.
    Unknown(Box<InDoubt>),
}

impl Failure {
    /// Whether another program was faster.
    pub(crate) fn is_for_others(&self) -> bool {
        match self {
            Failure::Again => true,
            Failure::Database(error) => error.kind() == DbErrorKind::UniqueViolation,
            _ => false,
        }
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Failure::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}
