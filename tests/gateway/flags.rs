//! The flags around the gateway, compared with etcd's.

use skiff_test_support::ports::free_port;

use crate::pair::Pair;
use skiff_test_support::http::{Asked, open};

fn range() -> Asked {
    Asked::post("kv/range", r#"{"key":"Zm9v"}"#)
}

fn get(path: &str) -> Asked {
    Asked { path: path.to_owned(), ..range() }.method("GET")
}

#[tokio::test]
async fn origins_and_host_names() {
    let pair = Pair::start(&["--cors=http://a.b:80,http://c.d:8080", "--host-whitelist=good,other"]).await;
    for host in ["good", "good:1234", "other", "evil", "evil:80", "127.0.0.1"] {
        for asked in [range(), get("/v3/kv/range"), get("/nothing"), range().method("OPTIONS")] {
            pair.compare(&asked.header("host", host)).await;
        }
        // Claiming to be gRPC does not help.
        pair.compare(&range().header("host", host).header("content-type", "application/grpc")).await;
        pair.compare(
            &get("/v3/watch")
                .header("host", host)
                .header("connection", "upgrade")
                .header("upgrade", "websocket"),
        )
        .await;
    }
    for origin in ["http://a.b:80", "http://c.d:8080", "http://evil:80", ""] {
        for asked in [range(), get("/nothing"), range().method("OPTIONS")] {
            pair.compare(&asked.header("host", "good").header("origin", origin)).await;
        }
    }
    pair.finish();
}

#[tokio::test]
async fn no_gateway() {
    let pair = Pair::start(&["--enable-grpc-gateway=false"]).await;
    for asked in [range(), get("/v3/kv/range"), get("/v3"), Asked::post("nope", "")] {
        pair.compare(&asked).await;
    }
    pair.finish();
}

#[tokio::test]
async fn urls_for_http_alone() {
    let ports = [free_port(), free_port()];
    // One flag for both would have them fight over a port.
    let pair = Pair::start_each(
        ports.map(|port| vec![format!("--listen-client-http-urls=http://127.0.0.1:{port}")]),
    )
    .await;
    let http = || ports.map(|port| format!("127.0.0.1:{port}"));
    for asked in [range(), get("/nothing"), range().method("OPTIONS")] {
        pair.compare_at(&asked, http()).await;
    }
    // gRPC went to the other URL when the servers were found ready; HTTP is not answered there.
    for address in pair.addresses() {
        let answer = open(&address, &range()).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 415), "{address}");
    }
    pair.finish();
}
