//! Profiles of a running member, at the paths of Go's.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use prost::Message;
use skiff_test_support::pb::etcdserverpb::PutRequest;
use skiff_test_support::{Member, Program, Scratch};

/// The format, as far as it is looked at.
mod format {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) kinds: Vec<Kind>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) locations: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) functions: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) texts: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Kind {
        #[prost(int64, tag = "1")]
        pub(super) name: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) locations: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) values: Vec<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) lines: Vec<Line>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
    }
}

impl format::Profile {
    fn read(compressed: &[u8]) -> format::Profile {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(compressed).read_to_end(&mut bytes).unwrap();
        format::Profile::decode(&bytes[..]).unwrap()
    }

    fn text(&self, index: i64) -> &str {
        &self.texts[usize::try_from(index).unwrap()]
    }

    fn kinds(&self) -> Vec<&str> {
        self.kinds.iter().map(|kind| self.text(kind.name)).collect()
    }

    /// The sum of a kind of value over the stacks that hold a function whose
    /// name has this in it.
    fn sum(&self, kind: &str, function: &str) -> i64 {
        let column = self.kinds().iter().position(|name| *name == kind).unwrap();
        let holds = |sample: &&format::Sample| {
            sample.locations.iter().any(|id| {
                let location = self.locations.iter().find(|location| location.id == *id).unwrap();
                location.lines.iter().any(|line| {
                    let known = self.functions.iter().find(|function| function.id == line.function).unwrap();
                    self.text(known.name).contains(function)
                })
            })
        };
        self.samples.iter().filter(holds).map(|sample| sample.values[column]).sum()
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

async fn member(scratch: &Scratch, flags: &[&str]) -> Member {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    Member::flagged(program, scratch.path(), flags).await.unwrap()
}

async fn put(member: &Member, value: Vec<u8>) {
    let request = PutRequest { key: "k".into(), value: value.into(), ..Default::default() };
    member.client().put(request).await.unwrap();
}

#[tokio::test]
async fn profiles_of_the_heap_tell_who_allocates() {
    const PUTS: i64 = 40;
    const VALUE: i64 = 1 << 20;
    let scratch = Scratch::new("heap");
    let member = member(&scratch, &["--enable-pprof"]).await;
    let profile = |name: &str| {
        let (status, bytes) = member.get(&format!("/debug/pprof/{name}")).unwrap();
        assert!(status.contains("200"), "{status}: {}", String::from_utf8_lossy(&bytes));
        (format::Profile::read(&bytes), bytes)
    };
    let (before, _) = profile("allocs");
    for _ in 0..PUTS {
        put(&member, vec![7; VALUE as usize]).await;
    }
    for (name, first) in [("heap", "inuse_space"), ("allocs", "alloc_space")] {
        let (read, bytes) = profile(name);
        assert_eq!(read.kinds(), ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
        // Each value was received at least once; most of so large allocations are sampled.
        let received = read.sum("alloc_space", "skiff") - before.sum("alloc_space", "skiff");
        assert!(received > PUTS * VALUE / 4, "{received}");
        let (kept, ever) = (read.sum("inuse_space", "skiff"), read.sum("alloc_space", "skiff"));
        assert!(0 < kept && kept < ever, "{kept} of {ever}");
        assert!(read.sum("inuse_objects", "") <= read.sum("alloc_objects", ""));
        let path = scratch.path().join(format!("{name}.pb.gz"));
        std::fs::write(&path, bytes).unwrap();
        if let Some(text) = top(&path) {
            assert!(text.contains(&format!("Type: {first}")) && text.contains("skiff"), "{text}");
            assert!(!text.contains("_rjem_"), "the allocator is shown itself: {text}");
        }
    }
    assert!(member.get("/debug/pprof/heap?seconds=5").unwrap().0.contains("400"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_of_the_processor_are_read_by_go() {
    let scratch = Scratch::new("profile");
    let member = member(&scratch, &["--enable-pprof"]).await;
    let (status, index) = member.get("/debug/pprof/").unwrap();
    assert!(
        status.contains("200") && String::from_utf8_lossy(&index).contains("profile?seconds"),
        "{status}"
    );
    let (status, command) = member.get("/debug/pprof/cmdline").unwrap();
    assert!(status.contains("200") && String::from_utf8_lossy(&command).contains("--enable-pprof"));
    assert!(member.get("/debug/pprof/profile?seconds=0").unwrap().0.contains("400"));

    // Work to be seen, and a second profile that has to be refused meanwhile.
    let client = member.client();
    let load = tokio::spawn(async move {
        loop {
            let request = PutRequest { key: "k".into(), value: vec![7; 100].into(), ..Default::default() };
            client.put(request).await.unwrap();
        }
    });
    let member = std::sync::Arc::new(member);
    let asked = member.clone();
    let profile = tokio::task::spawn_blocking(move || asked.get("/debug/pprof/profile?seconds=3").unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !profile.is_finished() {
        let asked = member.clone();
        let (status, text) =
            tokio::task::spawn_blocking(move || asked.get("/debug/pprof/profile?seconds=1").unwrap())
                .await
                .unwrap();
        if status.contains("500") {
            assert!(String::from_utf8_lossy(&text).contains("already in use"));
            break;
        }
        assert!(Instant::now() < deadline);
    }
    let (status, bytes) = profile.await.unwrap();
    // Both may have asked for the first turn.
    let mut bytes = if status.contains("200") { bytes } else { profile_of_a_second(&member) };
    assert_eq!(bytes[..2], [0x1f, 0x8b], "gzip");
    put(&member, vec![7]).await;

    let path = scratch.path().join("profile.pb.gz");
    loop {
        std::fs::write(&path, bytes).unwrap();
        let Some(text) = top(&path) else { break };
        assert!(text.contains("Type: cpu") && text.contains("Duration: "), "{text}");
        if ["rocksdb", "skiff", "tokio"].iter().any(|name| text.contains(name)) {
            break;
        }
        // A busy machine may have given it no time to be seen in.
        assert!(Instant::now() < deadline, "{text}");
        bytes = profile_of_a_second(&member);
    }
    load.abort();
}

fn profile_of_a_second(member: &Member) -> Vec<u8> {
    member.get("/debug/pprof/profile?seconds=1").unwrap().1
}

/// What Go's own tool reads in a profile; `None` without it.
fn top(path: &std::path::Path) -> Option<String> {
    match Command::new("go").args(["tool", "pprof", "-top", "-nodecount=300"]).arg(path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("go is not here to read the profile: {error}");
            None
        }
    }
}

#[tokio::test]
async fn profiles_are_served_only_when_asked_for() {
    let scratch = Scratch::new("no-profile");
    let member = member(&scratch, &[]).await;
    for path in ["/debug/pprof/", "/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
        assert!(member.get(path).unwrap().0.contains("404"), "{path}");
    }
}
