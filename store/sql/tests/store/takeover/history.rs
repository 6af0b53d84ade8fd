//! What clients did with a kine: told once, written as the rows that each
//! version would have left.

use std::borrow::Cow;

use super::shapes::{Names, Shape};
use crate::kine::{Row, Tombstones};

/// A step of the history.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A key is created or updated.
    Put(&'static str, &'static str),
    /// The same with seconds to live.
    Lease(&'static str, &'static str, i64),
    Delete(&'static str),
    /// The API server notes a compaction: version and value of its key.
    ApiServer(i64, &'static str),
    /// A transaction is rolled back, or breaks off: its id is never used.
    Lost,
    /// The same, found and filled by kine's poller.
    Gap,
    /// A key is written after the row of another one, which kine found as its
    /// pattern matched it: until 0.10 `_` stood for any character.
    Mistaken(&'static str, &'static str, &'static str),
    /// All up to here is compacted.
    Compact,
}

use Step::{ApiServer, Compact, Delete, Gap, Lease, Lost, Mistaken, Put};

/// Everything that a table of kine may hold.
pub(super) const STEPS: &[Step] = &[
    Put("/registry/health", r#"{"health":"true"}"#),
    Put("/registry/a", "a1"),
    Put("/registry/a", "a2"),
    Put("/registry/b", "b1"),
    Lost,
    Put("/registry/pad", "p1"),
    Delete("/registry/pad"),
    Put("/registry/pad", "p2"),
    Put("/registry/roles/Foo", "f1"),
    Put("/registry/roles/Foo", "f2"),
    Put("/registry/roles/Bar", "r1"),
    Put("/registry/roles/Baz", "z1"),
    Put("12", "n1"),
    Lease("/registry/events/kept", "e0", 3600),
    Lease("/registry/events/freed", "e1", 60),
    ApiServer(1, "5"),
    ApiServer(2, "9"),
    ApiServer(3, "13"),
    Compact,
    Put("/registry/a", "a3"),
    Gap,
    Delete("/registry/b"),
    Put("/registry/b", "b2"),
    Put("/registry/pad ", "p3"),
    // In another spelling: another key, or the same, as the database has it.
    Put("/registry/roles/foo", "f3"),
    Put("/registry/roles/foo", "f4"),
    Delete("/registry/roles/bar"),
    Put("/registry/roles/baz", "z2"),
    Put("/registry/roles/Baz", "z3"),
    Lease("/registry/events/kept", "e2", 3600),
    Put("/registry/events/freed", "e3"),
    Lease("/registry/events/gone", "e4", 7200),
    Delete("/registry/events/gone"),
    Put("/registry/\u{e4}\u{f6}", "u1"),
    Put("/registry/\u{e4}\u{f6}", "u2"),
    Put("/registry/c", "c1"),
    Delete("/registry/c"),
    Put("/registry/x-y", "x1"),
    Mistaken("/registry/x_y", "/registry/x-y", "x2"),
    ApiServer(4, "17"),
    Lost,
    Lost,
    Put("12", "n2"),
    Put("/registry/Z", "Z"),
    Put("/registry/~", "~"),
];

/// The steps that the versions of a shape could take.
pub(super) fn steps(shape: &Shape) -> impl Iterator<Item = Step> {
    let ascii = shape.names == Names::BlindAscii;
    STEPS.iter().copied().filter(move |step| match step {
        Put(key, _) => !ascii || key.is_ascii(),
        _ => true,
    })
}

/// The rows that they leave.
pub(super) fn rows(shape: &Shape) -> Vec<Row> {
    let mut kine = Kine { shape: *shape, rows: Vec::new(), next: shape.first };
    kine.add(Row { name: "compact_rev_key".into(), created: true, value: Some("".into()), ..Row::default() });
    if shape.two_compact_rows {
        // The higher one counts; the lower one was forgotten.
        kine.rows[0].prev_revision = 1;
        kine.add(kine.rows[0].clone());
    }
    for step in steps(shape) {
        kine.step(step);
    }
    kine.rows
}

/// The table, as kine writes it.
struct Kine {
    shape: Shape,
    rows: Vec<Row>,
    next: i64,
}

impl Kine {
    fn add(&mut self, row: Row) {
        self.rows.push(Row { id: self.next, ..row });
        self.next += 1;
    }

    fn step(&mut self, step: Step) {
        match step {
            Put(key, value) => self.put(key, value.into(), 0),
            Lease(key, value, ttl) => self.put(key, value.into(), ttl),
            Delete(key) => self.delete(key),
            ApiServer(version, value) => {
                let text =
                    if self.shape.api_value { format!("{version}|{value}") } else { version.to_string() };
                self.put("compact_rev_key_apiserver", text.into(), 0);
            }
            Lost => self.next += 1,
            Gap => {
                let name = format!("gap-{}", self.next).into();
                self.add(Row { name, deleted: true, ..Row::default() });
            }
            Mistaken(key, other, value) => {
                let found = self.newest(other).expect("the other key");
                self.follow(key, found, value.into(), 0);
            }
            Compact => self.compact(),
        }
    }

    /// The newest row that the database finds for a name.
    fn newest(&self, key: &str) -> Option<Row> {
        let exact = self.shape.names == Names::Exact;
        let same = |name: &str| if exact { name == key } else { name.eq_ignore_ascii_case(key) };
        self.rows.iter().rev().find(|row| same(&row.name)).cloned()
    }

    fn put(&mut self, key: &'static str, value: Cow<'static, str>, ttl: i64) {
        match self.newest(key) {
            Some(found) if !found.deleted => self.follow(key, found, value, ttl),
            found => {
                let row = Row { name: key.into(), created: true, value: Some(value), ..Row::default() };
                self.add(Row { prev_revision: found.map_or(0, |row| row.id), lease: ttl, ..row });
            }
        }
    }

    fn follow(&mut self, key: &'static str, found: Row, value: Cow<'static, str>, ttl: i64) {
        self.add(Row {
            name: key.into(),
            create_revision: origin(&found),
            prev_revision: found.id,
            lease: ttl,
            value: Some(value),
            old_value: found.value,
            ..Row::default()
        });
    }

    fn delete(&mut self, key: &'static str) {
        let Some(found) = self.newest(key).filter(|row| !row.deleted) else { return };
        let row = Row {
            name: key.into(),
            deleted: true,
            prev_revision: found.id,
            old_value: found.value.clone(),
            ..Row::default()
        };
        self.add(match self.shape.tombstones {
            Tombstones::Bare => row,
            Tombstones::Full => {
                Row { create_revision: origin(&found), lease: found.lease, value: found.value, ..row }
            }
        });
    }

    fn compact(&mut self) {
        let through = self.next - 1;
        let rows = self.rows.iter().filter(|row| row.name != "compact_rev_key");
        let replaced: Vec<i64> = rows.map(|row| row.prev_revision).collect();
        self.rows.retain(|row| !replaced.contains(&row.id) && !row.deleted);
        let own = self.rows.iter_mut().rfind(|row| row.name == "compact_rev_key");
        own.expect("its own row").prev_revision = through;
    }
}

fn origin(row: &Row) -> i64 {
    if row.created { row.id } else { row.create_revision }
}
