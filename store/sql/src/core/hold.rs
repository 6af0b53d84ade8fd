//! Keeping entries of the log while a server fills its replica.
//!
//! Entries are pruned by age. A server that takes longer than that to read the
//! tables would find the log gone that leads on from there, and never catch up.
//! So it says in `skiff_progress` from which entry on it needs the log, and until
//! when that counts, by the database's clock; it says so again from time to time.
//! What a server that died has said ends by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::head::read_head;
use crate::db::{Database, DbError, Dialect, Session, Value};

/// Begins the names of these rows: `hold/<index>/<whose>`.
const PREFIX: &str = "hold/";
/// How long one word counts, how often it is said again, and for how long at all.
const COUNTS: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Keeps the entries after that of the head when it was taken, until dropped.
pub(crate) struct Hold {
    _release: oneshot::Sender<()>,
}

impl Hold {
    /// Takes one.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn take(db: &Arc<dyn Database>) -> Result<Self, DbError> {
        let mut session = db.session().await?;
        let head = read_head(session.as_mut(), db.dialect()).await?;
        let name = format!("{PREFIX}{}/{:016x}", head.index, rand::random::<u64>());
        let sql = format!(
            "INSERT INTO skiff_progress (name, value) VALUES (?, {} + {})",
            db.dialect().now_millis(),
            COUNTS.as_millis()
        );
        session.execute(&sql, &[Value::Text(name.clone())]).await?;
        let (release, released) = oneshot::channel();
        tokio::spawn(keep(db.clone(), name, released));
        Ok(Self { _release: release })
    }
}

/// Renews the row until it is released, and removes it then.
async fn keep(db: Arc<dyn Database>, name: String, mut released: oneshot::Receiver<()>) {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST && tokio::time::timeout(AGAIN, &mut released).await.is_err() {
        let sql = format!(
            "UPDATE skiff_progress SET value = {} + {} WHERE name = ?",
            db.dialect().now_millis(),
            COUNTS.as_millis()
        );
        if let Err(error) = run(db.as_ref(), &sql, &name).await {
            tracing::debug!(%error, "cannot say that the log is needed");
        }
    }
    // Where this fails the row ends by itself.
    let _ = run(db.as_ref(), "DELETE FROM skiff_progress WHERE name = ?", &name).await;
}

async fn run(db: &dyn Database, sql: &str, name: &str) -> Result<(), DbError> {
    let mut session = db.session().await?;
    session.execute(sql, &[Value::Text(name.to_owned())]).await.map(drop)
}

/// The entry after which others need the log, where they do; removes what does
/// not count any more.
///
/// # Errors
/// The database failed.
pub(crate) async fn held_after(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
) -> Result<Option<i64>, DbError> {
    let now = dialect.now_millis();
    let ended = format!("DELETE FROM skiff_progress WHERE name LIKE '{PREFIX}%' AND value <= {now}");
    session.execute(&ended, &[]).await?;
    let rows =
        session.query(&format!("SELECT name FROM skiff_progress WHERE name LIKE '{PREFIX}%'"), &[]).await?;
    let mut held: Option<i64> = None;
    for row in &rows {
        let index = row.text(0)?.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next());
        if let Some(index) = index.and_then(|index| index.parse().ok()) {
            held = Some(held.map_or(index, |held| held.min(index)));
        }
    }
    Ok(held)
}
