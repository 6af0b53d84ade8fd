//! The scripts: what is sent, item by item.
//!
//! ```text
//! # KV.Put                         a method, or another heading of the page
//! ## prev_kv                       an item of it
//! ! differs: why                   what is meant to differ; the answers must
//! POST kv/put {"key":"b:a"}        a call through the gateway, below /v3/
//! STREAM watch 2 {..} {..}         the same, up to the second result
//! GET /health                      plain HTTP
//! LOGIN root secret                keeps the token of a user
//! AS root POST kv/put {..}         a call with that token
//! SET rev /header/revision         names a value of the last answer
//! JOIN                             starts the member m2, which was added with the URL $peer2
//! AT m2 POST kv/range {..}         a step at that member
//! UNTIL 200 POST kv/range {..}     again until the answer has this status, or this text in it
//! ```
//!
//! A string that begins with `b:` stands for bytes and is sent as base64, `big:7` for seven bytes; `$rev` is
//! what `SET` named on that server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Deserializer, Value};

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Whose token to show.
    pub(crate) user: Option<String>,
    /// At the member that has joined.
    pub(crate) joined: bool,
    /// What to wait for: a status, or a text of the answer.
    pub(crate) until: Option<String>,
    /// What to do.
    pub(crate) action: Action,
    /// The line as it stands in the script.
    pub(crate) text: String,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Posts JSON to the gateway; of a stream, that many results are read.
    Post {
        /// Below `/v3/`.
        path: String,
        /// The objects of the body.
        bodies: Vec<Value>,
        /// How many results to read of a stream; `None` for a plain answer.
        results: Option<usize>,
    },
    /// Gets a path.
    Get(String),
    /// Keeps the token of a user.
    Login(String, String),
    /// Names a value of the last answer.
    Set(String, String),
    /// Starts a second member.
    Join,
}

/// What is known of an item beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// The answers are equal.
    Equal,
    /// The answers differ, and are meant to; how.
    Differs(String),
}

/// A line of the page.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Heading it stands below.
    pub(crate) heading: String,
    /// What is shown.
    pub(crate) name: String,
    /// What is known beforehand.
    pub(crate) expectation: Expectation,
    /// What is done.
    pub(crate) steps: Vec<Step>,
}

/// Reads a script.
///
/// # Errors
/// The first line that is not understood.
pub(crate) fn parse(text: &str) -> Result<Vec<Item>, String> {
    let mut heading = String::new();
    let mut items: Vec<Item> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let fault = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if line.is_empty() || line.starts_with("//") {
            continue;
        } else if let Some(name) = line.strip_prefix("## ") {
            items.push(Item {
                heading: heading.clone(),
                name: name.to_owned(),
                expectation: Expectation::Equal,
                steps: Vec::new(),
            });
        } else if let Some(name) = line.strip_prefix("# ") {
            name.clone_into(&mut heading);
        } else {
            let item = items.last_mut().ok_or_else(|| fault("stands before the first item"))?;
            if let Some(note) = line.strip_prefix("! ") {
                item.expectation = expectation(note).ok_or_else(|| fault("is no expectation"))?;
            } else {
                item.steps.push(step(line).map_err(|what| fault(&what))?);
            }
        }
    }
    Ok(items)
}

fn expectation(note: &str) -> Option<Expectation> {
    note.strip_prefix("differs: ").map(|how| Expectation::Differs(how.to_owned()))
}

fn step(line: &str) -> Result<Step, String> {
    let text = line.to_owned();
    if line == "JOIN" {
        return Ok(Step { user: None, joined: false, until: None, action: Action::Join, text });
    }
    let (until, line) = match line.strip_prefix("UNTIL ") {
        Some(rest) => {
            let (word, rest) = rest.split_once(' ').ok_or("waits for nothing")?;
            (Some(word.to_owned()), rest)
        }
        None => (None, line),
    };
    let (joined, line) = line.strip_prefix("AT m2 ").map_or((false, line), |rest| (true, rest));
    let (user, line) = match line.strip_prefix("AS ") {
        Some(rest) => {
            let (user, rest) = rest.split_once(' ').ok_or("names no user")?;
            (Some(user.to_owned()), rest)
        }
        None => (None, line),
    };
    let (verb, rest) = line.split_once(' ').ok_or("has no argument")?;
    let action = match verb {
        "POST" => {
            let (path, body) = rest.split_once(' ').ok_or("has no body")?;
            Action::Post { path: path.to_owned(), bodies: bodies(body)?, results: None }
        }
        "STREAM" => {
            let mut words = rest.splitn(3, ' ');
            let (Some(path), Some(count), Some(body)) = (words.next(), words.next(), words.next()) else {
                return Err("wants a path, a number and a body".to_owned());
            };
            let results = count.parse().map_err(|_| "has no number of results")?;
            Action::Post { path: path.to_owned(), bodies: bodies(body)?, results: Some(results) }
        }
        "GET" => Action::Get(rest.to_owned()),
        "LOGIN" => {
            let (user, password) = rest.split_once(' ').ok_or("has no password")?;
            Action::Login(user.to_owned(), password.to_owned())
        }
        "SET" => {
            let (name, pointer) = rest.split_once(' ').ok_or("has no place to take it from")?;
            Action::Set(name.to_owned(), pointer.to_owned())
        }
        _ => return Err("begins with an unknown word".to_owned()),
    };
    Ok(Step { user, joined, until, action, text })
}

fn bodies(text: &str) -> Result<Vec<Value>, String> {
    let mut bodies = Vec::new();
    for body in Deserializer::from_str(text).into_iter::<Value>() {
        let mut body = body.map_err(|error| format!("holds bad JSON ({error})"))?;
        encode_bytes(&mut body);
        bodies.push(body);
    }
    Ok(bodies)
}

/// Puts base64 in the place of `b:` strings.
fn encode_bytes(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(bytes) = text.strip_prefix("b:") {
                *text = STANDARD.encode(bytes);
            } else if let Some(Ok(length)) = text.strip_prefix("big:").map(str::parse) {
                *text = STANDARD.encode(vec![b'x'; length]);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(encode_bytes),
        Value::Object(fields) => fields.values_mut().for_each(encode_bytes),
        _ => {}
    }
}
