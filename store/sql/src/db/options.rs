//! Limits of a pool.

use std::time::Duration;

/// Limits of a pool of connections; the defaults are kine's, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Make the database where it is missing.
    pub create: bool,
    /// Idle connections kept; 0 keeps none.
    pub max_idle: usize,
    /// Connections open at a time; 0 means as many as is sensible for the
    /// database (see [`PoolOptions::capacity`]).
    pub max_open: usize,
    /// The age at which a connection is replaced; zero means never.
    pub max_lifetime: Duration,
    /// How long a connection may be idle; zero means for ever.
    pub max_idle_time: Duration,
    /// How long to wait for a free connection.
    pub acquire_timeout: Duration,
    /// How long one call may take before the connection counts as lost.
    pub statement_limit: Duration,
    /// Statements that take longer are logged; zero for none.
    pub slow_info: Duration,
    /// Those that take longer are logged as a warning; zero for none.
    pub slow_warning: Duration,
}

/// Connections at a time where nobody says how many: half of what Postgres
/// takes by default, so that a second server of ours fits beside the first.
const DEFAULT_CAPACITY: usize = 48;

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            create: true,
            max_idle: 20,
            max_open: 0,
            max_lifetime: Duration::ZERO,
            max_idle_time: Duration::from_secs(120),
            acquire_timeout: Duration::from_secs(15),
            statement_limit: Duration::from_secs(60),
            slow_info: Duration::from_secs(1),
            slow_warning: Duration::from_secs(5),
        }
    }
}

impl PoolOptions {
    /// How many connections may be open at a time.
    pub fn capacity(&self) -> usize {
        match self.max_open {
            0 => DEFAULT_CAPACITY,
            // More than any database takes; keeps the semaphore in its bounds.
            limit => limit.min(10_000),
        }
    }
}
