//! Two sessions and the wires between them, in every order that chance makes.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};

use futures::task::noop_waker_ref;
use proptest::prelude::*;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::*;
use crate::error::OpenError;
use crate::frame::tests::any_frame;
use crate::refusal::{Refusal, RefusalCode};
use crate::target::Target;

fn small() -> Options {
    Options {
        max_streams: 4,
        window_bytes: 50,
        max_window_bytes: 200,
        growth_bytes: 300,
        send_buffer_bytes: 64,
        frame_bytes: 16,
        ..Options::default()
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(noop_waker_ref())
}

/// The byte at a place of a stream's way.
fn byte(id: u32, side: usize, at: usize) -> u8 {
    (at as u32).wrapping_mul(31).wrapping_add(id * 7 + side as u32) as u8
}

/// How one end of one stream fares.
#[derive(Default)]
struct Way {
    held: bool,
    finished: bool,
    written: usize,
    read: usize,
    eof: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Open(usize),
    Answer(usize, bool),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Finish(usize, usize),
    Drop(usize, usize),
    Send(usize, usize),
    Deliver(usize, usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    let side = 0..2usize;
    let pick = 0..8usize;
    prop_oneof![
        1 => side.clone().prop_map(Op::Open),
        1 => (side.clone(), prop::bool::weighted(0.8)).prop_map(|(s, yes)| Op::Answer(s, yes)),
        4 => (side.clone(), pick.clone(), 1..100usize).prop_map(|(s, p, n)| Op::Write(s, p, n)),
        4 => (side.clone(), pick.clone(), 1..100usize).prop_map(|(s, p, n)| Op::Read(s, p, n)),
        1 => (side.clone(), pick.clone()).prop_map(|(s, p)| Op::Finish(s, p)),
        1 => (side.clone(), pick).prop_map(|(s, p)| Op::Drop(s, p)),
        4 => (side.clone(), 1..6usize).prop_map(|(s, n)| Op::Send(s, n)),
        4 => (side, 1..6usize).prop_map(|(s, n)| Op::Deliver(s, n)),
    ]
}

struct World {
    ends: [Session; 2],
    /// What each end sent and the other one has not received.
    wires: [VecDeque<Frame>; 2],
    undecided: [VecDeque<u32>; 2],
    ways: [HashMap<u32, Way>; 2],
}

impl World {
    fn new() -> Self {
        let mut world = World {
            ends: [Session::new(true, small()), Session::new(false, small())],
            wires: Default::default(),
            undecided: Default::default(),
            ways: Default::default(),
        };
        for side in [0, 1, 0, 1] {
            world.send(side, 9);
            world.deliver(side, 9);
        }
        assert!(world.ends.iter().all(Session::greeted));
        world
    }

    fn send(&mut self, side: usize, most: usize) {
        for _ in 0..most {
            let Some(frame) = self.ends[side].next_frame() else { return };
            // Through its bytes, as on a real wire.
            self.wires[side].push_back(Frame::decode(frame.encode()).expect("a frame"));
        }
    }

    fn deliver(&mut self, side: usize, most: usize) {
        for frame in (0..most).map_while(|_| self.wires[side].pop_front()).collect::<Vec<_>>() {
            let shown = format!("{frame:?}");
            match self.ends[1 - side].receive(frame) {
                Ok(Some((id, _))) => self.undecided[1 - side].push_back(id),
                Ok(None) => {}
                Err(error) => panic!("{shown}: {error}"),
            }
        }
    }

    /// The stream that this end holds at this place in the order of numbers.
    fn held(&self, side: usize, pick: usize) -> Option<u32> {
        let mut ids: Vec<u32> =
            self.ways[side].iter().filter(|(_, way)| way.held).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        (!ids.is_empty()).then(|| ids[pick % ids.len()])
    }

    fn hold(&mut self, side: usize, id: u32) {
        self.ways[side].insert(id, Way { held: true, ..Way::default() });
    }

    fn answer(&mut self, side: usize, yes: bool) {
        let Some(id) = self.undecided[side].pop_front() else { return };
        let answer = if yes { Ok(()) } else { Err(Refusal::new(RefusalCode::Forbidden, "no")) };
        let answered = self.ends[side].answer(id, answer);
        if yes && answered.is_ok() {
            self.hold(side, id);
        } else {
            self.ends[side].drop_stream(id, Instant::now());
        }
    }

    fn write(&mut self, side: usize, id: u32, length: usize) -> bool {
        if !self.opened(side, id) {
            return false;
        }
        let Some(way) = self.ways[side].get_mut(&id) else { return false };
        let bytes: Vec<u8> = (0..length).map(|i| byte(id, side, way.written + i)).collect();
        match self.ends[side].poll_write(id, &mut cx(), &bytes) {
            Poll::Ready(Ok(written)) => {
                way.written += written;
                true
            }
            _ => false,
        }
    }

    /// True once a user of the stream would hold it: whoever opened it waits for the answer.
    fn opened(&mut self, side: usize, id: u32) -> bool {
        let opener = (id % 2 == 1) == (side == 0);
        !opener || matches!(self.ends[side].poll_opened(id, &mut cx()), Poll::Ready(Ok(())))
    }

    fn read(&mut self, side: usize, id: u32, length: usize) -> bool {
        let mut bytes = vec![0; length];
        let mut buf = ReadBuf::new(&mut bytes);
        let polled = self.ends[side].poll_read(id, &mut cx(), &mut buf);
        let Some(way) = self.ways[side].get_mut(&id) else { return false };
        if !matches!(polled, Poll::Ready(Ok(()))) {
            return false;
        }
        way.eof |= buf.filled().is_empty();
        for &got in buf.filled() {
            assert_eq!(got, byte(id, 1 - side, way.read), "stream {id} at {}", way.read);
            way.read += 1;
        }
        !way.eof
    }

    fn finish(&mut self, side: usize, id: u32) {
        if !self.opened(side, id) {
            return;
        }
        self.ends[side].finish(id);
        if let Some(way) = self.ways[side].get_mut(&id) {
            way.finished = true;
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Open(side) => {
                match self.ends[side].open_stream(Target::tcp("a:1").unwrap()) {
                    Ok(id) => self.hold(side, id),
                    Err(OpenError::TooMany(most)) => assert_eq!(most, small().max_streams),
                    Err(error) => panic!("{error}"),
                };
            }
            Op::Answer(side, yes) => self.answer(side, yes),
            Op::Write(side, pick, length) => {
                if let Some(id) = self.held(side, pick) {
                    self.write(side, id, length);
                }
            }
            Op::Read(side, pick, length) => {
                if let Some(id) = self.held(side, pick) {
                    self.read(side, id, length);
                }
            }
            Op::Finish(side, pick) => {
                if let Some(id) = self.held(side, pick) {
                    self.finish(side, id);
                }
            }
            Op::Drop(side, pick) => {
                if let Some(id) = self.held(side, pick) {
                    self.ends[side].drop_stream(id, Instant::now());
                    self.ways[side].get_mut(&id).unwrap().held = false;
                }
            }
            Op::Send(side, most) => self.send(side, most),
            Op::Deliver(side, most) => self.deliver(side, most),
        }
        self.check_bounds();
    }

    fn check_bounds(&self) {
        for end in &self.ends {
            let status = end.status();
            assert!(status.buffered_bytes <= small().memory_bound(small().max_streams));
            let counted: usize = end.slots.values().map(|slot| slot.inbox.len() + slot.out.len()).sum();
            assert_eq!(status.buffered_bytes, counted as u64);
            let windows: u32 = end.slots.values().map(|slot| slot.window - small().window_bytes).sum();
            assert_eq!(windows + end.growth_left, small().growth_bytes);
            for slot in end.slots.values() {
                assert!(slot.inbox.len() as u32 + slot.receive_credit <= slot.window);
            }
        }
    }

    /// Lets everything that is under way arrive, and everything that has come be read.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in [0, 1] {
                while !self.undecided[side].is_empty() {
                    self.answer(side, true);
                    moved = true;
                }
                self.send(side, 1000);
                moved |= !self.wires[side].is_empty();
                self.deliver(side, 1000);
                let ids: Vec<u32> =
                    self.ways[side].iter().filter(|(_, w)| w.held).map(|(id, _)| *id).collect();
                for id in ids {
                    moved |= self.read(side, id, 1000);
                }
            }
            self.check_bounds();
            if !moved {
                return;
            }
        }
    }

    /// What both ends still hold has arrived in whole, and its end too.
    fn check_whole(&self) {
        for side in [0, 1] {
            for (id, to) in self.ways[side].iter().filter(|(_, way)| way.held) {
                let Some(from) = self.ways[1 - side].get(id) else { continue };
                if from.held || from.finished {
                    assert_eq!((to.read, to.eof), (from.written, from.finished), "stream {id} to {side}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_order_every_byte_arrives_within_the_bounds(ops in prop::collection::vec(any_op(), 1..400)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.settle();
        world.check_whole();
        for side in [0, 1] {
            while let Some(id) = world.held(side, 0) {
                world.apply(Op::Drop(side, 0));
                prop_assert!(!world.ways[side][&id].held);
            }
        }
        world.settle();
        for end in &world.ends {
            let status = end.status();
            prop_assert_eq!((status.streams, status.buffered_bytes), (0, 0), "nothing is left behind");
        }
    }

    #[test]
    fn fuzz_frames_of_a_hostile_peer_end_the_tunnel_at_most(
        frames in prop::collection::vec(any_frame(), 1..200), greeted: bool, connected: bool,
    ) {
        let mut session = Session::new(connected, small());
        let mut undecided = VecDeque::new();
        if greeted {
            session.receive(Frame::Hello(Hello::of(&small()))).unwrap();
            // A few of our own, so that its answers have something to hit.
            for _ in 0..3 {
                session.open_stream(Target::tcp("a:1").unwrap()).unwrap();
            }
        }
        for (turn, frame) in frames.into_iter().enumerate() {
            match session.receive(frame) {
                Ok(Some((id, _))) => undecided.push_back(id),
                Ok(None) => {}
                Err(why) => {
                    session.end(why);
                    break;
                }
            }
            if turn % 3 == 0 && let Some(id) = undecided.pop_front() {
                let _ = session.answer(id, Ok(()));
                let _ = session.poll_write(id, &mut cx(), &[1; 40]);
            }
            if turn % 2 == 0 {
                session.next_frame();
            }
            prop_assert!(session.status().buffered_bytes <= small().memory_bound(small().max_streams));
            prop_assert!(session.turns.len() <= session.slots.len());
            prop_assert!(session.peers <= small().max_streams);
            prop_assert!(session.too_many.len() <= small().max_streams as usize);
        }
    }
}

#[test]
fn a_window_grows_for_a_fast_reader_and_comes_back() {
    let mut world = World::new();
    world.apply(Op::Open(0));
    world.settle();
    for _ in 0..50 {
        world.write(0, 1, 64);
        world.settle();
    }
    assert_eq!(world.ends[1].slots[&1].window, small().max_window_bytes);
    assert!(world.ways[1][&1].read > 1000);
    world.apply(Op::Drop(0, 0));
    world.apply(Op::Drop(1, 0));
    world.settle();
    assert_eq!(world.ends[1].growth_left, small().growth_bytes);
}

#[test]
fn a_reader_that_sleeps_holds_up_its_own_stream_alone() {
    let mut world = World::new();
    world.apply(Op::Open(0));
    world.apply(Op::Open(0));
    world.settle();
    for _ in 0..100 {
        world.write(0, 1, 100);
        world.write(0, 3, 100);
        world.send(0, 100);
        world.deliver(0, 100);
        world.read(1, 3, 1000);
        world.send(1, 100);
        world.deliver(1, 100);
        world.check_bounds();
    }
    let written = world.ways[0][&1].written;
    assert_eq!(written as u32, small().window_bytes + small().send_buffer_bytes);
    assert!(world.ways[1][&3].read > 2000, "{}", world.ways[1][&3].read);
}

#[test]
fn opens_beyond_the_bound_are_refused_and_without_end_end_the_tunnel() {
    let mut session = Session::new(false, small());
    session.receive(Frame::Hello(Hello::of(&small()))).unwrap();
    session.next_frame();
    let open = |n: u32| Frame::Open(2 * n + 1, Target::tcp("a:1").unwrap());
    for n in 0..4 {
        assert!(session.receive(open(n)).unwrap().is_some());
    }
    for n in 4..8 {
        assert!(session.receive(open(n)).unwrap().is_none());
    }
    assert!(matches!(session.receive(open(8)), Err(TunnelError::Violation(_))));
    assert!(
        matches!(session.next_frame(), Some(Frame::Refuse(9, refusal)) if refusal.code() == RefusalCode::Busy)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_is_given_up_after_its_time() {
    let mut world = World::new();
    world.apply(Op::Open(0));
    world.settle();
    while world.write(0, 1, 100) {
        world.send(0, 100);
    }
    world.finish(0, 1);
    world.apply(Op::Drop(0, 0));
    world.ends[0].expire(Instant::now());
    assert_eq!(world.ends[0].status().streams, 1, "it has time");
    tokio::time::advance(small().linger_timeout).await;
    world.ends[0].expire(Instant::now());
    world.send(0, 1);
    assert_eq!(world.ends[0].status(), Status { streams: 0, buffered_bytes: 0, ..world.ends[0].status() });
}
