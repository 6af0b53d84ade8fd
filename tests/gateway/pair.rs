//! Both servers, asked the same.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use http_body_util::BodyExt;
use serde_json::Value;
use skiff_test_support::ports::free_port;
use skiff_test_support::{Fault, Member, MemberOptions, Program, Scratch};

use crate::known;
use skiff_test_support::http::{Asked, PATIENCE, ask, open};

/// The real etcd and the server examined.
pub(crate) struct Pair {
    oracle: Member,
    subject: Member,
    differences: Mutex<Vec<String>>,
    _scratch: Scratch,
}

/// Differences shown of a run; what comes later may only follow from the first.
const SHOWN: usize = 10;

async fn start(program: Program, dir: &Path, port: u16, flags: &[String]) -> Result<Member, Fault> {
    let mut options = MemberOptions { client_port: port, ..MemberOptions::single(program, dir) };
    options.flags = flags.to_vec();
    let mut member = Member::new(options);
    member.start()?;
    member.ready().await?;
    Ok(member)
}

impl Pair {
    /// Starts both with these flags.
    pub(crate) async fn start(flags: &[&str]) -> Pair {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::start_each([flags.clone(), flags]).await
    }

    /// Starts etcd with the first flags and the server examined with the second.
    pub(crate) async fn start_each(flags: [Vec<String>; 2]) -> Pair {
        Self::start_at([free_port(), free_port()], flags).await
    }

    /// The same, for flags that name the clients' ports.
    pub(crate) async fn start_at(ports: [u16; 2], [etcd, own]: [Vec<String>; 2]) -> Pair {
        let scratch = Scratch::new("gateway");
        let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
        let (oracle_dir, subject_dir) = (scratch.path().join("etcd"), scratch.path().join("subject"));
        let (oracle, subject) = tokio::try_join!(
            start(Program::oracle(), &oracle_dir, ports[0], &etcd),
            start(subject, &subject_dir, ports[1], &own),
        )
        .expect("both servers start");
        Pair { oracle, subject, differences: Mutex::default(), _scratch: scratch }
    }

    /// The addresses of both.
    pub(crate) fn addresses(&self) -> [String; 2] {
        [self.oracle.address(), self.subject.address()]
    }

    /// Asks both and compares the answers; answers etcd's status.
    pub(crate) async fn compare(&self, asked: &Asked) -> u16 {
        self.compare_at(asked, self.addresses()).await
    }

    /// The same at other addresses of the two.
    pub(crate) async fn compare_at(&self, asked: &Asked, [etcd, own]: [String; 2]) -> u16 {
        let (expected, found) = tokio::join!(ask(&etcd, asked), ask(&own, asked));
        let shown =
            format!("{} {} {:?}\n{}", asked.method, asked.path, asked.headers, asked.body.escape_ascii());
        let shown: String = shown.chars().take(2000).collect();
        let (expected, found) = match (expected, found) {
            (Ok(expected), Ok(found)) => (expected, found),
            (expected, found) => panic!("{shown}\netcd: {expected:?}\nhere: {found:?}"),
        };
        let (mut want, mut have) = (known::comparable(asked, &expected), known::comparable(asked, &found));
        known::settle(asked, &mut want);
        known::settle(asked, &mut have);
        if want != have {
            let difference = format!("{shown}\netcd: {want:?}\nhere: {have:?}");
            self.differs(difference.chars().take(3000).collect());
        }
        expected.status
    }

    fn differs(&self, what: String) {
        self.differences.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Fails if anything differed.
    pub(crate) fn finish(self) {
        let differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: Vec<_> = differences.iter().take(SHOWN).map(String::as_str).collect();
        assert!(shown.is_empty(), "{} answers differ; the first:\n{}", differences.len(), shown.join("\n\n"));
    }

    /// Compares the events of a watch up to one of the key `last`.
    pub(crate) async fn compare_events(&self, create: &str, last: &str) {
        let [expected, found] = self.addresses().map(|at| async move { events(&at, create, last).await });
        let (expected, found) = tokio::join!(expected, found);
        let (expected, found) = (expected.expect("etcd answers"), found.expect("the server answers"));
        assert!(!expected.is_empty());
        assert_eq!(expected, found, "{create}");
    }
}

/// The events of a watch: how they are spread over lines is each server's affair.
async fn events(address: &str, create: &str, last: &str) -> Result<Vec<Value>, Fault> {
    let read = async {
        let mut body = open(address, &Asked::post("watch", create)).await?.into_body();
        let (mut events, mut text) = (Vec::new(), Vec::new());
        loop {
            let frame = body.frame().await.ok_or("the stream has ended")??;
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|b| *b == b'\n') {
                let line: Value = serde_json::from_slice(&text.drain(..=end).collect::<Vec<u8>>())?;
                events.extend(line["result"]["events"].as_array().into_iter().flatten().cloned());
            }
            // The last of all, which a filter on puts would hide.
            let done = |event: &Value| event["kv"]["key"] == last;
            let no_puts = create.contains("[0]") && !events.is_empty();
            if events.last().is_some_and(done) || (no_puts && events.len() >= DELETIONS) {
                return Ok(events);
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await?
}

/// Deletions among the changes that watches are compared on.
const DELETIONS: usize = 4;
