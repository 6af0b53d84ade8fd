//! The store on real databases: what every store must do, several servers on
//! one database, databases that kine left, kine beside it.

#[path = "../support/mod.rs"]
mod support;

mod base;
mod beside;
mod conformance;
mod faults;
mod galera;
mod hosts;
mod kine;
mod mended;
mod reading;
mod servers;
mod takeover;
mod tls;
mod vanished;

/// Runs tests on every kind of database.
macro_rules! on_each {
    ($($name:ident)*) => {
        $crate::on_each! { @kind sqlite Sqlite $($name)* }
        $crate::on_each! { @kind postgres Postgres $($name)* }
        $crate::on_each! { @kind mariadb MariaDb $($name)* }
        $crate::on_each! { @kind mysql MySql $($name)* }
    };
    (@kind $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(base) = $crate::base::Base::new($crate::base::Kind::$kind).await {
                    super::$name(base).await;
                }
            })*
        }
    };
}
pub(crate) use on_each;
