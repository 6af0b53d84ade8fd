//! Settings in layers, as K3s has them: defaults, then the config file, then the
//! files of the folder beside it in the order of their names, then the
//! environment, then the command line.
//!
//! A key in a file replaces what earlier files said, lists too; `key+` adds to it.
//! The environment and the command line replace what the files say. On the
//! command line alone, a list that is given several times adds up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file;
use super::flag::{Flag, Kind, Table};
use super::settings::{Request, SEPARATOR, Settings, UsageError, unknown};

/// Most files beside the config file.
const MAX_DROP_INS: usize = 1024;

/// A flag's values, and where they come from, for errors.
#[derive(Debug, Clone)]
struct Given {
    values: Vec<String>,
    place: String,
}

type Layer = BTreeMap<&'static str, Given>;

impl Settings {
    /// Reads arguments (without the program's name), environment and files. The
    /// flag `config` of the table names the file; its default may be missing.
    pub(crate) fn parse_layers(
        table: &'static Table,
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Request, UsageError> {
        let command_line = match command_line(table, arguments)? {
            Line::Flags(layer) => layer,
            Line::Help => return Ok(Request::Help),
            Line::Version => return Ok(Request::Version),
        };
        let environment = variables(table, environment);
        let mut settings = Settings::new(table);
        let named = command_line.get("config").or_else(|| environment.get("config"));
        let mut layer = match named.and_then(|given| given.values.last()) {
            Some(path) => files(table, Path::new(path), true, &mut settings.warnings)?,
            None => {
                let path = table.find("config").map_or("", |flag| flag.default);
                files(table, Path::new(path), false, &mut settings.warnings)?
            }
        };
        layer.extend(environment);
        layer.extend(command_line);
        for (name, given) in layer {
            let Some(flag) = table.find(name) else { continue };
            let text = join(flag, &given)?;
            settings.set(flag, text, &given.place)?;
        }
        settings.look_at_effects()?;
        Ok(Request::Run(settings))
    }
}

enum Line {
    Flags(Layer),
    Help,
    Version,
}

fn command_line(
    table: &'static Table,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Line, UsageError> {
    let mut layer = Layer::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let body = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let Some(body) = body.filter(|body| !body.is_empty()) else {
            return Err(UsageError::NotAFlag(argument));
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, text)) => (name, Some(text.to_owned())),
            None => (body, None),
        };
        match name {
            "help" | "h" => return Ok(Line::Help),
            "version" => return Ok(Line::Version),
            _ => {}
        }
        let flag = table.find(name).ok_or_else(|| unknown(table, name))?;
        let text = match (inline, flag.kind) {
            (Some(text), _) => text,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => arguments.next().ok_or_else(|| UsageError::MissingValue(name.to_owned()))?,
        };
        let place = format!("flag --{name}");
        layer.entry(flag.name).or_insert_with(|| Given { values: Vec::new(), place }).values.push(text);
    }
    Ok(Line::Flags(layer))
}

/// What the environment says. Variables of other names are other programs'.
fn variables(table: &'static Table, environment: impl IntoIterator<Item = (String, String)>) -> Layer {
    let environment: BTreeMap<String, String> = environment
        .into_iter()
        .filter(|(name, text)| name.starts_with(table.prefix) && !text.is_empty())
        .collect();
    let mut layer = Layer::new();
    for flag in table.flags {
        let spellings = std::iter::once(&flag.name).chain(flag.aliases).filter(|name| name.len() > 1);
        for variable in spellings.map(|spelling| table.env_name(spelling)) {
            if let Some(text) = environment.get(&variable) {
                layer.insert(flag.name, Given { values: vec![text.clone()], place: variable });
                break;
            }
        }
    }
    layer
}

/// What the file and the folder beside it say.
fn files(
    table: &'static Table,
    path: &Path,
    required: bool,
    warnings: &mut Vec<String>,
) -> Result<Layer, UsageError> {
    let mut layer = Layer::new();
    if path.exists() {
        read(table, path, &mut layer, warnings)?;
    }
    let drop_ins = drop_ins(path)?;
    if required && drop_ins.is_empty() && !path.exists() {
        let problem = "is not there".to_owned();
        return Err(UsageError::File { path: path.display().to_string(), problem });
    }
    for path in drop_ins {
        read(table, &path, &mut layer, warnings)?;
    }
    Ok(layer)
}

/// The files `<path>.d/*.yaml`, in the order of their names.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, UsageError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let failed = |problem: String| UsageError::File { path: folder.display().to_string(), problem };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(failed(format!("cannot read: {e}"))),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed(format!("cannot read: {e}")))?.path();
        if path.extension().is_some_and(|end| end == "yaml" || end == "yml") && path.is_file() {
            found.push(path);
        }
        if found.len() > MAX_DROP_INS {
            return Err(failed(format!("holds more than {MAX_DROP_INS} files")));
        }
    }
    found.sort();
    Ok(found)
}

fn read(
    table: &'static Table,
    path: &Path,
    layer: &mut Layer,
    warnings: &mut Vec<String>,
) -> Result<(), UsageError> {
    let shown = path.display().to_string();
    let failed = |problem| UsageError::File { path: shown.clone(), problem };
    let text = file::read(&shown).map_err(failed)?;
    for (key, values) in file::lists(&text).map_err(failed)? {
        let (name, adds) = match key.strip_suffix('+') {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        // A file cannot name another.
        let Some(flag) = table.find(name).filter(|flag| flag.name != "config") else {
            warnings.push(format!("key {key} in {shown} is unknown and ignored"));
            continue;
        };
        let place = format!("key {key} in {shown}");
        let given =
            layer.entry(flag.name).or_insert_with(|| Given { values: Vec::new(), place: place.clone() });
        if !adds {
            given.values.clear();
        }
        given.values.extend(values);
        given.place = place;
    }
    Ok(())
}

/// The values as one text: all of a list, the last of anything else.
fn join(flag: &Flag, given: &Given) -> Result<String, UsageError> {
    match flag.kind {
        Kind::List => Ok(given.values.join(",")),
        Kind::Strings => match given.values.iter().find(|value| value.contains(SEPARATOR)) {
            Some(value) => Err(UsageError::InvalidValue {
                place: given.place.clone(),
                value: value.clone(),
                problem: "holds a line break".to_owned(),
            }),
            None => Ok(given.values.join(SEPARATOR)),
        },
        _ => Ok(given.values.last().cloned().unwrap_or_default()),
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
