//! Writing answers out.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::{Map, Value};

use super::Problem;
use super::arguments::Arguments;

/// Prints a text.
pub(super) fn print(text: &str) -> Result<(), Problem> {
    let mut out = Output::new();
    out.write(text.as_bytes())?;
    out.end()
}

/// The standard output, buffered.
pub(super) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(super) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.0.write_all(bytes).map_err(unwritten)
    }

    /// Writes a value as one line.
    pub(super) fn line(&mut self, value: &Value) -> Result<(), Problem> {
        self.write(format!("{value}\n").as_bytes())
    }

    /// Writes out what is buffered.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Problem::Unread;
    }
    Problem::Failed(format!("cannot write the output: {error}"))
}

/// Prints an answer in the format asked for by `--write-out`. `simple` is its
/// short form, `columns` the names and places of what its table shows; without,
/// the table shows everything below each other.
pub(crate) fn answer(
    arguments: &Arguments,
    answer: &Map<String, Value>,
    simple: &str,
    columns: &[(&str, &str)],
) -> Result<(), Problem> {
    match arguments.text("write-out") {
        "json" => print(&format!("{}\n", Value::Object(answer.clone()))),
        "table" if columns.is_empty() => {
            let rows: Vec<Vec<String>> =
                answer.iter().map(|(name, value)| vec![name.clone(), shown(value)]).collect();
            print(&table(&["name".to_owned(), "value".to_owned()], &rows))
        }
        "table" => {
            let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
            let row =
                columns.iter().map(|(_, name)| answer.get(*name).map(shown).unwrap_or_default()).collect();
            print(&table(&titles, &[row]))
        }
        "fields" => {
            let lines: Vec<String> =
                answer.iter().map(|(name, value)| format!("{name:?} : {value}\n")).collect();
            print(&lines.concat())
        }
        _ => print(simple),
    }
}

/// Everything of an answer, a line each.
pub(super) fn lines(answer: &Map<String, Value>) -> String {
    let width = answer.keys().map(String::len).max().unwrap_or(0);
    answer.iter().map(|(name, value)| format!("{name:<width$}  {}\n", shown(value))).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", shown(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

fn table(titles: &[String], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.chain(titles.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("| {cell:<width$} "));
        format!("{}|\n", cells.collect::<String>())
    };
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{rule}+\n{}{rule}+\n{rows}{rule}+\n", line(titles))
}
