//! Random requests: names in both cases, values right and wrong, texts cut and bent.

use skiff_test_support::Rng;

use skiff_test_support::http::Asked;

/// What a field takes.
#[derive(Clone, Copy)]
enum Kind {
    Bytes,
    Int,
    Bool,
    Enum(&'static [&'static str]),
}

use Kind::{Bool, Bytes, Enum, Int};

type Fields = &'static [(&'static str, &'static str, Kind)];

const SORT_ORDERS: &[&str] = &["NONE", "ASCEND", "DESCEND"];
const SORT_TARGETS: &[&str] = &["KEY", "VERSION", "CREATE", "MOD", "VALUE"];

const RANGE: Fields = &[
    ("key", "key", Bytes),
    ("range_end", "rangeEnd", Bytes),
    ("limit", "limit", Int),
    ("revision", "revision", Int),
    ("sort_order", "sortOrder", Enum(SORT_ORDERS)),
    ("sort_target", "sortTarget", Enum(SORT_TARGETS)),
    ("serializable", "serializable", Bool),
    ("keys_only", "keysOnly", Bool),
    ("count_only", "countOnly", Bool),
    ("min_mod_revision", "minModRevision", Int),
];

const PUT: Fields = &[
    ("key", "key", Bytes),
    ("value", "value", Bytes),
    ("lease", "lease", Int),
    ("prev_kv", "prevKv", Bool),
    ("ignore_value", "ignoreValue", Bool),
    ("ignore_lease", "ignoreLease", Bool),
];

/// In a transaction without ignore_*: etcd ends in a panic when the same transaction deletes the key first.
const TXN_PUT: Fields =
    &[("key", "key", Bytes), ("value", "value", Bytes), ("lease", "lease", Int), ("prev_kv", "prevKv", Bool)];

const DELETE: Fields =
    &[("key", "key", Bytes), ("range_end", "rangeEnd", Bytes), ("prev_kv", "prevKv", Bool)];

const COMPARE: Fields = &[
    ("key", "key", Bytes),
    ("result", "result", Enum(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])),
    ("target", "target", Enum(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])),
    ("version", "version", Int),
    ("mod_revision", "modRevision", Int),
    ("value", "value", Bytes),
];

const LEASE: Fields = &[("ID", "ID", Int), ("keys", "keys", Bool)];

const CALLS: &[(&str, Fields)] = &[
    ("kv/range", RANGE),
    ("kv/put", PUT),
    ("kv/deleterange", DELETE),
    ("lease/timetolive", LEASE),
    ("kv/lease/revoke", &[("ID", "ID", Int)]),
    ("lease/keepalive", &[("ID", "ID", Int)]),
    ("lease/leases", &[]),
    ("maintenance/hashkv", &[("revision", "revision", Int)]),
    ("cluster/member/list", &[("linearizable", "linearizable", Bool)]),
];

/// A random request.
pub(crate) fn request(rng: &mut Rng) -> Asked {
    let choice = rng.weighted(&[20, 20, 6, 5, 1, 5, 2, 3, 2, 20]);
    // How often a value is wrong: often enough to see each mistake alone.
    let wrong = *rng.pick(&[0, 0, 3, 12]);
    let (path, text) = match CALLS.get(choice) {
        Some((path, fields)) => (*path, object(rng, fields, wrong)),
        None => ("kv/txn", txn(rng, wrong, 2)),
    };
    let text = if path == "lease/keepalive" {
        format!("{text} {}", object(rng, &[("ID", "ID", Int)], wrong))
    } else {
        text
    };
    let mut body = text.into_bytes();
    if rng.chance(15) {
        bend(rng, &mut body);
    }
    Asked::post(path, body)
}

