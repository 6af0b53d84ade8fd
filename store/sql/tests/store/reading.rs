//! Reading a database of kine for moving it, while kine works on it.

use skiff_sql::db::Database;
use skiff_sql::transfer::Reader;
use skiff_store::api::{Read, ReadReply};
use skiff_store::conformance::support::*;

use crate::base::Base;
use crate::kine::{self, Row};

crate::on_each! { a_late_id_is_waited_for what_kine_compacts_unread_does_not_come_back }

fn row(id: i64, name: &'static str, prev_revision: i64) -> Row {
    let created = prev_revision == 0;
    let create_revision = if created { 0 } else { prev_revision };
    Row {
        id,
        name: name.into(),
        created,
        create_revision,
        prev_revision,
        value: Some("x".into()),
        ..Row::default()
    }
}

/// kine's table alone, with two keys at revisions 2 and 3.
async fn table(base: &Base) -> std::sync::Arc<dyn Database> {
    let db = base.database().await;
    let mut session = db.session().await.expect("a session");
    for sql in db.dialect().create_kine_table() {
        session.execute(&sql, &[]).await.expect("a table");
    }
    let rows = [Row { id: 1, created: true, ..row(1, "compact_rev_key", 0) }, row(2, "a", 0), row(3, "b", 0)];
    kine::insert(session.as_mut(), &rows).await;
    drop(session);
    db
}

fn keys(reader: &Reader) -> Vec<String> {
    match reader.mvcc().read(None, &Read::Range(everything())).expect("a range") {
        ReadReply::Range(range) => range.kvs.iter().map(|kv| text(&kv.key).to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

/// A transaction that was rolled back leaves an id out, and one that is slow
/// fills it later: nobody knows which for a while, and the move must not end
/// before that is known.
async fn a_late_id_is_waited_for(base: Base) {
    let db = table(&base).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut reader = Reader::open(db.clone(), folder.path().join("r")).await.expect("a reader");
    let mut session = db.session().await.expect("a session");
    kine::insert(session.as_mut(), &[row(6, "c", 0)]).await;
    reader.advance().await.expect("it reads");
    assert_eq!((reader.mvcc().revision(), keys(&reader)), (3, vec!["a".into(), "b".into()]));
    // One of the two comes after all.
    kine::insert(session.as_mut(), &[row(5, "late", 0)]).await;
    reader.settle().await.expect("it reads");
    assert_eq!(reader.mvcc().revision(), 6);
    assert_eq!(keys(&reader), ["a", "b", "c", "late"]);
    db.close().await;
}

async fn what_kine_compacts_unread_does_not_come_back(base: Base) {
    let db = table(&base).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut reader = Reader::open(db.clone(), folder.path().join("r")).await.expect("a reader");
    let mut session = db.session().await.expect("a session");
    // "a" was deleted at 4, "b" written at 5, and all before 5 compacted.
    kine::insert(session.as_mut(), &[row(5, "b", 3)]).await;
    for sql in [
        "DELETE FROM kine WHERE id IN (2, 3)",
        "UPDATE kine SET prev_revision = 5 WHERE name = 'compact_rev_key'",
    ] {
        session.execute(sql, &[]).await.expect("a statement");
    }
    reader.settle().await.expect("it reads");
    assert_eq!((reader.mvcc().revision(), reader.mvcc().compact_revision()), (5, 5));
    assert_eq!(keys(&reader), ["b"]);
    db.close().await;
}
