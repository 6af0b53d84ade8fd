//! The settings of one start: flags over environment over defaults, or a file
//! alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::file;
use super::flag::{Effect, Flag, Kind, Table};
use super::nearest::nearest;
use super::table::ETCD;
use super::value;

/// Why a command line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// A flag nobody knows.
    #[error("unknown flag --{name}{}", hint(suggestion.as_deref()))]
    UnknownFlag {
        /// As typed.
        name: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// A value that does not fit the flag.
    #[error("invalid value {value:?} for {place}: {problem}")]
    InvalidValue {
        /// The flag, variable or file key.
        place: String,
        /// As given.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A flag at the end that needs a value.
    #[error("flag --{0} needs a value")]
    MissingValue(String),
    /// Something that is no flag.
    #[error("{0:?} is not a flag")]
    NotAFlag(String),
    /// A flag that cannot be honoured.
    #[error("--{name} is refused: {why}")]
    Refused {
        /// The flag.
        name: &'static str,
        /// Why.
        why: &'static str,
    },
    /// A config file that cannot be used.
    #[error("config file {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Between the values of a flag that may be given several times.
pub(super) const SEPARATOR: &str = "\n";

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean --{name}?")).unwrap_or_default()
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Run with these settings.
    Run(Settings),
    /// Print the help and end.
    Help,
    /// Print the version and end.
    Version,
}

/// Values by flag name, and what to warn about once there is a logger.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    table: &'static Table,
    values: BTreeMap<&'static str, String>,
    /// Warnings, in the order they came up.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// Reads arguments (without the program's name) and environment of
    /// `skiff etcd`.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Request, UsageError> {
        Settings::parse_for(&ETCD, arguments, environment)
    }

    /// The same for the command of any table.
    pub(crate) fn parse_for(
        table: &'static Table,
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Request, UsageError> {
        let (request, words) = Settings::parse_with_words(table, arguments, environment)?;
        match words.into_iter().next() {
            Some(word) => Err(UsageError::NotAFlag(word)),
            None => Ok(request),
        }
    }

    /// The same for a command that takes words among its flags; answers these too.
    pub(crate) fn parse_with_words(
        table: &'static Table,
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Request, Vec<String>), UsageError> {
        let mut settings = Settings::new(table);
        let mut words = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(body) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                words.push(argument);
                continue;
            };
            let (name, inline) = match body.split_once('=') {
                Some((name, text)) => (name, Some(text.to_owned())),
                None => (body, None),
            };
            match name {
                "help" | "h" => return Ok((Request::Help, words)),
                "version" if inline.as_deref().is_none_or(|v| v == "true") => {
                    return Ok((Request::Version, words));
                }
                "version" => continue,
                "" => return Err(UsageError::NotAFlag(argument)),
                _ => {}
            }
            let flag = table.find(name).ok_or_else(|| unknown(table, name))?;
            let text = match (inline, flag.kind) {
                (Some(text), _) => text,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => arguments.next().ok_or_else(|| UsageError::MissingValue(name.to_owned()))?,
            };
            settings.set(flag, text, &format!("flag --{name}"))?;
        }
        settings.read_environment(environment)?;
        if let Some(path) = settings.values.get("config-file").filter(|path| !path.is_empty()).cloned() {
            settings = Settings::from_file(&path, settings)?;
        }
        settings.look_at_effects()?;
        Ok((Request::Run(settings), words))
    }

    pub(super) fn new(table: &'static Table) -> Settings {
        Settings { table, values: BTreeMap::new(), warnings: Vec::new() }
    }

    /// The file rules alone, as with etcd; what else was given is named.
    fn from_file(path: &str, given: Settings) -> Result<Settings, UsageError> {
        let problem = |problem| UsageError::File { path: path.to_owned(), problem };
        let text = file::read(path).map_err(problem)?;
        let mut settings = Settings::new(given.table);
        for name in given.values.keys().filter(|name| **name != "config-file") {
            settings
                .warnings
                .push(format!("--{name} (or its environment variable) is ignored: --config-file is given"));
        }
        for (key, text) in file::entries(&text).map_err(problem)? {
            match file::flag_of(&key) {
                Some(flag) => {
                    let text = file::normalize(flag, text);
                    settings.set(flag, text, &format!("key {key} in {path}"))?;
                }
                None => settings.warnings.push(format!("key {key} in {path} is unknown and ignored")),
            }
        }
        Ok(settings)
    }

    fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), UsageError> {
        let table = self.table;
        let environment: BTreeMap<String, String> = environment
            .into_iter()
            .filter(|(name, text)| name.starts_with(table.prefix) && !text.is_empty())
            .collect();
        let mut known: Vec<String> = Vec::new();
        for flag in table.flags {
            // The flag's own name wins over its older spellings.
            for variable in
                std::iter::once(&flag.name).chain(flag.aliases).map(|spelling| table.env_name(spelling))
            {
                if let Some(text) = environment.get(&variable) {
                    if self.values.contains_key(flag.name) {
                        self.warnings.push(format!("{variable} is ignored: --{} is given", flag.name));
                    } else {
                        self.set(flag, text.clone(), &variable)?;
                    }
                }
                known.push(variable);
            }
        }
        for variable in environment.keys().filter(|variable| !known.contains(variable)) {
            self.warnings.push(format!("unrecognized environment variable {variable}"));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, flag: &'static Flag, text: String, place: &str) -> Result<(), UsageError> {
        if let Err(problem) = value::check(flag.kind, &text) {
            return Err(UsageError::InvalidValue { place: place.to_owned(), value: text, problem });
        }
        self.values.insert(flag.name, text);
        Ok(())
    }

    /// Warns of flags without effect; refuses those that must not be ignored.
    pub(super) fn look_at_effects(&mut self) -> Result<(), UsageError> {
        for flag in self.table.flags.iter().filter(|flag| self.values.contains_key(flag.name)) {
            match flag.effect {
                Effect::Applies => {}
                Effect::Ignored(why) => {
                    self.warnings.push(format!("--{} has no effect: {why}", flag.name));
                }
                // Off is what it is anyway.
                Effect::Refused(_) if flag.kind == Kind::Bool && !self.bool(flag.name) => {}
                Effect::Refused(_) if self.text(flag.name) == flag.default => {}
                Effect::Refused(why) => return Err(UsageError::Refused { name: flag.name, why }),
            }
        }
        Ok(())
    }

    /// True if the setting was given, by whatever way.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value of a flag, or its default. Only for names in the table.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.values.get(name) {
            Some(text) => text,
            None => {
                debug_assert!(self.table.find(name).is_some(), "{name} is not in the table");
                self.table.find(name).map_or("", |flag| flag.default)
            }
        }
    }

    /// The value of a boolean flag.
    pub(crate) fn bool(&self, name: &str) -> bool {
        // Checked when it was set.
        value::bool(self.text(name)).unwrap_or_default()
    }

    /// The value of a number flag.
    pub(crate) fn int(&self, name: &str) -> i64 {
        value::int(self.text(name)).unwrap_or_default()
    }

    /// The value of a duration flag.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        value::duration(self.text(name)).unwrap_or_default()
    }

    /// The value of a list flag.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        value::list(self.text(name))
    }

    /// The values of a flag that may be given several times.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        self.text(name).split(SEPARATOR).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }
}

pub(super) fn unknown(table: &'static Table, name: &str) -> UsageError {
    let names = table.flags.iter().flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()));
    UsageError::UnknownFlag {
        name: name.to_owned(),
        suggestion: nearest(name, names.chain(["help", "version"])),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