/// An object with some of the fields.
fn object(rng: &mut Rng, fields: Fields, wrong: u64) -> String {
    let mut members = Vec::new();
    for (index, (snake, camel, kind)) in fields.iter().enumerate() {
        // The first field is what a request is about.
        if rng.chance(if index == 0 { 92 } else { 25 }) {
            members.push(format!(
                "\"{}\":{}",
                if rng.chance(50) { snake } else { camel },
                value(rng, *kind, wrong)
            ));
        }
    }
    if rng.chance(wrong) && !members.is_empty() {
        members.push(rng.pick(&members).clone());
    }
    if rng.chance(10) {
        members.push(
            rng.pick(&["\"x\":[{},[1.5e3]]", "\"\\u00e9\":\"\\ud83d\\ude00\"", "\"y\":null"]).to_string(),
        );
    }
    let space = *rng.pick(&["", "", " ", "\n "]);
    format!("{{{space}{}{space}}}", members.join(&format!(",{space}")))
}

fn value(rng: &mut Rng, kind: Kind, wrong: u64) -> String {
    if rng.chance(wrong) && matches!(kind, Enum(_)) {
        // Numbers without a name are refused since 3.6, and only then.
        let any = ["null", "true", "\"\"", "1.5", "{}", "[]", "\"NO_SUCH\"", "\"1\"", "9223372036854775808"];
        return (*rng.pick(&any)).to_owned();
    }
    if rng.chance(wrong) {
        let any = [
            "null",
            "true",
            "\"\"",
            "5",
            "1.5",
            "-1",
            "\" 1\"",
            "\"1x\"",
            "{}",
            "[]",
            "[1]",
            "{\"a\":1}",
            "\"*\"",
            "\"Zg=\"",
            "\"é\"",
            "\"\\ud800\"",
            "9223372036854775808",
            "-9223372036854775808",
            "1e400",
            "\"NaN\"",
            "\"1 2\"",
            "1e1",
            "\"\\u0031\"",
        ];
        return (*rng.pick(&any)).to_owned();
    }
    match kind {
        Bytes => format!(
            "\"{}\"",
            rng.pick(&["YQ==", "Yg", "Yw==", "ZA==", "ZQ==", "AA==", "YWI=", "-_8=", "", "Y\\u0051=="])
        ),
        Int => {
            let number = rng.between(0, 5);
            match rng.below(5) {
                0 => format!("\"{number}\""),
                1 => format!("{number}.0"),
                2 => format!("{number}0e-1"),
                _ => number.to_string(),
            }
        }
        Bool => (*rng.pick(&["true", "false"])).to_owned(),
        Enum(names) => match rng.below(4) {
            0 => rng.below(names.len() as u64).to_string(),
            1 if wrong > 0 => "\"NO_SUCH\"".to_owned(),
            _ => format!("\"{}\"", rng.pick(names)),
        },
    }
}

fn txn(rng: &mut Rng, wrong: u64, depth: u64) -> String {
    let compares: Vec<_> = (0..rng.below(3)).map(|_| object(rng, COMPARE, wrong)).collect();
    let mut branches = Vec::new();
    for name in ["success", "failure"] {
        let operations: Vec<_> = (0..rng.below(3)).map(|_| operation(rng, wrong, depth)).collect();
        branches.push(format!("\"{name}\":[{}]", operations.join(",")));
    }
    format!("{{\"compare\":[{}],{}}}", compares.join(", "), branches.join(","))
}

fn operation(rng: &mut Rng, wrong: u64, depth: u64) -> String {
    let (snake, camel, inner) = match rng.weighted(&[4, 4, 2, u64::from(depth > 0)]) {
        0 => ("request_range", "requestRange", object(rng, RANGE, wrong)),
        1 => ("request_put", "requestPut", object(rng, TXN_PUT, wrong)),
        2 => ("request_delete_range", "requestDeleteRange", object(rng, DELETE, wrong)),
        _ => ("request_txn", "requestTxn", txn(rng, wrong, depth - 1)),
    };
    format!("{{\"{}\":{inner}}}", if rng.chance(50) { snake } else { camel })
}

/// Breaks a text somewhere.
fn bend(rng: &mut Rng, text: &mut Vec<u8>) {
    let at = rng.below(text.len() as u64) as usize;
    let byte = *rng.pick(b"{}[]:,\"\\ 0a-.e\n\x01\xff\xc3");
    match rng.below(4) {
        0 => text.truncate(at),
        1 => drop(text.remove(at)),
        2 => text.insert(at, byte),
        _ => text[at] = byte,
    }
}
