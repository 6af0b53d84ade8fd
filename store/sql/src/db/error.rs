//! Errors of a database, by what can be done about them.

/// What an error means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DbErrorKind {
    /// A unique index has the row already.
    UniqueViolation,
    /// A deadlock, a serialization failure or a lock not got in time: nothing
    /// happened, and the transaction may be tried again.
    Retry,
    /// The connection broke in the middle of a call; of a commit the outcome is
    /// unknown.
    ConnectionLost,
    /// The database takes no writes (a replica, or set so).
    ReadOnly,
    /// The disk or a limit of the database is full.
    DiskFull,
    /// No connection could be had.
    Unreachable,
    /// The database does not accept who we are or what we may do.
    Denied,
    /// The database, table or index asked for is not there.
    Missing,
    /// Anything else.
    Other,
}

/// An error of a database. Its text never holds a password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct DbError {
    kind: DbErrorKind,
    /// The database's own code, for the metrics.
    code: Option<String>,
    message: String,
}

/// The code of an error of TLS, which no database gives.
const TLS: &str = "tls";

impl DbError {
    /// An error of `kind` with `message`.
    pub fn new(kind: DbErrorKind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into() }
    }

    /// What the error means.
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// The database's own code (an SQLSTATE or a number).
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The error of the driver, classed by `class` where the database itself
    /// reported it.
    pub(super) fn from_driver(
        error: &sqlx::Error,
        class: impl FnOnce(&dyn sqlx::error::DatabaseError) -> (DbErrorKind, Option<String>),
    ) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let (kind, code) = class(error.as_ref());
                let shown = code.as_deref().unwrap_or("none");
                let message = format!("the database reports (code {shown}): {}", error.message());
                Self { kind, code, message }
            }
            // How the driver tells of what TLS objects to.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Self {
                kind: DbErrorKind::ConnectionLost,
                code: Some(TLS.to_owned()),
                message: format!("the secure connection to the database failed: {error}"),
            },
            sqlx::Error::Io(error) => Self::new(
                DbErrorKind::ConnectionLost,
                format!("the connection to the database broke: {error}"),
            ),
            sqlx::Error::Tls(error) => {
                Self::new(DbErrorKind::Denied, format!("no secure connection to the database: {error}"))
            }
            sqlx::Error::Protocol(error) => Self::new(
                DbErrorKind::ConnectionLost,
                format!("the database's answer is not understood: {error}"),
            ),
            sqlx::Error::WorkerCrashed => {
                Self::new(DbErrorKind::ConnectionLost, "the SQLite connection's thread ended")
            }
            other => Self::new(DbErrorKind::Other, other.to_string()),
        }
    }

    /// The same error as one of opening a connection, where a broken connection
    /// means that there is none, and a certificate that was not accepted that
    /// none is to be had.
    pub(super) fn while_opening(mut self, what: &str) -> Self {
        if matches!(self.kind, DbErrorKind::ConnectionLost) {
            let insecure = self.code.as_deref() == Some(TLS);
            self.kind = if insecure { DbErrorKind::Denied } else { DbErrorKind::Unreachable };
        }
        self.message = format!("opening {what}: {}", self.message);
        self
    }

    /// Whether the connection can be used no more.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.kind, DbErrorKind::ConnectionLost | DbErrorKind::Unreachable | DbErrorKind::ReadOnly)
    }

    /// The same error with another kind.
    pub(super) fn with_kind(mut self, kind: DbErrorKind) -> Self {
        self.kind = kind;
        self
    }
}
