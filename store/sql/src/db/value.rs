//! Arguments and results.

use bytes::Bytes;

use super::{DbError, DbErrorKind};

/// An argument of a statement, or a cell of its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// NULL as an argument where otherwise bytes stand: a statement that was
    /// prepared takes it, whereas Postgres needs another text for [`Value::Null`].
    NoBytes,
    /// Any integer type.
    Int(i64),
    /// Text.
    Text(String),
    /// Binary data.
    Bytes(Bytes),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of a result. Columns count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The integer in `column`.
    pub fn int(&self, column: usize) -> Result<i64, DbError> {
        self.opt_int(column)?.ok_or_else(|| null(column))
    }

    /// The integer in `column`, where there is one.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, DbError> {
        match self.get(column)? {
            Value::Null | Value::NoBytes => Ok(None),
            Value::Int(value) => Ok(Some(*value)),
            other => Err(wrong(column, "an integer", other)),
        }
    }

    /// The bytes in `column`; a text counts as its UTF-8.
    pub fn bytes(&self, column: usize) -> Result<Bytes, DbError> {
        self.opt_bytes(column)?.ok_or_else(|| null(column))
    }

    /// The bytes in `column`, where there are any.
    pub fn opt_bytes(&self, column: usize) -> Result<Option<Bytes>, DbError> {
        match self.get(column)? {
            Value::Null | Value::NoBytes => Ok(None),
            Value::Bytes(value) => Ok(Some(value.clone())),
            Value::Text(value) => Ok(Some(Bytes::copy_from_slice(value.as_bytes()))),
            other => Err(wrong(column, "bytes", other)),
        }
    }

    /// The text in `column`; bytes count where they are UTF-8, for MySQL gives
    /// text of a binary collation as bytes.
    pub fn text(&self, column: usize) -> Result<&str, DbError> {
        self.opt_text(column)?.ok_or_else(|| null(column))
    }

    /// The text in `column`, where there is one.
    pub fn opt_text(&self, column: usize) -> Result<Option<&str>, DbError> {
        match self.get(column)? {
            Value::Null | Value::NoBytes => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            Value::Bytes(value) => std::str::from_utf8(value)
                .map(Some)
                .map_err(|_| fault(format!("column {column} is not UTF-8"))),
            other => Err(wrong(column, "a text", other)),
        }
    }

    fn get(&self, column: usize) -> Result<&Value, DbError> {
        self.0
            .get(column)
            .ok_or_else(|| fault(format!("column {column} is asked for, the row has {}", self.0.len())))
    }
}

fn fault(message: String) -> DbError {
    DbError::new(DbErrorKind::Other, format!("the database's answer is not as expected: {message}"))
}

fn null(column: usize) -> DbError {
    fault(format!("column {column} is NULL"))
}

fn wrong(column: usize, wanted: &str, found: &Value) -> DbError {
    let found = match found {
        Value::Null | Value::NoBytes => "NULL",
        Value::Int(_) => "an integer",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
    };
    fault(format!("column {column} should be {wanted} and is {found}"))
}
