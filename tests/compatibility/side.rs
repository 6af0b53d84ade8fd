//! One of the two servers: does steps, tells comparable answers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_test_support::http::{self, Answer, Asked};
use skiff_test_support::{Fault, Member, MemberOptions, Program};

use crate::script::{Action, Step};

/// What no two servers agree on; that it is there is compared.
const VOLATILE: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "storageVersion",
    "hash",
    "token",
    "blob",
    "memberID",
    "peerURLs",
    "clientURLs",
];

/// What the etcd at hand does not have yet, or no longer has.
const NEWER: &[&str] = &[
    "error",
    "details",
    "storageVersion",
    "dbSizeQuota",
    "downgradeInfo",
    "hash_revision",
    "remaining_bytes",
];

/// A list whose order is nobody's promise.
const UNORDERED: &[&str] = &["leases", "members"];

/// What a step was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// HTTP status.
    pub(crate) status: u16,
    /// The JSON answers, or the text as it is.
    pub(crate) answers: Vec<Value>,
}

/// How long something waited for may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
pub(crate) struct Side {
    pub(crate) member: Member,
    /// One that has joined later, and its URL for peers.
    joined: Member,
    tokens: HashMap<String, String>,
    /// What scripts have named.
    named: HashMap<String, String>,
    /// The last answer.
    last: Value,
}

impl Side {
    /// Starts a server in `dir`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(program: Program, dir: &std::path::Path) -> Result<Self, Fault> {
        let options = MemberOptions::single(program, dir).flag("--metrics=extensive");
        let mut second = MemberOptions::single(options.program.clone(), &dir.join("m2"));
        second.name = "m2".to_owned();
        second.existing = true;
        second.initial_cluster =
            format!("{},m2=http://127.0.0.1:{}", options.initial_cluster, second.peer_port);
        let joined = Member::new(second);
        let mut member = Member::new(options);
        member.start()?;
        member.ready().await?;
        let named = HashMap::from([("peer2".to_owned(), joined.peer_url())]);
        Ok(Side { member, joined, tokens: HashMap::new(), named, last: Value::Null })
    }

    /// Does a step.
    ///
    /// # Errors
    /// When the server hangs or breaks off, or what is waited for does not come.
    pub(crate) async fn run(&mut self, step: &Step) -> Result<Told, Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.once(step).await;
            let Some(word) = &step.until else { return told };
            match told {
                Ok(told) if told.status.to_string() == *word || told.answers_hold(word) => return Ok(told),
                told if Instant::now() > deadline => return Err(format!("no {word:?} but {told:?}").into()),
                // A member that starts is not there at once.
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn once(&mut self, step: &Step) -> Result<Told, Fault> {
        let told = match &step.action {
            Action::Get(path) => {
                let asked = Asked { path: path.clone(), ..Asked::post("", "") }.method("GET");
                self.ask(step, asked, None).await?
            }
            Action::Post { path, bodies, results } => {
                let body: Vec<String> = bodies.iter().map(|body| self.filled(body).to_string()).collect();
                let mut asked = Asked::post(path, body.join("\n"));
                if path.starts_with('/') {
                    asked.path.clone_from(path);
                }
                self.ask(step, asked, *results).await?
            }
            Action::Login(user, password) => {
                let body = serde_json::json!({"name": user, "password": password}).to_string();
                let told = self.ask(step, Asked::post("auth/authenticate", body), None).await?;
                if let Some(token) = told.answers.first().and_then(|answer| answer["token"].as_str()) {
                    self.tokens.insert(user.clone(), token.to_owned());
                }
                told
            }
            Action::Set(name, pointer) => {
                let value = self.last.pointer(pointer).and_then(Value::as_str);
                let value = value.ok_or_else(|| format!("no {pointer} in {}", self.last))?;
                self.named.insert(name.clone(), value.to_owned());
                return Ok(Told { status: 0, answers: Vec::new() });
            }
            Action::Join => {
                self.joined.start()?;
                return Ok(Told { status: 0, answers: Vec::new() });
            }
        };
        self.last = told.answers.first().cloned().unwrap_or_default();
        Ok(told)
    }

    async fn ask(&self, step: &Step, mut asked: Asked, results: Option<usize>) -> Result<Told, Fault> {
        if let Some(user) = &step.user {
            let token = self.tokens.get(user).ok_or(format!("{user} has not logged in"))?;
            asked = asked.header("authorization", token);
        }
        let member = if step.joined { &self.joined } else { &self.member };
        Ok(told(http::ask_lines(&member.address(), &asked, results.unwrap_or(usize::MAX)).await?))
    }

    /// A body with what was named in its place.
    fn filled(&self, body: &Value) -> Value {
        let mut body = body.clone();
        fill(&mut body, &self.named);
        body
    }
}

