//! What every [`Store`] must do, as cases that any implementation runs.
//!
//! ```ignore
//! mod conformance {
//!     skiff_store::store_conformance!(|| async { Subject::new(my_store().await) });
//! }
//! ```
//!
//! gives one test a case; [`run_all`] runs them one after the other. A case
//! gets new, empty stores and panics at the first difference.
//!
//! Not here: what the API layer checks before it calls a store (empty keys,
//! too many operations, duplicate keys, passwords), and crashes.

pub mod auth;
mod cases;
pub mod fuzz;
pub mod history;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod range;
pub mod support;
pub mod txn;
pub mod watch;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::api::Store;

pub use cases::run_all;

/// A store under test.
pub struct Subject {
    /// The store, empty.
    pub store: Arc<dyn Store>,
    advance: Option<Box<dyn Fn(Duration) + Send + Sync>>,
    _keep: Option<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A store whose leases follow the machine's clock.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, advance: None, _keep: None }
    }

    /// Says how to move the store's clock, so that no case waits for leases.
    pub fn with_clock(mut self, advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.advance = Some(Box::new(advance));
        self
    }

    /// Drops something, like a directory, after the store.
    pub fn keep(mut self, what: impl Any + Send + Sync) -> Self {
        self._keep = Some(Box::new(what));
        self
    }

    /// Lets time pass for leases. With the machine's clock that goes on by
    /// itself: cases poll for what they expect.
    pub fn advance(&self, by: Duration) {
        if let Some(advance) = &self.advance {
            advance(by);
        }
    }
}

impl std::ops::Deref for Subject {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        self.store.as_ref()
    }
}

/// Makes a new, empty store.
pub trait Make: Send + Sync {
    /// Makes one.
    fn make(&self) -> Pin<Box<dyn Future<Output = Subject> + Send + '_>>;
}

impl<F, T> Make for F
where
    F: Fn() -> T + Send + Sync,
    T: Future<Output = Subject> + Send + 'static,
{
    fn make(&self) -> Pin<Box<dyn Future<Output = Subject> + Send + '_>> {
        Box::pin(self())
    }
}
