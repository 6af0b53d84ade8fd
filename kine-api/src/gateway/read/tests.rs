use bytes::Bytes;
use prost::Message;
use prost_reflect::DescriptorPool;
use skiff_store::pb::etcdserverpb::{Compare, PutRequest, RangeRequest, WatchCreateRequest, compare};

use super::*;

fn encode(name: &str, json: &[u8]) -> Result<Bytes, String> {
    let pool = DescriptorPool::decode(crate::services::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap();
    message(&descriptor, json).map(Bytes::from)
}

fn range(json: &str) -> RangeRequest {
    RangeRequest::decode(encode("RangeRequest", json.as_bytes()).unwrap()).unwrap()
}

#[track_caller]
fn refused(name: &str, json: &[u8], want: &str) {
    assert_eq!(encode(name, json).unwrap_err(), format!("proto: {want}"), "{}", json.escape_ascii());
}

#[test]
fn names_in_both_cases_and_numbers_in_both_forms() {
    let want = RangeRequest {
        key: "foo".into(),
        limit: 15,
        sort_order: 2,
        keys_only: true,
        min_mod_revision: -3,
        ..Default::default()
    };
    for json in [
        r#"{"key":"Zm9v","limit":15,"sort_order":"DESCEND","keys_only":true,"min_mod_revision":-3}"#,
        r#"{"key":"Zm9v","limit":"15","sortOrder":2,"keysOnly":true,"minModRevision":"-3"}"#,
        r#" { "key" : "Zm\u0039v" , "limit" : 1.5e1 , "sort_order" : 2.0, "keysOnly" : true, "minModRevision":"-30e-1" } "#,
        r#"{"key":"Zm9v","limit":"15 ignored","sort_order":"DESCEND","keys_only":true,"min_mod_revision":-3,
            "unknown":{"a":[1,{"b":"}"}]},"limit2":null,"range_end":null,"serializable":false}"#,
    ] {
        assert_eq!(range(json), want, "{json}");
    }
}