fn fill(value: &mut Value, named: &HashMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(value) = text.strip_prefix('$').and_then(|name| named.get(name)) {
                text.clone_from(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, named)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, named)),
        _ => {}
    }
}

fn told(answer: Answer) -> Told {
    let parsed: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().collect();
    let answers = match parsed {
        Ok(answers) => answers,
        Err(_) => vec![Value::String(String::from_utf8_lossy(&answer.body).into_owned())],
    };
    Told { status: answer.status, answers }
}

impl Told {
    fn answers_hold(&self, text: &str) -> bool {
        self.answers.iter().any(|answer| answer.to_string().contains(text))
    }

    /// The part that two servers must agree on.
    pub(crate) fn comparable(&self) -> Told {
        let mut told = self.clone();
        told.answers.iter_mut().for_each(blank);
        // A progress answer may overtake the answer to a creation sent before.
        told.answers.sort_by_key(|answer| answer["result"]["watch_id"] == "-1");
        told
    }
}

/// Leaves out of `found` the headers, or their revisions, that `expected` has
/// not: etcd 3.5 does not fill all of them.
pub(crate) fn forgive_headers(expected: &Told, found: &mut Told) {
    for (expected, found) in expected.answers.iter().zip(&mut found.answers) {
        forgive_header(expected, found);
        if let (Some(expected), Some(found)) = (expected.get("result"), found.get_mut("result")) {
            forgive_header(expected, found);
        }
    }
}

fn forgive_header(expected: &Value, found: &mut Value) {
    let Some(answer) = found.as_object_mut().filter(|_| expected.is_object()) else { return };
    match expected.get("header") {
        None => drop(answer.remove("header")),
        Some(header) if header.get("revision").is_none() => {
            if let Some(header) = answer.get_mut("header").and_then(Value::as_object_mut) {
                header.remove("revision");
            }
        }
        Some(_) => {}
    }
}

fn blank(value: &mut Value) {
    match value {
        // Go's protobuf library writes one or the other space, build by build.
        Value::String(text) => {
            *text = text.replace('\u{a0}', " ");
            // The checks of /readyz come in any order.
            if text.starts_with("[+]") || text.starts_with("[-]") {
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                *text = lines.join("\n");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::Object(fields) => {
            fields.retain(|name, value| !NEWER.contains(&name.as_str()) && !is_release(name, value));
            let of_member = fields.contains_key("peerURLs");
            // What a lease has left depends on when it is asked.
            let of_lease = fields.contains_key("grantedTTL");
            for (name, value) in fields.iter_mut() {
                // A nested value of the same name (an error object) is looked into.
                let volatile = VOLATILE.contains(&name.as_str())
                    || (of_member && name == "ID")
                    || (of_lease && name == "TTL");
                if volatile && !value.is_object() {
                    *value = Value::String("*".to_owned());
                } else {
                    blank(value);
                }
                if UNORDERED.contains(&name.as_str())
                    && let Value::Array(values) = value
                {
                    values.sort_by_key(Value::to_string);
                }
            }
        }
        _ => {}
    }
}

/// The release of a server, in a field that elsewhere counts a key's changes.
fn is_release(name: &str, value: &Value) -> bool {
    name == "version" && value.as_str().is_some_and(|text| text.contains('.'))
}
