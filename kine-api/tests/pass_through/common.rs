//! Real etcd processes, and a pass-through in front of them.

use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skiff_kine_api::pass_through::{Endpoint, Options, router};
use skiff_kine_api::services::kv_client::KvClient;
use skiff_store::pb::etcdserverpb::*;
use tokio::sync::watch;
use tonic::transport::Channel;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits with a deadline, so that a fault fails a test instead of hanging it.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// A program of the real etcd; `tests/oracle.sh` fetches it.
pub fn program(name: &str) -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").expect("HOME"));
    let build = std::env::var_os("SKIFF_BUILD_DIR").map_or(home.join(".cache/skiff"), PathBuf::from);
    let path = build.join("oracle/bin").join(name);
    if !path.exists() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle.sh");
        assert!(Command::new("sh").arg(script).status().unwrap().success(), "no etcd to test with");
    }
    path
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An etcd process, killed when dropped.
pub struct Etcd {
    pub child: Child,
    pub url: String,
    _data: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Etcd {
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn spawn(name: &str, url: String, peer: &str, cluster: &str, more: &[String]) -> Etcd {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("etcd"));
        command.args(["--name", name, "--data-dir"]).arg(data.path());
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
        command.args(["--initial-cluster", cluster, "--unsafe-no-fsync"]).args(more);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Etcd { child, url, _data: data }
    }

    pub fn single(scheme: &str, more: &[String]) -> Etcd {
        let url = format!("{scheme}://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        Etcd::spawn("a", url, &peer, &format!("a={peer}"), more)
    }

    pub fn three() -> Vec<Etcd> {
        let peers: Vec<_> = (0..3).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let names = ["a", "b", "c"];
        let cluster: Vec<_> = names.iter().zip(&peers).map(|(name, peer)| format!("{name}={peer}")).collect();
        let start = |(name, peer): (&&str, &String)| {
            let url = format!("http://127.0.0.1:{}", free_port());
            Etcd::spawn(name, url, peer, &cluster.join(","), &[])
        };
        names.iter().zip(&peers).map(start).collect()
    }
}

/// A pass-through and a connection to it.
pub struct Front {
    pub address: String,
    pub channel: Channel,
    pub shutdown: watch::Sender<bool>,
}

impl Front {
    pub async fn start(urls: &[&str], options: Options) -> Front {
        let endpoints = Endpoint::parse_list(&urls.join(",")).unwrap();
        let (shutdown, stopping) = watch::channel(false);
        let router = router(endpoints, options, stopping).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Front { address, channel, shutdown }
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Waits until writes are served.
    pub async fn ready(&self) {
        within(async {
            while let Err(error) = self.kv().put(put("ready", "")).await {
                if error.message().contains("user name is empty") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Waits until every endpoint is connected.
    pub async fn all_up(&self, urls: &[&str]) {
        within(async {
            loop {
                let metrics = self.http("GET", "/metrics", "").await;
                let up = |url: &&str| {
                    metrics.contains(&format!("skiff_pass_through_endpoint_healthy{{endpoint=\"{url}\"}} 1"))
                };
                if urls.iter().all(up) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// The status and body of a GET or POST over HTTP/1.1.
    pub async fn http(&self, method: &str, path: &str, body: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

pub fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, ..Default::default() }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}
