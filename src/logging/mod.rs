//! Log lines in the shape of etcd's.
//!
//! JSON: one object a line with `level`, `ts`, `caller`, `msg` and the fields.
//! Console: the same in words. An output that cannot be written to never stops
//! the process.

mod journal;
mod rotate;

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use self::journal::Journal;
use self::rotate::{Rotated, Rotation};
use crate::cli::Settings;

/// Outputs that are no files.
const DEFAULT: &str = "default";
const JOURNAL: &str = "systemd/journal";
const STDERR: [&str; 2] = ["stderr", "/dev/stderr"];
const STDOUT: [&str; 2] = ["stdout", "/dev/stdout"];

/// The logging flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Least severe level.
    pub(crate) level: LevelFilter,
    /// JSON rather than words.
    pub(crate) json: bool,
    /// `stderr`, `stdout`, or files.
    pub(crate) outputs: Vec<String>,
    /// How files are replaced when they grow, if they are.
    pub(crate) rotation: Option<Rotation>,
}

impl LogOptions {
    /// Warnings alone, unless more was asked for: for a tool that tells its
    /// progress itself.
    pub(crate) fn quiet(self) -> LogOptions {
        let level = if self.level == LevelFilter::DEBUG { self.level } else { LevelFilter::WARN };
        LogOptions { level, ..self }
    }

    /// The flags of `skiff kine`, which has few.
    pub(crate) fn for_kine(json: bool, debug: bool) -> LogOptions {
        LogOptions {
            level: if debug { LevelFilter::DEBUG } else { LevelFilter::INFO },
            json,
            outputs: vec![DEFAULT.to_owned()],
            rotation: None,
        }
    }

    /// Reads the flags, with etcd's rules.
    ///
    /// # Errors
    /// Outputs that do not go together, or a rotation that cannot be.
    pub(crate) fn from_settings(settings: &Settings) -> Result<LogOptions, String> {
        let outputs = outputs(settings)?;
        let rotation = match settings.bool("enable-log-rotation") {
            true => Some(rotation(settings, &outputs)?),
            false => None,
        };
        Ok(LogOptions {
            level: match settings.text("log-level") {
                "debug" => LevelFilter::DEBUG,
                "warn" => LevelFilter::WARN,
                "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
                _ => LevelFilter::INFO,
            },
            json: settings.text("log-format") == "json",
            outputs,
            rotation,
        })
    }
}

fn outputs(settings: &Settings) -> Result<Vec<String>, String> {
    let outputs = settings.list("log-outputs");
    if outputs.len() > 1 && outputs.iter().any(|output| output == DEFAULT) {
        return Err(format!("multi logoutput for {DEFAULT:?} is not supported yet (--log-outputs)"));
    }
    if outputs.len() > 1 && outputs.iter().any(|output| output == JOURNAL) {
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ({outputs:?}) are configured; \
             give systemd/journal alone"
        ));
    }
    Ok(if outputs.is_empty() { vec![DEFAULT.to_owned()] } else { outputs })
}

fn rotation(settings: &Settings, outputs: &[String]) -> Result<Rotation, String> {
    if outputs.iter().filter(|output| is_file(output)).count() != 1 {
        return Err("--log-outputs requires a single file path when --log-rotate-config-json is defined \
                    (--enable-log-rotation)"
            .to_owned());
    }
    Rotation::parse(settings.text("log-rotation-config-json"))
        .map_err(|problem| format!("--log-rotation-config-json: {problem}"))
}

fn is_file(output: &str) -> bool {
    output != DEFAULT && output != JOURNAL && !STDERR.contains(&output) && !STDOUT.contains(&output)
}

