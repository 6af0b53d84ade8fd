//! Whatever comes in: the answer is JSON, and nothing panics.

use proptest::prelude::*;

use super::*;

/// JSON with names that mean something, and with some that do not.
fn value() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "key",
        "range_end",
        "rangeEnd",
        "value",
        "lease",
        "limit",
        "revision",
        "sort_order",
        "ID",
        "TTL",
        "keys",
        "create_request",
        "cancel_request",
        "watch_id",
        "filters",
        "compare",
        "success",
        "failure",
        "target",
        "request_put",
        "request_txn",
        "request_range",
        "name",
        "perm",
        "peerURLs",
        "alarm",
        "action",
        "x",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9+/=]{0,8}".prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = value().prop_map(|value| value.to_string().into_bytes());
    let cut = (value(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        text
    });
    prop_oneof![json, cut, prop::collection::vec(any::<u8>(), 0..200)]
}

/// Sends a body to every path; the member is stopped once it is sent, so that
/// no stream waits for more.
async fn send_everywhere(body: Vec<u8>) {
    for path in PATHS {
        let gateway = Gateway::new();
        let sent = gateway.send(request(path, body.clone()));
        let answer = if *path == "watch" {
            gateway.stop.send_replace(true);
            sent.await
        } else {
            sent.await
        };
        let text = body.escape_ascii();
        if answer.body.is_empty() {
            assert_eq!((*path, answer.status.as_u16()), ("lease/keepalive", 200), "{text}");
            continue;
        }
        assert_eq!(answer.headers["content-type"], "application/json", "{path} {text}");
        let lines = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        for line in lines {
            let line = line.unwrap_or_else(|error| panic!("{path} {text}: {error}: {answer:?}"));
            assert!(line.is_object(), "{path} {text}: {answer:?}");
            assert!(line["code"] != 13 && line["error"]["code"] != 13, "{path} {text}: {line}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_body_is_answered_with_json(body in body()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(send_everywhere(body));
    }
}
