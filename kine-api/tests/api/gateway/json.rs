//! What goes in and what comes out.

use serde_json::json;

use super::*;

/// An answer without the parts that differ from run to run.
fn plain(mut value: Value) -> Value {
    if let Some(header) = value.get_mut("header").and_then(Value::as_object_mut) {
        for name in ["cluster_id", "member_id", "raft_term"] {
            assert!(header.shift_remove(name).is_some_and(|id| id.is_string()), "{name}");
        }
    }
    value
}

#[tokio::test]
async fn keys_and_values() {
    let gateway = Gateway::new();
    let put = gateway.ok("kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
    assert_eq!(plain(put), json!({"header": {"revision": "2"}}));
    let put = gateway.ok("kv/put", r#"{"key":"Zm9v","value":"","prevKv":true}"#).await;
    let pair = json!({"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"});
    assert_eq!(plain(put), json!({"header": {"revision": "3"}, "prev_kv": pair}));
    let range = gateway.ok("kv/range", r#"{"key":"Zm9v","revision":"2","limit":1}"#).await;
    assert_eq!(plain(range), json!({"header": {"revision": "3"}, "kvs": [pair], "count": "1"}));
    let deleted = gateway.ok("kv/deleterange", r#"{"key":"Zm9v"}"#).await;
    assert_eq!(plain(deleted), json!({"header": {"revision": "4"}, "deleted": "1"}));
    let range = gateway.ok("kv/range", r#"{"key":"Zm9v"}"#).await;
    assert_eq!(plain(range), json!({"header": {"revision": "4"}}));
}

#[tokio::test]
async fn transactions_with_their_alternatives() {
    let gateway = Gateway::new();
    let txn = r#"{"compare":[{"key":"YQ==","target":"VERSION","version":0}],
        "success":[{"requestPut":{"key":"YQ==","value":"YQ=="}},{"request_range":{"key":"YQ=="}},{"request_txn":{}}],
        "failure":[{"request_delete_range":{"key":"YQ=="}}]}"#;
    let pair = json!({"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"YQ=="});
    let want = json!({"header": {"revision": "2"}, "succeeded": true, "responses": [
        {"response_put": {"header": {"revision": "2"}}},
        {"response_range": {"header": {"revision": "2"}, "kvs": [pair], "count": "1"}},
        {"response_txn": {"header": {}, "succeeded": true}},
    ]});
    assert_eq!(plain(gateway.ok("kv/txn", txn).await), want);
    let deleted = json!({"response_delete_range": {"header": {"revision": "3"}, "deleted": "1"}});
    let want = json!({"header": {"revision": "3"}, "responses": [deleted]});
    assert_eq!(plain(gateway.ok("kv/txn", txn).await), want);
}

#[tokio::test]
async fn leases() {
    let gateway = Gateway::new();
    let granted = gateway.ok("lease/grant", r#"{"ID":"7","TTL":100}"#).await;
    assert_eq!(plain(granted), json!({"header": {"revision": "1"}, "ID": "7", "TTL": "100"}));
    gateway.ok("kv/put", r#"{"key":"YQ==","lease":7}"#).await;
    for root in ["lease", "kv/lease"] {
        let left = gateway.ok(&format!("{root}/timetolive"), r#"{"ID":7,"keys":true}"#).await;
        assert_eq!((&left["grantedTTL"], &left["keys"]), (&json!("100"), &json!(["YQ=="])));
        assert_eq!(gateway.ok(&format!("{root}/leases"), "").await["leases"], json!([{"ID": "7"}]));
    }
    let missing = gateway.ok("lease/timetolive", r#"{"ID":8}"#).await;
    assert_eq!(missing["TTL"], json!("-1"));
    gateway.ok("kv/lease/revoke", r#"{"ID":7}"#).await;
    let not_found = "etcdserver: requested lease not found".to_owned();
    assert_eq!(gateway.post("lease/revoke", r#"{"ID":7}"#).await.error(), (404, 5, not_found));
}

#[tokio::test]
async fn members_and_status() {
    let gateway = Gateway::new();
    let status = gateway.ok("maintenance/status", "").await;
    assert_eq!(status["version"], skiff_kine_api::ETCD_VERSION);
    assert!(status["dbSize"].is_string() && status["raftIndex"].is_string(), "{status}");
    assert!(gateway.ok("cluster/member/list", "{}").await["members"][0]["ID"].is_string());
    assert!(gateway.ok("maintenance/hashkv", r#"{"revision":"0"}"#).await["hash"].is_number());
    let alarm = r#"{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}"#;
    assert_eq!(gateway.ok("maintenance/alarm", alarm).await["alarms"][0]["alarm"], json!("NOSPACE"));
}

#[tokio::test]
async fn mistakes() {
    let gateway = Gateway::new();
    for (path, body, status, code, text) in [
        ("kv/range", "", 400, 3, "etcdserver: key is not provided"),
        ("kv/range", " \n", 400, 3, "etcdserver: key is not provided"),
        ("kv/range", "{\"key\":\"Zm9v\"", 400, 3, "unexpected EOF"),
        ("kv/range", "garbage", 400, 3, "invalid character 'g' looking for beginning of value"),
        ("kv/range", "null", 400, 3, "proto: syntax error (line 1:1): unexpected token null"),
        ("kv/range", "{\"key\":5}", 400, 3, "proto: (line 1:8): invalid value for bytes field key: 5"),
        ("kv/range", r#"{"key":"YQ==","sort_order":7}"#, 400, 3, "etcdserver: invalid sort option"),
        (
            "kv/compaction",
            r#"{"revision":100}"#,
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("kv/put", r#"{"key":"YQ==","lease":1}"#, 404, 5, "etcdserver: requested lease not found"),
        ("auth/authenticate", "{}", 400, 9, "etcdserver: authentication is not enabled"),
        ("maintenance/snapshot", "{", 400, 3, "unexpected EOF"),
    ] {
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.error(), (status, code, text.to_owned()), "{path} {body}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(answer.json().get("error").is_none(), "as etcd 3.6");
    }
    // What is not known is passed over, and so is what follows the value.
    let odd = r#"{"key":"YQ==","unknown":[{}],"sort_order":"NO_SUCH"}garbage"#;
    assert_eq!(gateway.post("kv/range", odd).await.status, 200);
    let deep = format!(r#"{{"key":{}"#, "[".repeat(20_000));
    assert_eq!(gateway.post("kv/range", deep).await.error().2, "invalid character '[' exceeded max depth");
}