#[test]
fn base64_in_every_form_go_takes() {
    for (text, want) in [
        ("-_8=", b"\xfb\xff".as_slice()),
        ("+/8", b"\xfb\xff"),
        ("+/9", b"\xfb\xff"),
        ("", b""),
        ("Zm9v\\nYg==", b"foob"),
    ] {
        let json = format!(r#"{{"key":"{text}"}}"#);
        // Go decides on the padding before it passes over line ends.
        match encode("RangeRequest", json.as_bytes()) {
            Ok(bytes) => assert_eq!(RangeRequest::decode(bytes).unwrap().key, want, "{text}"),
            Err(error) => assert!(text.contains("\\n"), "{text}: {error}"),
        }
    }
    for text in ["Zg=", "Z", "Zg===", "Zm9v=", "+_8=", "Zg==Zg==", "*"] {
        let json = format!(r#"{{"key":"{text}"}}"#);
        refused(
            "RangeRequest",
            json.as_bytes(),
            &format!("(line 1:8): invalid value for bytes field key: \"{text}\""),
        );
    }
}

#[test]
fn a_default_is_kept_where_its_presence_says_something() {
    let encoded = encode("Compare", br#"{"key":"","version":"0"}"#).unwrap();
    let decoded = Compare::decode(encoded).unwrap();
    assert_eq!(decoded.target_union, Some(compare::TargetUnion::Version(0)));
    assert_eq!(encode("PutRequest", br#"{"key":"","lease":0,"prev_kv":false}"#).unwrap(), Bytes::new());
}

#[test]
fn lists_and_enums() {
    let json = br#"{"filters":["NODELETE", 0, "NOSUCH", 1],"key":"YQ=="}"#;
    let request = WatchCreateRequest::decode(encode("WatchCreateRequest", json).unwrap()).unwrap();
    assert_eq!(request.filters, [1, 0, 1]);
}

#[test]
fn errors_are_those_of_gos_protojson() {
    let range = |json: &str, want: &str| refused("RangeRequest", json.as_bytes(), want);
    range("null", "syntax error (line 1:1): unexpected token null");
    range("[]", "syntax error (line 1:1): unexpected token [");
    range("\"a\"", "syntax error (line 1:1): unexpected token \"a\"");
    range(r#"{"key":5}"#, "(line 1:8): invalid value for bytes field key: 5");
    range(r#"{"key":{"a":1}}"#, "(line 1:8): invalid value for bytes field key: {");
    range("{\n \"é\":1, \"limit\":1.5}", "(line 2:17): invalid value for int64 field limit: 1.5");
    range(r#"{"limit":" 1"}"#, "(line 1:10): invalid value for int64 field limit: \" 1\"");
    range(
        r#"{"limit":9223372036854775808}"#,
        "(line 1:10): invalid value for int64 field limit: 9223372036854775808",
    );
    range(r#"{"keys_only":"true"}"#, "(line 1:14): invalid value for bool field keysOnly: \"true\"");
    range(r#"{"sort_order":true}"#, "(line 1:15): invalid value for enum field sortOrder: true");
    range(r#"{"limit":1,"limit":1}"#, "(line 1:12): duplicate field \"limit\"");
    refused(
        "Compare",
        br#"{"version":1,"value":"YQ=="}"#,
        "(line 1:14): error parsing \"value\", oneof etcdserverpb.Compare.target_union is already set",
    );
    refused("WatchCreateRequest", br#"{"filters":1}"#, "syntax error (line 1:12): unexpected token 1");
    refused(
        "WatchCreateRequest",
        br#"{"filters":[null]}"#,
        "(line 1:13): invalid value for enum field filters: null",
    );
    refused("TxnRequest", br#"{"compare":[null]}"#, "syntax error (line 1:13): unexpected token null");
    refused("RangeRequest", b"{\"key\":\"\xff\"}", "syntax error (line 1:8): invalid UTF-8 in string");
    refused("RangeRequest", b"{\"no\":[\"\xff\"]}", "syntax error (line 1:8): invalid UTF-8 in string");
    range(r#"{"\ud800abcdef":1}"#, r#"syntax error (line 1:2): invalid escape code "abcdef" in string"#);
}

#[test]
fn surrogates_make_one_character() {
    let json = br#"{"\uD83D\uDE00":1,"key":"YQ\u003d="}"#;
    assert_eq!(RangeRequest::decode(encode("RangeRequest", json).unwrap()).unwrap().key, "a");
}

#[test]
fn nesting_is_bounded_where_it_costs_a_stack() {
    let nested = |depth: usize| {
        let open = r#"{"success":[{"request_txn":"#.repeat(depth);
        format!("{open}{{}}{}", "}]}".repeat(depth))
    };
    assert!(encode("TxnRequest", nested(40).as_bytes()).is_ok());
    refused("TxnRequest", nested(60).as_bytes(), "exceeded max recursion depth");
    // What is passed over may be as deep as the scanner allows.
    let deep = format!(r#"{{"no":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
    assert_eq!(encode("RangeRequest", deep.as_bytes()), Ok(Bytes::new()));
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_read_back(key in proptest::collection::vec(0..=255_u8, 0..40), lease: i64, prev: bool) {
        let put = PutRequest { key: key.into(), lease, prev_kv: prev, ..Default::default() };
        let pool = DescriptorPool::decode(crate::services::DESCRIPTORS).unwrap();
        let descriptor = pool.get_message_by_name("etcdserverpb.PutRequest").unwrap();
        let json = crate::gateway::write::message(&descriptor, put.encode_to_vec().into()).unwrap();
        let read = message(&descriptor, &json).unwrap();
        proptest::prop_assert_eq!(PutRequest::decode(Bytes::from(read)).unwrap(), put);
    }
}
