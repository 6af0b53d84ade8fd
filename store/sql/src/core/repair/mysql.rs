//! Tables of kine on MySQL and MariaDB.

use super::{Column, Finding, column};

/// What keeps two writers from following the same row. Without the other indexes,
/// which came and went over the versions, a table is only slower.
const UNIQUE: &str = "kine_name_prev_revision_uindex";

/// What is wrong with a table of these columns and indexes.
pub(super) fn findings(columns: &[Column], indexes: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(narrow_numbers(columns));
    found.extend(confused_names(columns));
    found.extend(short_values(columns));
    if !indexes.iter().any(|index| index.eq_ignore_ascii_case(UNIQUE)) {
        found.push(Finding {
            problem: format!("the index {UNIQUE} is missing"),
            statements: vec![format!("CREATE UNIQUE INDEX {UNIQUE} ON kine (name, prev_revision)")],
        });
    }
    found
}

fn narrow_numbers(columns: &[Column]) -> Option<Finding> {
    let narrow: Vec<&str> = ["id", "create_revision", "prev_revision"]
        .into_iter()
        .filter(|name| column(columns, name).is_some_and(|(_, kind, _)| !kind.starts_with("bigint")))
        .collect();
    let changes: Vec<String> = narrow
        .iter()
        .map(|name| match *name {
            "id" => "MODIFY COLUMN id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT".to_owned(),
            name => format!("MODIFY COLUMN {name} BIGINT UNSIGNED"),
        })
        .collect();
    (!narrow.is_empty()).then(|| Finding {
        problem: format!("{} has 32 bits and ends at revision 2147483647", narrow.join(", ")),
        statements: vec![format!("ALTER TABLE kine {}", changes.join(", "))],
    })
}

fn confused_names(columns: &[Column]) -> Option<Finding> {
    let (_, _, collation) = column(columns, "name")?;
    if collation.ends_with("_bin") || collation == "binary" {
        return None;
    }
    // Only a column of ASCII holds nothing else for certain. Others take four
    // bytes a character then, for which an index of an old row format is too small.
    let (set, format) =
        if collation.starts_with("ascii_") { ("ascii", "") } else { ("utf8mb4", ", ROW_FORMAT=DYNAMIC") };
    Some(Finding {
        problem: format!("name ignores case ({collation}): keys that differ in case alone are mixed up"),
        statements: vec![format!(
            "ALTER TABLE kine MODIFY COLUMN name VARCHAR(630) CHARACTER SET {set} COLLATE {set}_bin{format}"
        )],
    })
}

fn short_values(columns: &[Column]) -> Option<Finding> {
    let short: Vec<&str> = ["value", "old_value"]
        .into_iter()
        .filter(|name| {
            column(columns, name).is_some_and(|(_, kind, _)| kind != "mediumblob" && kind != "longblob")
        })
        .collect();
    let changes: Vec<String> = short.iter().map(|name| format!("MODIFY COLUMN {name} MEDIUMBLOB")).collect();
    (!short.is_empty()).then(|| Finding {
        problem: format!("{} cannot hold every value", short.join(", ")),
        statements: vec![format!("ALTER TABLE kine {}", changes.join(", "))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(id: &str, collation: &str, value: &str) -> Vec<Column> {
        [
            ("id", id, ""),
            ("create_revision", id, ""),
            ("prev_revision", id, ""),
            ("name", "varchar(630)", collation),
            ("value", value, ""),
            ("old_value", value, ""),
        ]
        .map(|(column, kind, collation)| (column.to_owned(), kind.to_owned(), collation.to_owned()))
        .to_vec()
    }

    #[test]
    fn finds_what_old_versions_left() {
        let unique = [UNIQUE.to_owned()];
        assert_eq!(findings(&columns("bigint unsigned", "ascii_bin", "mediumblob"), &unique), []);
        let old = findings(&columns("int(11)", "utf8mb4_general_ci", "blob"), &[]);
        assert_eq!(old.len(), 4, "{old:?}");
        assert!(old[0].problem.contains("2147483647"));
        assert!(old[1].problem.contains("ignores case"));
        assert!(old[1].statements[0].contains("utf8mb4_bin"));
        assert!(old[2].statements[0].contains("MODIFY COLUMN old_value MEDIUMBLOB"));
        assert!(old[3].statements[0].starts_with("CREATE UNIQUE INDEX"));
        let ascii = findings(&columns("bigint", "ascii_general_ci", "longblob"), &unique);
        assert!(ascii.len() == 1 && ascii[0].statements[0].ends_with("ascii_bin"), "{ascii:?}");
    }
}
