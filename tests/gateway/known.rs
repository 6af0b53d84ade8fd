//! What may differ between the two: the whole list.

use serde_json::{Map, Value};

use skiff_test_support::http::{Answer, Asked};

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparable {
    status: u16,
    headers: Vec<(String, String)>,
    lines: Vec<Value>,
    /// A body that is not JSON.
    text: String,
}

/// Headers that a client may act on.
const HEADERS: &[&str] = &[
    "content-type",
    "grpc-metadata-content-type",
    "location",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "x-content-type-options",
    "sec-websocket-version",
    "www-authenticate",
];

/// An answer without what rightly differs from server to server.
pub(crate) fn comparable(asked: &Asked, answer: &Answer) -> Comparable {
    let pick = |name: &&str| Some(((*name).to_owned(), answer.headers.get(*name)?.to_str().ok()?.to_owned()));
    let parsed: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().collect();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let (mut lines, text) = match parsed {
        Ok(lines) => (lines, String::new()),
        Err(_) => (Vec::new(), text),
    };
    lines.iter_mut().for_each(|line| normalize(&asked.path, line));
    if asked.path.ends_with("/snapshot") && answer.status == 200 {
        // Each has its own form of a snapshot, and cuts it as it likes.
        lines.retain(|line| !line["result"]["blob"].is_string());
    }
    let mut headers: Vec<_> = HEADERS.iter().filter_map(pick).collect();
    if answer.status == 301 {
        // Go adds a page for people to a redirected GET.
        headers.retain(|(name, _)| name != "content-type");
        return Comparable { status: 301, headers, lines: Vec::new(), text: String::new() };
    }
    Comparable { status: answer.status, headers, lines, text }
}

/// Takes out ids, clocks and sizes, and fields that 3.6 has added.
fn normalize(path: &str, value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| normalize(path, value)),
        Value::Object(object) => normalize_object(path, object),
        _ => {}
    }
}

fn normalize_object(path: &str, object: &mut Map<String, Value>) {
    if let Some(Value::Object(header)) = object.get_mut("header") {
        for name in ["cluster_id", "member_id", "raft_term"] {
            header.shift_remove(name);
        }
        // etcd leaves these headers out, or the revision in them; here every header is filled.
        if path.contains("/cluster/") || path.contains("/maintenance/") {
            object.shift_remove("header");
        }
    }
    // protojson puts one of two spaces here, to keep anyone from comparing.
    if let Some(Value::String(text)) = object.get_mut("message") {
        *text = text.replace('\u{a0}', " ");
    }
    for name in ["hash", "hash_revision", "storageVersion", "dbSizeQuota", "downgradeInfo", "version"] {
        if path.contains("/maintenance/") {
            object.shift_remove(name);
        }
    }
    let blank = [
        "dbSize",
        "dbSizeInUse",
        "raftIndex",
        "raftTerm",
        "raftAppliedIndex",
        "leader",
        "peerURLs",
        "clientURLs",
    ];
    for name in blank {
        if let Some(value) = object.get_mut(name) {
            *value = Value::Bool(true);
        }
    }
    if path.contains("/member/list") && object.contains_key("ID") {
        object.insert("ID".to_owned(), Value::Bool(true));
    }
    // Some of the time has passed.
    if object.contains_key("grantedTTL") {
        object.insert("TTL".to_owned(), Value::Bool(true));
    }
    // Ordered by when they expire.
    if let Some(Value::Array(leases)) = object.get_mut("leases") {
        leases.sort_by_key(ToString::to_string);
    }
    object.values_mut().for_each(|value| normalize(path, value));
}

/// A stream whose requests turn out to be broken: etcd says nothing and stops reading, here it ends with an
/// error. Everything up to it is compared.
pub(crate) fn settle(asked: &Asked, found: &mut Comparable) {
    if !asked.path.ends_with("/lease/keepalive") {
        return;
    }
    if found.lines.last().is_some_and(|line| line["error"]["code"] == 3) {
        found.lines.pop();
        if found.lines.is_empty() {
            found.status = 200;
            found.headers.retain(|(name, _)| name != "content-type");
        }
    }
    // Without a line there is no metadata to show; when etcd's comes is a matter of timing.
    if found.lines.is_empty() {
        found.headers.retain(|(name, _)| name != "grpc-metadata-content-type");
    }
}
