//! Requests worth a look each.

use skiff_test_support::http::Asked;

/// In the order they are sent.
pub(crate) fn requests() -> Vec<Asked> {
    let mut all = Vec::new();
    for (path, bodies) in CALLS {
        all.extend(bodies.iter().map(|body| Asked::post(path, *body)));
    }
    for body in BROKEN {
        all.extend(
            ["kv/range", "maintenance/snapshot", "lease/keepalive"].map(|path| Asked::post(path, *body)),
        );
    }
    all.extend(odd());
    all.extend(large());
    all
}

const CALLS: &[(&str, &[&str])] = &[
    (
        "kv/put",
        &[
            r#"{"key":"Zm9v","value":"YmFy"}"#,
            r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#,
            r#"{"key":"Zm9v","prevKv":true,"ignoreValue":true}"#,
            r#"{"key":"Zm9v","value":"YQ==","ignore_value":true}"#,
            r#"{"value":"YQ=="}"#,
            r#"{"key":"Zm9v","lease":"77"}"#,
            "{}",
        ],
    ),
    (
        "kv/range",
        &[
            r#"{"key":"Zm9v"}"#,
            r#"{"key":"Zm9v","revision":"2"}"#,
            r#"{"key":"Zm9v","revision":200}"#,
            r#"{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sortTarget":"MOD"}"#,
            r#"{"key":"Zm9v","countOnly":true}"#,
            r#"{"key":"Zm9v","limit":"1e0"}"#,
            r#"{"key":"Zm9v","sort_order":"NO_SUCH","unknown":[1,{"a":null}]}"#,
            r#"{"key":"Zm9v"}trailing"#,
            r#"{"key":"Zm9v","key":"Zm9v"}"#,
            "{\"k\\u0065y\":\"Zm9v\"}",
        ],
    ),
    (
        "kv/txn",
        &[
            r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"YQ=="}],"success":[{"request_range":{"key":"Zm9v"}}],"failure":[{"requestPut":{"key":"YQ==","value":"YQ=="}}]}"#,
            r#"{"compare":[{"key":"Zm9v","target":"VERSION","version":"0","result":"GREATER"}],"success":[{"request_range":{"key":"Zm9v"}},{"request_delete_range":{"key":"YQ==","prev_kv":true}}]}"#,
            r#"{"success":[{"request_txn":{"success":[{"request_put":{"key":"Yg=="}}]}}]}"#,
            r#"{"success":[{"request_put":{"key":"Yg=="}},{"request_put":{"key":"Yg=="}}]}"#,
            r#"{"success":[{"request_put":{"key":"Yg=="},"request_range":{"key":"Yg=="}}]}"#,
            r#"{"success":[null]}"#,
            r#"{"success":[{}]}"#,
            "{}",
        ],
    ),
    ("kv/deleterange", &[r#"{"key":"Yg==","prev_kv":true}"#, r#"{"key":"Yg=="}"#, "{}"]),
    (
        "lease/grant",
        &[
            r#"{"ID":7,"TTL":"1000"}"#,
            r#"{"ID":7,"TTL":"1000"}"#,
            r#"{"ID":8,"TTL":"9000000001"}"#,
            r#"{"ID":8.5,"TTL":"90"}"#,
        ],
    ),
    ("lease/timetolive", &[r#"{"ID":7,"keys":true}"#, r#"{"ID":9}"#]),
    ("kv/lease/timetolive", &[r#"{"ID":"7"}"#]),
    ("lease/leases", &["", "{}"]),
    ("kv/lease/leases", &["{}"]),
    ("lease/keepalive", &["", r#"{"ID":9}{"ID":"9"}"#, r#"{"ID":9} {"ID":"x"} {"ID":9}"#]),
    ("lease/revoke", &[r#"{"ID":7}"#, r#"{"ID":7}"#]),
    ("kv/lease/revoke", &[r#"{"ID":7}"#]),
    ("kv/compaction", &[r#"{"revision":2}"#, r#"{"revision":2}"#, r#"{"revision":"1000"}"#]),
    ("cluster/member/list", &["", r#"{"linearizable":true}"#]),
    ("cluster/member/add", &[r#"{"peerURLs":["nonsense"]}"#, r#"{"peerURLs":"http://a:1"}"#]),
    ("cluster/member/remove", &[r#"{"ID":5}"#]),
    ("cluster/member/update", &[r#"{"ID":5,"peerURLs":["http://127.0.0.1:1"]}"#]),
    ("cluster/member/promote", &[r#"{"ID":5}"#]),
    ("maintenance/status", &["", "{}"]),
    ("maintenance/alarm", &["{}", r#"{"action":"GET","alarm":"NOSPACE"}"#, r#"{"action":"NOPE"}"#]),
    ("maintenance/hashkv", &["{}", r#"{"revision":"1000"}"#]),
    ("maintenance/defragment", &["{}"]),
    ("maintenance/transfer-leadership", &[r#"{"targetID":5}"#]),
    ("auth/status", &["{}"]),
    ("auth/disable", &[""]),
    ("auth/authenticate", &["{}"]),
    ("nope", &["{}"]),
    ("", &["{}"]),
    ("kv/range/", &["{}"]),
    ("kv//range", &["{}"]),
    ("kv/./range?a=b", &["{}"]),
    ("kv%2Frange", &[r#"{"key":"Zm9v"}"#]),
];

const BROKEN: &[&str] = &[
    "garbage",
    "{",
    "[",
    "\"",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{a:1}",
    "{,}",
    "[]",
    "null",
    "true",
    "5",
    "-",
    "1.",
    "1e",
    "01",
    "tru",
    "trux",
    "\"x\"",
    "{\"a\":\"\\x\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\n\"}",
    "{\"a\":1 2}",
    "{\"a\" 1}",
    "{\"key\":5,\"ID\":{}}",
    "{\"key\":\"*\",\"ID\":\"*\"}",
    "{\"key\":\"Zg=\",\"ID\":\" 1\"}",
    "{\"key\":true,\"ID\":true}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\ud800\\u0041\"}",
    "{\"a\":\"\\ud83d\\ude00\",\"ID\":\"\\ud83d\"}",
    "{\n\n  \"é\": 1, \"key\": 1.5, \"ID\": 1.5 }",
    "{}}",
    "\u{feff}{}",
];

/// What is odd about something else than the body.
fn odd() -> Vec<Asked> {
    let range = || Asked::post("kv/range", r#"{"key":"Zm9v"}"#);
    let old = |path: &str| Asked { path: path.to_owned(), ..range() };
    let upgrade = || {
        let asked = Asked { path: "/v3/watch".to_owned(), body: Vec::new(), ..range() };
        asked.method("GET").header("connection", "upgrade").header("upgrade", "websocket")
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    vec![
        range().method("GET"),
        range().method("PUT"),
        range().method("DELETE"),
        range().method("OPTIONS"),
        range()
            .method("OPTIONS")
            .header("origin", "http://a.b")
            .header("access-control-request-method", "POST"),
        Asked::post("nope", "").method("GET"),
        old("/v3beta/kv/range"),
        old("/v3alpha/kv/range"),
        old("/v3"),
        old("/nothing"),
        range().header("content-type", "application/grpc"),
        range().header("content-type", "application/x-www-form-urlencoded"),
        range().header("content-type", "nonsense"),
        range().header("origin", "http://a.b"),
        range().header("grpc-timeout", "zz"),
        range().header("grpc-timeout", "1n"),
        range().header("grpc-timeout", "100S"),
        range().header("grpc-metadata-hasleader", "true"),
        range().header("grpc-metadata-token", "nobody"),
        range().header("authorization", "nobody"),
        range().header("grpc-metadata-content-type", "nonsense"),
        upgrade(),
        upgrade().header("sec-websocket-key", key).header("sec-websocket-version", "12"),
        upgrade().method("POST").header("sec-websocket-key", key).header("sec-websocket-version", "13"),
    ]
}

/// Around the bounds of requests.
fn large() -> Vec<Asked> {
    let put = |bytes: usize| {
        Asked::post("kv/put", format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(bytes / 3)))
    };
    let deep = |open: &str, depth: usize| Asked::post("kv/range", format!(r#"{{"x":{}"#, open.repeat(depth)));
    vec![
        put(1_500_000),
        put(1_572_900),
        put(2_200_000),
        deep("[", 20_000),
        deep("{\"a\":", 20_000),
        deep("[", 9_000),
    ]
}
