//! Connections as a client sees them on the wire: what a server says of its limits, and whom it lets go.
//!
//! Raw HTTP/2 frames, since every client library hides them. The same holds for a real etcd
//! (`SKIFF_TEST_SUBJECT=etcd`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use prost::Message;
use skiff_test_support::pb::etcdserverpb::WatchCreateRequest;
use skiff_test_support::rpc::create_watch;
use skiff_test_support::{Member, MemberOptions, Program, Scratch};

/// Longest wait for a frame; a bound, never a verdict.
const PATIENCE: Duration = Duration::from_secs(60);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// One connection, spoken by hand.
struct Wire(TcpStream);

impl Wire {
    fn connect(member: &Member) -> Wire {
        let stream = TcpStream::connect(member.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Wire(stream);
        wire.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        wire.send(SETTINGS, 0, 0, &[]);
        wire
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        // A server that has closed shows in what is read.
        let _ = self.0.write_all(&bytes);
    }

    /// The next frame; `None` at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no frame in a minute"),
            Err(_) => return None,
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads on until a frame is as wanted.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, &[]);
            }
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Opens a watch on its stream.
    fn watch(&mut self, stream: u32) {
        let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
        literal(&mut block, &[0x04], b"/etcdserverpb.Watch/Watch"); // :path
        literal(&mut block, &[0x01], b"localhost"); // :authority
        literal(&mut block, &[0x0f, 0x10], b"application/grpc"); // content-type
        block.extend_from_slice(&[0x00, 2, b't', b'e']);
        literal(&mut block, &[], b"trailers");
        self.send(HEADERS, END_HEADERS, stream, &block);
        let request =
            create_watch(WatchCreateRequest { key: "k".into(), ..Default::default() }).encode_to_vec();
        let mut message = vec![0];
        message.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&request);
        self.send(DATA, 0, stream, &message);
    }

    fn ping(&mut self) {
        self.send(PING, 0, 0, b"a ping!!");
    }
}

fn literal(block: &mut Vec<u8>, index: &[u8], value: &[u8]) {
    block.extend_from_slice(index);
    block.push(u8::try_from(value.len()).unwrap());
    block.extend_from_slice(value);
}

fn is_answer(frame: &Frame) -> bool {
    frame.kind == PING && frame.flags & ACK != 0
}

async fn member(scratch: &Scratch, flags: &[&str]) -> Member {
    let mut options = MemberOptions::single(Program::subject(env!("CARGO_BIN_EXE_skiff")), scratch.path());
    options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut member = Member::new(options);
    member.start().unwrap();
    member.ready().await.unwrap();
    member
}

/// Expects to be let go for pinging, and nothing after it.
fn expect_too_many_pings(wire: &mut Wire, newest_stream: u32) {
    let goaway = wire.wait_for("GOAWAY", |frame| frame.kind == GOAWAY);
    assert_eq!(goaway.payload[..4], newest_stream.to_be_bytes());
    assert_eq!(goaway.payload[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    assert_eq!(goaway.payload[8..], *b"too_many_pings");
    assert_eq!(wire.next(), None, "after GOAWAY");
}

#[tokio::test]
async fn clients_that_ping_too_often_are_let_go() {
    let scratch = Scratch::new("pings");
    let member = member(&scratch, &["--grpc-keepalive-min-time=1h"]).await;

    // Without a stream: the first ping is free, two are tolerated.
    let mut wire = Wire::connect(&member);
    for _ in 0..3 {
        wire.ping();
        wire.wait_for("an answer", is_answer);
    }
    wire.ping();
    expect_too_many_pings(&mut wire, 0);

    // With a stream, the flag's interval counts.
    let mut wire = Wire::connect(&member);
    wire.watch(1);
    wire.wait_for("the watch", |frame| frame.kind == DATA && frame.stream == 1);
    // What the server sent forgives one.
    for _ in 0..4 {
        wire.ping();
    }
    expect_too_many_pings(&mut wire, 1);
    assert!(member.client().status(Default::default()).await.is_ok(), "others are not concerned");
}

#[tokio::test]
async fn clients_that_leave_the_least_time_are_kept() {
    let scratch = Scratch::new("pings-kept");
    let member = member(&scratch, &["--grpc-keepalive-min-time=1ms"]).await;
    let mut wire = Wire::connect(&member);
    wire.watch(1);
    wire.wait_for("the watch", |frame| frame.kind == DATA && frame.stream == 1);
    for _ in 0..50 {
        wire.ping();
        wire.wait_for("an answer", is_answer);
        // From the answer on: the server had the ping before it.
        std::thread::sleep(Duration::from_millis(2));
    }
    // The same without a stream is too much.
    wire.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    for _ in 0..4 {
        wire.ping();
    }
    expect_too_many_pings(&mut wire, 1);
}

#[tokio::test]
async fn silent_clients_are_asked_and_let_go() {
    let scratch = Scratch::new("silent");
    let member = member(&scratch, &["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"]).await;
    let mut wire = Wire::connect(&member);
    let ping = wire.wait_for("a ping", |frame| frame.kind == PING && frame.flags & ACK == 0);
    // Who answers is asked again.
    wire.send(PING, ACK, 0, &ping.payload);
    wire.wait_for("another ping", |frame| frame.kind == PING && frame.flags & ACK == 0);
    // Who does not is let go.
    while wire.next().is_some() {}
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let scratch = Scratch::new("streams");
    let member = member(&scratch, &["--max-concurrent-streams=3"]).await;
    let mut wire = Wire::connect(&member);
    let settings = wire.wait_for("SETTINGS", |frame| frame.kind == SETTINGS && frame.flags & ACK == 0);
    let limit = settings.payload.chunks_exact(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(limit.map(|setting| &setting[2..]), Some(&[0, 0, 0, 3][..]), "{settings:?}");
    for stream in [1, 3, 5] {
        wire.watch(stream);
        wire.wait_for("a watch", |frame| frame.kind == DATA && frame.stream == stream);
    }
    wire.watch(7);
    let refused = wire.wait_for("a refusal", |frame| frame.kind == RST_STREAM && frame.stream == 7);
    assert_eq!(refused.payload, [0, 0, 0, 7], "REFUSED_STREAM");
    // One that ends makes room.
    wire.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    wire.watch(9);
    wire.wait_for("room", |frame| frame.kind == DATA && frame.stream == 9);
}
