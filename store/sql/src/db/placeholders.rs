//! `?` to `$n`, which is what Postgres takes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DbError, DbErrorKind, Value};

/// Texts kept; past it the cache starts anew.
const MAX_CACHED: usize = 512;

/// A NULL argument is bit n of a mask, so longer lists are cached without NULLs
/// alone.
const MAX_ARGS_CACHED: usize = 64;

/// Rewrites statements, and remembers what it rewrote.
///
/// A NULL argument is written into the text: Postgres takes the types of a
/// prepared statement from its first use, and NULL has none to give.
#[derive(Default)]
pub(super) struct Placeholders {
    cache: Mutex<HashMap<u64, HashMap<String, Arc<str>>>>,
}

impl Placeholders {
    /// The text for `sql` with these arguments, of which NULLs are left out.
    pub(super) fn rewrite(&self, sql: &str, args: &[Value]) -> Result<Arc<str>, DbError> {
        let nulls = mask(args);
        if let Some(nulls) = nulls
            && let Some(text) = self.cache.lock().get(&nulls).and_then(|texts| texts.get(sql))
        {
            return Ok(text.clone());
        }
        let text: Arc<str> = rewrite(sql, args)?.into();
        if let Some(nulls) = nulls {
            let mut cache = self.cache.lock();
            if cache.values().map(HashMap::len).sum::<usize>() >= MAX_CACHED {
                cache.clear();
            }
            cache.entry(nulls).or_default().insert(sql.to_owned(), text.clone());
        }
        Ok(text)
    }
}

fn mask(args: &[Value]) -> Option<u64> {
    if !args.contains(&Value::Null) {
        return Some(0);
    }
    (args.len() <= MAX_ARGS_CACHED).then(|| {
        args.iter().enumerate().fold(0, |mask, (at, arg)| mask | (u64::from(*arg == Value::Null) << at))
    })
}

fn rewrite(sql: &str, args: &[Value]) -> Result<String, DbError> {
    let mut text = String::with_capacity(sql.len() + 2 * args.len());
    let (mut used, mut numbered, mut quote) = (0, 0, None);
    for c in sql.chars() {
        match (quote, c) {
            (None, '?') => {
                match args.get(used) {
                    Some(Value::Null) => text.push_str("NULL"),
                    _ => {
                        numbered += 1;
                        text.push_str(&format!("${numbered}"));
                    }
                }
                used += 1;
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            // A doubled quote closes and opens again, which comes to the same.
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        text.push(c);
    }
    if used != args.len() {
        return Err(DbError::new(
            DbErrorKind::Other,
            format!("a statement takes {used} arguments and got {}", args.len()),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_outside_of_quotes_and_nulls_are_written_out() {
        let args = [Value::Int(1), Value::Null, Value::Text("x".into())];
        let cases = [
            ("a = ? AND b = ? AND c = ?", "a = $1 AND b = NULL AND c = $2"),
            ("'?' || ? || \"?\" || ? || 'it''s ?' || ?", "'?' || $1 || \"?\" || NULL || 'it''s ?' || $2"),
        ];
        let placeholders = Placeholders::default();
        for (sql, expected) in cases {
            for _ in 0..2 {
                assert_eq!(&*placeholders.rewrite(sql, &args).expect("three arguments"), expected);
            }
        }
        let other = [Value::Null, Value::Int(1), Value::Int(2)];
        assert_eq!(
            &*placeholders.rewrite(cases[0].0, &other).expect("three"),
            "a = NULL AND b = $1 AND c = $2"
        );
        assert!(placeholders.rewrite("?", &args).is_err());
    }

    #[test]
    fn the_cache_stays_bounded() {
        let placeholders = Placeholders::default();
        for n in 0..2 * MAX_CACHED {
            placeholders.rewrite(&format!("SELECT {n} + ?"), &[Value::Int(1)]).expect("one argument");
        }
        let held: usize = placeholders.cache.lock().values().map(HashMap::len).sum();
        assert!(held <= MAX_CACHED);
    }
}
