//! Keys under several spellings, as old tables on MySQL let them in.
//!
//! Where the database takes names that differ in case for one, kine finds the
//! row of `Role` when it is asked for `role`, and lets the row that it writes
//! under this name follow it. Compared by bytes these are two keys, of which the
//! first would live on with a value, or with a life, that is over. So all rows
//! of such a chain get the name that kine lists: that of the newest one that is
//! no deletion.

use std::collections::HashMap;

/// A row, as far as its name is concerned.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Link<'a> {
    pub(in crate::core) id: i64,
    pub(in crate::core) name: &'a str,
    pub(in crate::core) created: bool,
    pub(in crate::core) deleted: bool,
    pub(in crate::core) create_revision: i64,
    pub(in crate::core) prev_revision: i64,
}

/// Rows from `from` on and before `until` are given another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::core) struct Rename {
    pub(in crate::core) from: i64,
    pub(in crate::core) until: i64,
    pub(in crate::core) old: String,
    pub(in crate::core) new: String,
}

/// Follows the chains, row by row in the order of ids.
#[derive(Default)]
pub(in crate::core) struct Spellings {
    /// The newest row of each name that is not deleted, by either.
    names: HashMap<i64, String>,
    ids: HashMap<String, i64>,
}

impl Spellings {
    /// Looks at the next row; answers what is to be renamed because of it.
    pub(in crate::core) fn see(&mut self, link: Link<'_>) -> Option<Rename> {
        let before = self.names.get(&link.prev_revision).filter(|_| !link.created).cloned();
        let rename = before.filter(|old| old != link.name && is_alike(old, link.name)).map(|old| {
            let (id, name) = (link.id, link.name.to_owned());
            match link.deleted {
                true => Rename { from: id, until: id + 1, old: name, new: old },
                false => Rename { from: link.create_revision, until: id, old, new: name },
            }
        });
        if let Some(rename) = &rename {
            self.forget(if link.deleted { &rename.new } else { &rename.old });
        }
        self.forget(link.name);
        if !link.deleted {
            self.names.insert(link.id, link.name.to_owned());
            self.ids.insert(link.name.to_owned(), link.id);
        }
        rename
    }

    fn forget(&mut self, name: &str) {
        if let Some(id) = self.ids.remove(name) {
            self.names.remove(&id);
        }
    }
}

/// Whether a collation that ignores case, accents, and blanks at the end may
/// take two names for one.
fn is_alike(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.trim_end_matches(' ').chars(), other.trim_end_matches(' ').chars());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(&b) || !a.is_ascii() || !b.is_ascii() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: i64, name: &str, prev_revision: i64) -> Link<'_> {
        let created = prev_revision == 0;
        Link { id, name, created, deleted: false, create_revision: 2, prev_revision }
    }

    #[test]
    fn a_chain_gets_the_name_of_its_newest_row() {
        let mut spellings = Spellings::default();
        assert_eq!(spellings.see(link(2, "Role", 0)), None);
        assert_eq!(spellings.see(link(3, "Role", 2)), None);
        let rename = spellings.see(link(4, "role", 3)).unwrap();
        assert_eq!((rename.from, rename.until), (2, 4));
        assert_eq!((rename.old.as_str(), rename.new.as_str()), ("Role", "role"));
        // A deletion takes the name of what it deletes.
        let rename = spellings.see(Link { deleted: true, ..link(5, "ROLE", 4) }).unwrap();
        assert_eq!((rename.from, rename.until), (5, 6));
        assert_eq!((rename.old.as_str(), rename.new.as_str()), ("ROLE", "role"));
        assert_eq!(spellings.see(link(6, "ROLE", 4)), None, "it is gone");
    }

    #[test]
    fn other_keys_stay_what_they_are() {
        let mut spellings = Spellings::default();
        for (id, name, prev) in [(2, "a", 0), (3, "b", 2), (4, "A", 0), (5, "A", 4)] {
            assert_eq!(spellings.see(link(id, name, prev)), None, "{name}");
        }
        assert!(is_alike("/Caf\u{e9} ", "/cafe"));
        assert!(!is_alike("a_b", "a-b") && !is_alike("a", "ab"));
    }
}
