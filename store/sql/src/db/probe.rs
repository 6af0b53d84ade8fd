//! Whether a pooler swaps the server's sessions between transactions.
//!
//! PgBouncer in transaction mode gives every transaction whichever session is
//! free. A statement prepared there may then be missing, or be another client's
//! of the same name, which would run the wrong statement without any error. So
//! it is found out before anything is prepared: each of several connections
//! leaves a mark in its session and looks whether it still finds its own.

use sqlx::Connection;

use super::pool::Driver;
use super::{DbError, DbErrorKind};

/// Connections that leave a mark, beside the first.
const OTHERS: usize = 2;

/// The setting that carries the mark; a name with a dot is anybody's to use.
const MARK: &str = "skiff.session";

/// Whether sessions are shared. `first` is one connection of `driver`.
pub(super) async fn sessions_are_shared<D: Driver>(
    driver: &D,
    first: &mut D::Connection,
) -> Result<bool, DbError> {
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        match driver.open().await {
            Ok(connection) => others.push(connection),
            // A limit on connections: fewer have to do.
            Err(error) if error.kind() == DbErrorKind::Unreachable => break,
            Err(error) => return Err(error),
        }
    }
    let mut connections: Vec<&mut D::Connection> = others.iter_mut().collect();
    connections.insert(0, first);
    for (number, connection) in connections.iter_mut().enumerate() {
        driver.simple(connection, &format!("SET {MARK} = '{number}'")).await?;
    }
    let mut shared = false;
    for (number, connection) in connections.iter_mut().enumerate() {
        // Without a statement that is prepared: an error tells the same.
        let check = format!(
            "DO $$ BEGIN IF current_setting('{MARK}', true) IS DISTINCT FROM '{number}' \
             THEN RAISE EXCEPTION 'shared' USING ERRCODE = 'P0001'; END IF; END $$"
        );
        match driver.simple(connection, &check).await {
            Ok(_) => {}
            Err(error) if error.code() == Some("P0001") => shared = true,
            Err(error) => return Err(error),
        }
    }
    for connection in others {
        // Their work is done; a farewell that fails changes nothing.
        let _ = connection.close().await;
    }
    Ok(shared)
}
