//! The shapes that kine's table had over its versions, on each database. Tables
//! stay as they were made, but for missing indexes, which every start makes.

use crate::base::Kind;
use crate::kine::Tombstones;

const NAME: &str = "INDEX kine_name_index ON kine (name)";
const NAME_ID: &str = "INDEX kine_name_id_index ON kine (name, id)";
const ID_DELETED: &str = "INDEX kine_id_deleted_index ON kine (id, deleted)";
const PREV: &str = "INDEX kine_prev_revision_index ON kine (prev_revision)";
const UNIQUE: &str = "UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)";
const LIST: &str = "INDEX kine_list_query_index ON kine (name, id DESC, deleted)";
const OF_COMPACTION: &str = "INDEX kine_id_compact_rev_key_with_prev_revision_index ON kine (id, name, \
                             prev_revision) WHERE name != 'compact_rev_key' AND prev_revision != 0";
const OF_DELETIONS: &str = "INDEX kine_deleted_rows_id_idx ON kine (id) WHERE deleted != 0";
const ALL: &[&str] = &[NAME, NAME_ID, ID_DELETED, PREV, UNIQUE];

/// How the database compares names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// By bytes.
    Exact,
    /// Without case, and ASCII alone.
    BlindAscii,
    /// Without case.
    Blind,
}

/// A table as some versions of kine made it, and what they wrote into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The versions, for messages.
    pub(super) versions: &'static str,
    /// Types of the id, of the revisions, of the name, of the values.
    types: [&'static str; 4],
    indexes: &'static [&'static str],
    pub(super) names: Names,
    pub(super) tombstones: Tombstones,
    /// Whether the API server's row keeps the value beside the version.
    pub(super) api_value: bool,
    /// Whether there are two rows for the compacted revision.
    pub(super) two_compact_rows: bool,
    /// The first id: where ids end at 2^31, the history ends just before.
    pub(super) first: i64,
    /// Statements that mend it, as the refusal tells them.
    pub(super) mended_by: usize,
}

impl Shape {
    /// The same with ids from 1 on.
    pub(super) fn with_ids_from_one(&self) -> Self {
        Self { first: 1, ..*self }
    }

    /// Statements that make the table.
    pub(super) fn create(&self) -> Vec<String> {
        let [id, revision, name, value] = self.types;
        let table = format!(
            "CREATE TABLE kine (id {id}, name {name}, created INTEGER, deleted INTEGER, create_revision \
             {revision}, prev_revision {revision}, lease INTEGER, value {value}, old_value {value})"
        );
        let indexes = self.indexes.iter().map(|index| format!("CREATE {index}"));
        std::iter::once(table).chain(indexes).collect()
    }
}

/// With room for the history, and for no more.
const NEAR_THE_END: i64 = i32::MAX as i64 - 50;

const SQLITE_ID: &str = "INTEGER PRIMARY KEY AUTOINCREMENT";
const MYSQL_INT: &str = "INTEGER PRIMARY KEY AUTO_INCREMENT";
const MYSQL_BIG: &str = "BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT";
const MYSQL_MIGRATED: &str = "BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT UNIQUE";
const LATIN1: &str = "VARCHAR(630) CHARACTER SET latin1 COLLATE latin1_swedish_ci";
const UTF8: &str = "VARCHAR(630) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
const ASCII: &str = "VARCHAR(630) CHARACTER SET ascii";

/// What most of them have.
const OLD: Shape = Shape {
    versions: "",
    types: ["", "INTEGER", "", ""],
    indexes: ALL,
    names: Names::Exact,
    tombstones: Tombstones::Full,
    api_value: false,
    two_compact_rows: false,
    first: 1,
    mended_by: 0,
};

