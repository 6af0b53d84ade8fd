//! Why an endpoint was refused.

/// A datastore endpoint that cannot be used. The text names what is wrong and
/// never repeats a part that may hold the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl EndpointError {
    /// An error with `message`.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}
