//! Flags and words of one tool.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Problem;
use super::source::Place;
use crate::cli::flag::Kind;
use crate::cli::{nearest, value};

/// A flag of a tool.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// A name of one letter.
    pub(crate) short: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

/// What was given to a tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    values: BTreeMap<&'static str, String>,
    /// What is no flag.
    words: Vec<String>,
    help: bool,
}

impl Arguments {
    /// Reads the arguments behind a tool's name.
    pub(crate) fn parse(given: &[String], flags: &[&'static Flag]) -> Result<Self, Problem> {
        let mut arguments = Arguments::default();
        for flag in flags {
            arguments.values.insert(flag.name, flag.default.to_owned());
        }
        let mut given = given.iter();
        while let Some(argument) = given.next() {
            let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
                arguments.words.push(argument.clone());
                continue;
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            let (name, inline) = match body.split_once('=') {
                Some((name, text)) => (name, Some(text.to_owned())),
                None => (body, None),
            };
            if name == "help" || name == "h" {
                arguments.help = true;
                continue;
            }
            let flag = find(name, flags)?;
            let text = match inline {
                Some(text) => text,
                None if flag.kind == Kind::Bool => "true".to_owned(),
                None => given
                    .next()
                    .cloned()
                    .ok_or_else(|| Problem::Usage(format!("flag --{name} needs a value")))?,
            };
            value::check(flag.kind, &text).map_err(|problem| {
                Problem::Usage(format!("invalid value {text:?} for flag --{name}: {problem}"))
            })?;
            arguments.values.insert(flag.name, text);
        }
        Ok(arguments)
    }

    /// Help was asked for.
    pub(crate) fn help(&self) -> bool {
        self.help
    }

    /// The value of a flag of this tool.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// The value of a switch.
    pub(crate) fn bool(&self, name: &str) -> bool {
        value::bool(self.text(name)).unwrap_or(false)
    }

    /// The value of a flag that counts from 0; 0 where none is given.
    pub(crate) fn count(&self, name: &str) -> Result<i64, Problem> {
        match self.text(name) {
            "" => Ok(0),
            text => value::int(text)
                .ok()
                .filter(|number| *number >= 0)
                .ok_or_else(|| Problem::Usage(format!("--{name} must not be below 0"))),
        }
    }

    /// The only word.
    pub(crate) fn word(&self, what: &str) -> Result<&str, Problem> {
        match &self.words[..] {
            [word] => Ok(word),
            [] => Err(Problem::Usage(format!("name {what}"))),
            [_, more, ..] => Err(Problem::Usage(format!("one is enough: {more:?} is too much"))),
        }
    }

    /// Refuses words where there are none to be.
    pub(crate) fn no_words(&self) -> Result<(), Problem> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(Problem::Usage(format!("{word:?} is no flag"))),
        }
    }

    /// The data directory or snapshot to look at: `--data-dir` or the word.
    pub(crate) fn place(&self) -> Result<Place, Problem> {
        match self.text("data-dir") {
            "" => Ok(Place::at(self.word("a data directory (--data-dir) or a snapshot")?)),
            dir => {
                self.no_words()?;
                Ok(Place::DataDir(PathBuf::from(dir)))
            }
        }
    }

    /// The data directory or snapshot to look at, and the file to write.
    pub(crate) fn place_and_file(&self) -> Result<(Place, PathBuf), Problem> {
        match (self.text("data-dir"), &self.words[..]) {
            ("", [place, file]) => Ok((Place::at(place), PathBuf::from(file))),
            ("", _) => Err(Problem::Usage(
                "name a data directory (--data-dir) or a snapshot, and the file to write".to_owned(),
            )),
            (dir, [file]) => Ok((Place::DataDir(PathBuf::from(dir)), PathBuf::from(file))),
            _ => Err(Problem::Usage("with --data-dir, name the file to write and nothing else".to_owned())),
        }
    }
}

fn find(name: &str, flags: &[&'static Flag]) -> Result<&'static Flag, Problem> {
    let found = flags.iter().find(|flag| flag.name == name || flag.short == Some(name));
    found.copied().ok_or_else(|| {
        let meant = nearest(name, flags.iter().map(|flag| flag.name));
        let hint = meant.map(|name| format!("; did you mean --{name}?")).unwrap_or_default();
        Problem::Usage(format!("unknown flag --{name}{hint}"))
    })
}