const SQLITE: &[Shape] = &[
    Shape {
        versions: "SQLite, before 0.6",
        types: [SQLITE_ID, "INTEGER", "INTEGER", "BLOB"],
        indexes: &[NAME, UNIQUE],
        two_compact_rows: true,
        ..OLD
    },
    Shape {
        versions: "SQLite, 0.6 to 0.13",
        types: [SQLITE_ID, "INTEGER", "INTEGER", "BLOB"],
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "SQLite, 0.14 to 0.16",
        types: [SQLITE_ID, "INTEGER", "TEXT", "BLOB"],
        indexes: &[NAME, NAME_ID, ID_DELETED, PREV, UNIQUE, OF_COMPACTION],
        tombstones: Tombstones::Bare,
        api_value: true,
        ..OLD
    },
];

const POSTGRES: &[Shape] = &[
    Shape {
        versions: "Postgres, before 0.6",
        types: ["SERIAL PRIMARY KEY", "INTEGER", "VARCHAR(630)", "bytea"],
        indexes: &[NAME, UNIQUE],
        two_compact_rows: true,
        mended_by: 3,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "Postgres, 0.6 to 0.11, run by 0.13 and later",
        types: ["SERIAL PRIMARY KEY", "INTEGER", "VARCHAR(630)", "bytea"],
        indexes: &[NAME, NAME_ID, ID_DELETED, PREV, UNIQUE, LIST],
        mended_by: 3,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "Postgres, 0.12, or older with the first migration",
        types: ["BIGSERIAL PRIMARY KEY", "BIGINT", "VARCHAR(630)", "bytea"],
        mended_by: 1,
        ..OLD
    },
    Shape {
        versions: "Postgres, 0.13 to 0.16",
        types: ["BIGSERIAL PRIMARY KEY", "BIGINT", "text COLLATE \"C\"", "bytea"],
        indexes: &[NAME, NAME_ID, ID_DELETED, PREV, UNIQUE, LIST],
        tombstones: Tombstones::Bare,
        api_value: true,
        ..OLD
    },
    Shape {
        versions: "Postgres, after 0.16",
        types: ["BIGSERIAL PRIMARY KEY", "BIGINT", "text COLLATE \"C\"", "bytea"],
        indexes: &[NAME_ID, PREV, UNIQUE, LIST, OF_DELETIONS],
        tombstones: Tombstones::Bare,
        api_value: true,
        ..OLD
    },
];

/// Of MySQL and of MariaDB.
const MYSQL: &[Shape] = &[
    Shape {
        versions: "MySQL, the first ones, short values",
        types: [MYSQL_INT, "INTEGER", LATIN1, "BLOB"],
        indexes: &[NAME, UNIQUE],
        names: Names::Blind,
        two_compact_rows: true,
        mended_by: 3,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "MySQL, before 0.6",
        types: [MYSQL_INT, "INTEGER", LATIN1, "MEDIUMBLOB"],
        indexes: &[NAME, NAME_ID, UNIQUE],
        names: Names::Blind,
        mended_by: 2,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "MySQL, 0.6",
        types: [MYSQL_INT, "INTEGER", UTF8, "MEDIUMBLOB"],
        names: Names::Blind,
        mended_by: 2,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "MySQL, 0.7 to 0.11",
        types: [MYSQL_INT, "INTEGER", ASCII, "MEDIUMBLOB"],
        names: Names::BlindAscii,
        mended_by: 2,
        first: NEAR_THE_END,
        ..OLD
    },
    Shape {
        versions: "MySQL, older with the first migration",
        types: [MYSQL_MIGRATED, "BIGINT UNSIGNED", UTF8, "MEDIUMBLOB"],
        names: Names::Blind,
        mended_by: 1,
        ..OLD
    },
    Shape {
        versions: "MySQL, 0.12 to 0.16",
        types: [MYSQL_BIG, "BIGINT UNSIGNED", ASCII, "MEDIUMBLOB"],
        names: Names::BlindAscii,
        tombstones: Tombstones::Bare,
        api_value: true,
        mended_by: 1,
        ..OLD
    },
];

/// The shapes on a database.
pub(super) fn of(kind: Kind) -> &'static [Shape] {
    match kind {
        Kind::Sqlite => SQLITE,
        Kind::Postgres => POSTGRES,
        Kind::MariaDb | Kind::MySql => MYSQL,
    }
}
