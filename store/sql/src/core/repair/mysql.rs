//! Tables of kine on MySQL and MariaDB.

use super::{Column, Finding, column};

/// The indexes kine makes, with their definitions.
const INDEXES: [(&str, &str); 5] = [
    ("kine_name_index", "INDEX kine_name_index ON kine (name)"),
    ("kine_name_id_index", "INDEX kine_name_id_index ON kine (name, id)"),
    ("kine_id_deleted_index", "INDEX kine_id_deleted_index ON kine (id, deleted)"),
    ("kine_prev_revision_index", "INDEX kine_prev_revision_index ON kine (prev_revision)"),
    (
        "kine_name_prev_revision_uindex",
        "UNIQUE INDEX kine_name_prev_revision_uindex ON kine (name, prev_revision)",
    ),
];

/// What is wrong with a table of these columns and indexes.
pub(super) fn findings(columns: &[Column], indexes: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    let narrow: Vec<&str> = ["id", "create_revision", "prev_revision"]
        .into_iter()
        .filter(|name| column(columns, name).is_some_and(|(_, kind, _)| !kind.starts_with("bigint")))
        .collect();
    if !narrow.is_empty() {
        let changes: Vec<String> = narrow
            .iter()
            .map(|name| match *name {
                "id" => "MODIFY COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT".to_owned(),
                name => format!("MODIFY COLUMN {name} BIGINT UNSIGNED"),
            })
            .collect();
        let problem = format!("{} has 32 bits and ends at revision 4294967295", narrow.join(", "));
        found.push(Finding { problem, statements: vec![format!("ALTER TABLE kine {}", changes.join(", "))] });
    }
    if let Some((_, _, collation)) = column(columns, "name")
        && !collation.ends_with("_bin")
        && collation != "binary"
    {
        found.push(Finding {
            problem: format!("name ignores case ({collation}): keys that differ in case alone are mixed up"),
            statements: vec![
                "ALTER TABLE kine MODIFY COLUMN name VARCHAR(630) CHARACTER SET ascii COLLATE ascii_bin"
                    .to_owned(),
            ],
        });
    }
    for (name, definition) in INDEXES {
        if !indexes.iter().any(|index| index.eq_ignore_ascii_case(name)) {
            found.push(Finding {
                problem: format!("the index {name} is missing"),
                statements: vec![format!("CREATE {definition}")],
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(id: &str, collation: &str) -> Vec<Column> {
        [("id", id, ""), ("create_revision", id, ""), ("prev_revision", id, ""), (
            "name",
            "varchar(630)",
            collation,
        )]
        .map(|(column, kind, collation)| (column.to_owned(), kind.to_owned(), collation.to_owned()))
        .to_vec()
    }

    #[test]
    fn finds_what_old_versions_left() {
        let all: Vec<String> = INDEXES.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(findings(&columns("bigint unsigned", "ascii_bin"), &all), []);
        let old = findings(&columns("int(11)", "utf8mb4_general_ci"), &all[..4]);
        assert_eq!(old.len(), 3, "{old:?}");
        assert!(old[1].problem.contains("ignores case"));
        assert!(old[2].statements[0].starts_with("CREATE UNIQUE INDEX"));
    }
}