/// Opens an output.
fn open(output: &str, rotation: Option<&Rotation>) -> Result<Box<dyn Write + Send>, String> {
    if output == JOURNAL {
        let journal = Journal::connect(Path::new(journal::SOCKET))
            .map_err(|e| format!("--log-outputs: can't find journal at {}: {e}", journal::SOCKET))?;
        return Ok(Box::new(journal));
    }
    if !is_file(output) {
        return Ok(if STDOUT.contains(&output) { Box::new(io::stdout()) } else { Box::new(io::stderr()) });
    }
    let opened: io::Result<Box<dyn Write + Send>> = match rotation {
        Some(rotation) => Rotated::open(Path::new(output), rotation.clone())
            .map(|file| Box::new(file) as Box<dyn Write + Send>),
        None => OpenOptions::new()
            .create(true)
            .append(true)
            .open(output)
            .map(|file| Box::new(file) as Box<dyn Write + Send>),
    };
    opened.map_err(|e| format!("--log-outputs: cannot open {output}: {e}"))
}

/// Starts logging.
///
/// # Errors
/// A sentence with the output that cannot be opened.
pub(crate) fn start(options: &LogOptions) -> Result<(), String> {
    let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
    for output in &options.outputs {
        outputs.push(open(output, options.rotation.as_ref())?);
    }
    // The libraries below speak of every frame and every vote at these levels.
    let libraries = options.level.min(LevelFilter::WARN);
    // What ends a member is reported by the node; what openraft calls an error
    // beside that is a request that came while it stopped.
    let openraft = if options.level >= LevelFilter::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target("skiff", options.level)
        .with_target("skiff_store", options.level)
        .with_target("skiff_raft", options.level)
        .with_target("skiff_sql", options.level)
        .with_target("skiff_kine_api", options.level)
        .with_target("openraft", openraft);
    let lines = Lines { json: options.json, outputs: Mutex::new(outputs) };
    tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter)))
        .map_err(|e| e.to_string())
}

/// Writes events as lines.
struct Lines {
    json: bool,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = render(self.json, SystemTime::now(), event, fields);
        for output in self.outputs.lock().iter_mut() {
            // A full disk or a closed pipe must not end the process.
            let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
        }
    }
}

fn render(json: bool, now: SystemTime, event: &Event<'_>, fields: Fields) -> String {
    let meta = event.metadata();
    let level = match *meta.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    };
    let ts = DateTime::<Utc>::from(now).to_rfc3339_opts(SecondsFormat::Micros, true);
    let caller = format!("{}:{}", short(meta.file().unwrap_or("?")), meta.line().unwrap_or(0));
    if json {
        let mut line = Map::new();
        for (key, value) in [("level", level), ("ts", &ts), ("caller", &caller), ("msg", &fields.message)] {
            line.insert(key.to_owned(), Value::from(value));
        }
        line.extend(fields.rest);
        return format!("{}\n", Value::Object(line));
    }
    let mut line = format!("{ts}\t{}\t{caller}\t{}", level.to_ascii_uppercase(), fields.message);
    if !fields.rest.is_empty() {
        let _ = write!(line, "\t{}", Value::Object(fields.rest));
    }
    line.push('\n');
    line
}

/// The last two parts of a path: `raft/node.rs`.
fn short(path: &str) -> &str {
    path.rmatch_indices('/').nth(1).map_or(path, |(at, _)| &path[at + 1..])
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => {
                self.rest.insert(name.replace('_', "-"), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let shared = Shared::default();
        let lines = Lines { json, outputs: Mutex::new(vec![Box::new(shared.clone())]) };
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            tracing::warn!(member_id = "8e9e05c52164694d", count = 3, "lost \"{}\"", "peer");
        });
        String::from_utf8(shared.0.lock().clone()).unwrap()
    }

    #[test]
    fn json_lines_have_the_keys_of_etcd() {
        let text = logged(true);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["msg"], "lost \"peer\"");
        assert_eq!(line["member-id"], "8e9e05c52164694d");
        assert_eq!(line["count"], 3);
        assert!(line["caller"].as_str().unwrap().starts_with("logging/mod.rs:"), "{line}");
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn console_lines_are_words() {
        let text = logged(false);
        assert!(text.contains("\tWARN\tlogging/mod.rs:"), "{text}");
        assert!(text.trim_end().ends_with(r#"{"member-id":"8e9e05c52164694d","count":3}"#), "{text}");
    }
}
