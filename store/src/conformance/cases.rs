//! The list of cases.

use super::Make;

/// Defines one test a case, with new stores made by an expression that is a
/// [`Make`], usually a closure.
#[macro_export]
macro_rules! store_conformance {
    ($make:expr) => {
        $crate::conformance_cases! { conformance_tests $make }
    };
}

/// Calls a macro with the list of cases behind its own arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($callback:ident $($args:tt)*) => {
        $crate::$callback! {
            [$($args)*]
            kv { empty_store versions binary_keys put_prev_kv put_ignore delete_range concurrent_writes }
            range { bounds limit_and_count sorts revision_filters streamed streamed_state }
            history { old_revisions compaction compaction_of_everything compaction_frees }
            txn { compares range_compares branches one_revision options_inside nested failures_change_nothing race_to_create }
            lease { grants unknown attachment revokes time_left keep_alive expiry }
            watch { from_now from_the_past from_the_future from_compacted deletion_at_the_compacted_revision atomic whole_revisions contents filters ranges under_load slow_consumer }
            auth { users permissions old_revision leases tokens }
            maintenance { hash_kv hash_kv_compacted no_space snapshot defragment status }
        }
    };
}

/// Defines the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ([$make:expr] $($module:ident { $($case:ident)* })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                #[allow(unused_imports)]
                use super::*;
                $crate::conformance::$module::$case(&$make).await;
            })*
        })*
    };
}

/// Runs the cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_run {
    ([$make:expr] $($module:ident { $($case:ident)* })*) => {
        $($(
            tracing::info!("conformance: {}::{}", stringify!($module), stringify!($case));
            $crate::conformance::$module::$case($make).await;
        )*)*
    };
}

/// Runs every case, one after the other.
///
/// # Panics
/// At the first difference.
pub async fn run_all(make: &dyn Make) {
    crate::conformance_cases! { conformance_run make }
}
