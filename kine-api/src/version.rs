//! The API version this server claims.

/// The etcd release whose API is served. Clients switch features by it:
/// progress requests need at least 3.4.31 and not 3.5.0 to 3.5.12, streamed
/// ranges 3.7.
pub const ETCD_VERSION: &str = "3.7.0";
