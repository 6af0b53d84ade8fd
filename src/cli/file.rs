//! The config file: YAML with the flags' names as keys, and etcd's two
//! sections for TLS.

use std::io::Read;

use yaml_rust2::scanner::{Scanner, TokenType};
use yaml_rust2::{Yaml, YamlLoader};

use super::flag::{Flag, Kind};
use super::table::ETCD;

/// Largest file that is read as YAML, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting; settings need three levels.
const MAX_DEPTH: usize = 16;

/// The text of a file, which may be anything, a device without end too.
pub(crate) fn read(path: &str) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("cannot read: {e}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The file's entries: key (`section.key` inside a section) and value as text; a
/// list is separated by commas.
pub(crate) fn entries(text: &str) -> Result<Vec<(String, String)>, String> {
    Ok(lists(text)?.into_iter().map(|(key, values)| (key, values.join(","))).collect())
}

/// The same with the items of a list apart; a plain value is a list of one.
pub(crate) fn lists(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    if text.len() > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    check_shape(text)?;
    let documents = YamlLoader::load_from_str(text).map_err(|e| format!("not YAML: {e}"))?;
    let Some(root) = documents.into_iter().next() else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    match root {
        Yaml::Null => {}
        Yaml::Hash(map) => {
            for (key, value) in map {
                let key = scalar(&key).ok_or("a key is not a text")?;
                match value {
                    Yaml::Hash(section) => {
                        for (inner, value) in section {
                            let inner = scalar(&inner).ok_or("a key is not a text")?;
                            push(&mut entries, format!("{key}.{inner}"), &value)?;
                        }
                    }
                    value => push(&mut entries, key, &value)?,
                }
            }
        }
        _ => return Err("not a map of settings".to_owned()),
    }
    Ok(entries)
}

/// Refuses what would make the loader take the stack (deep nesting, which it
/// follows by calling itself) or the memory (aliases, which it copies).
fn check_shape(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for token in Scanner::new(text.chars()) {
        match token.1 {
            TokenType::Alias(_) => return Err("aliases (*name) are not taken".to_owned()),
            TokenType::BlockSequenceStart
            | TokenType::BlockMappingStart
            | TokenType::FlowSequenceStart
            | TokenType::FlowMappingStart => depth += 1,
            TokenType::BlockEnd | TokenType::FlowSequenceEnd | TokenType::FlowMappingEnd => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
    }
    Ok(())
}

fn push(entries: &mut Vec<(String, Vec<String>)>, key: String, value: &Yaml) -> Result<(), String> {
    let values = match value {
        Yaml::Null => return Ok(()), // as if it were not there
        Yaml::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            items.ok_or_else(|| format!("key {key}: a list of lists"))?
        }
        other => vec![scalar(other).ok_or_else(|| format!("key {key}: not a plain value"))?],
    };
    entries.push((key, values));
    Ok(())
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(truth) => Some(truth.to_string()),
        Yaml::Null => Some(String::new()),
        _ => None,
    }
}

/// The flag a key stands for: its place in a section, or its name.
pub(crate) fn flag_of(key: &str) -> Option<&'static Flag> {
    ETCD.flags.iter().find(|flag| flag.file_key == Some(key)).or_else(|| ETCD.find(key))
}

/// Durations are numbers of nanoseconds in etcd's files.
pub(crate) fn normalize(flag: &Flag, text: String) -> String {
    match flag.kind {
        Kind::Duration if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text + "ns",
        _ => text,
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
