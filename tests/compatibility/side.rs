//! One of the two servers: does steps, tells comparable answers.

use std::collections::HashMap;

use serde_json::Value;
use skiff_test_support::{Fault, Member, MemberOptions, Program};

use crate::script::{Action, Step};
use crate::web::{self, Answer};

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

/// A server.
pub(crate) struct Side {
    pub(crate) member: Member,
    tokens: HashMap<String, String>,
}

impl Side {
    /// Starts a server in `dir`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start(program: Program, dir: &std::path::Path) -> Result<Self, Fault> {
        let mut member = Member::new(MemberOptions::single(program, dir).flag("--metrics=extensive"));
        member.start()?;
        member.ready().await?;
        Ok(Side { member, tokens: HashMap::new() })
    }

    /// Does a step.
    ///
    /// # Errors
    /// When the server hangs or breaks off, or a login fails.
    pub(crate) async fn run(&mut self, step: &Step) -> Result<Told, Fault> {
        let token = match &step.user {
            Some(user) => Some(self.tokens.get(user).cloned().ok_or(format!("{user} has not logged in"))?),
            None => None,
        };
        let address = self.member.address();
        match &step.action {
            Action::Get(path) => {
                let answer = web::send(&address, "GET", path, token.as_deref(), String::new(), None).await?;
                Ok(told(answer))
            }
            Action::Post { path, bodies, results } => {
                let body: Vec<String> = bodies.iter().map(Value::to_string).collect();
                let path = if path.starts_with('/') { path.clone() } else { format!("/v3/{path}") };
                let body = body.join("\n");
                Ok(told(web::send(&address, "POST", &path, token.as_deref(), body, *results).await?))
            }
            Action::Login(user, password) => {
                let body = serde_json::json!({"name": user, "password": password}).to_string();
                let answer = web::send(&address, "POST", "/v3/auth/authenticate", None, body, None).await?;
                let told = told(answer);
                if let Some(token) = told.answers.first().and_then(|answer| answer["token"].as_str()) {
                    self.tokens.insert(user.clone(), token.to_owned());
                }
                Ok(told)
            }
        }
    }
}

fn told(answer: Answer) -> Told {
    let parsed: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(&answer.body).into_iter::<Value>().collect();
    let answers = match parsed {
        Ok(answers) => answers,
        Err(_) => vec![Value::String(answer.body)],
    };
    Told { status: answer.status, answers }
}

impl Told {
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
