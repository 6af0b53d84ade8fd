//! Tables of kine on Postgres.

use super::{Column, Finding, column};

/// What is wrong with a table of these columns.
pub(super) fn findings(columns: &[Column]) -> Vec<Finding> {
    let mut found = Vec::new();
    let narrow: Vec<&str> = ["id", "create_revision", "prev_revision"]
        .into_iter()
        .filter(|name| column(columns, name).is_some_and(|(_, kind, _)| kind == "integer"))
        .collect();
    if !narrow.is_empty() {
        let changes: Vec<String> =
            narrow.iter().map(|name| format!("ALTER COLUMN {name} SET DATA TYPE BIGINT")).collect();
        let mut statements = vec![format!("ALTER TABLE kine {}", changes.join(", "))];
        if narrow.contains(&"id") {
            statements.push("ALTER SEQUENCE IF EXISTS kine_id_seq AS BIGINT".to_owned());
        }
        let problem = format!("{} has 32 bits and ends at revision 2147483647", narrow.join(", "));
        found.push(Finding { problem, statements });
    }
    if let Some((_, kind, collation)) = column(columns, "name")
        && (kind != "text" || collation != "c")
    {
        found.push(Finding {
            problem: "name is limited to 630 characters, or not in the order of bytes".to_owned(),
            statements: vec!["ALTER TABLE kine ALTER COLUMN name SET DATA TYPE TEXT COLLATE \"C\"".to_owned()],
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(id: &str, name: &str, collation: &str) -> Vec<Column> {
        [("id", id, ""), ("create_revision", id, ""), ("prev_revision", id, ""), ("name", name, collation)]
            .map(|(column, kind, collation)| (column.to_owned(), kind.to_owned(), collation.to_owned()))
            .to_vec()
    }

    #[test]
    fn finds_what_old_versions_left() {
        assert_eq!(findings(&columns("bigint", "text", "c")), []);
        let old = findings(&columns("integer", "character varying", ""));
        assert_eq!(old.len(), 2);
        assert!(old[0].problem.contains("id, create_revision, prev_revision"));
        assert_eq!(findings(&columns("bigint", "text", "")).len(), 1);
    }
}
