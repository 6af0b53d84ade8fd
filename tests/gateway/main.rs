//! The JSON gateway against a real etcd's: the same HTTP requests, good and broken, go to both; status,
//! headers and bodies must be equal. Both servers start fresh and see the same requests, so that even
//! revisions agree.
//!
//! * `SKIFF_GATEWAY_REQUESTS`: how many random requests to send.
//! * `SKIFF_GATEWAY_SEED`: the seed of the run; without it the same one. A failure prints what was sent.
//! * `SKIFF_TEST_SUBJECT`: examine another binary, or `etcd` itself.

mod certificates;
mod flags;
mod generate;
mod known;
mod pair;
mod picked;

use pair::Pair;
use skiff_test_support::Rng;
use skiff_test_support::http::Asked;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn picked_requests_are_answered_as_by_etcd() {
    let pair = Pair::start(&[]).await;
    for asked in picked::requests() {
        pair.compare(&asked).await;
    }
    pair.finish();
}

#[tokio::test]
async fn random_requests_are_answered_as_by_etcd() {
    let pair = Pair::start(&[]).await;
    for id in 1..4 {
        pair.compare(&Asked::post("lease/grant", format!(r#"{{"ID":{id},"TTL":100000}}"#))).await;
    }
    let seed = setting("SKIFF_GATEWAY_SEED", 20_261_125);
    println!("SKIFF_GATEWAY_SEED={seed}");
    let mut tally = std::collections::BTreeMap::<_, u64>::new();
    for number in 0..setting("SKIFF_GATEWAY_REQUESTS", 4000) {
        let asked = generate::request(&mut Rng::derive(seed, number));
        let status = pair.compare(&asked).await;
        *tally.entry((asked.path.clone(), status)).or_default() += 1;
    }
    for ((path, status), count) in &tally {
        println!("{count:8} {status} {path}");
    }
    let answered =
        |good: bool| tally.iter().filter(|((_, s), _)| (*s == 200) == good).map(|(_, n)| n).sum::<u64>();
    assert!(answered(true) > 0 && answered(false) > 0, "the run is to see both");
    pair.finish();
}

#[tokio::test]
async fn watches_tell_the_same_events() {
    let pair = Pair::start(&[]).await;
    for number in 0..20 {
        let key = ["YQ==", "Yg=="][number % 2];
        pair.compare(&Asked::post("kv/put", format!(r#"{{"key":"{key}","value":"AAEC"}}"#))).await;
        if number % 5 == 4 {
            pair.compare(&Asked::post("kv/deleterange", r#"{"key":"YQ=="}"#.to_owned())).await;
        }
    }
    pair.compare(&Asked::post("kv/put", r#"{"key":"eg=="}"#.to_owned())).await;
    for more in [
        r#""startRevision":2"#,
        r#""start_revision":"5""#,
        r#""startRevision":2,"prev_kv":true"#,
        r#""startRevision":2,"filters":["NODELETE"]"#,
        r#""startRevision":2,"filters":[0]"#,
    ] {
        let create = format!(r#"{{"create_request":{{"key":"AA==","rangeEnd":"AA==",{more}}}}}"#);
        pair.compare_events(&create, "eg==").await;
    }
    pair.finish();
}
