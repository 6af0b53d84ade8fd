//! Who may send what: every stream of one tunnel, and what waits to be sent. Nothing here
//! does I/O or waits: the driver brings frames and takes frames, streams bring bytes and
//! take bytes, and whoever could not go on is woken.
//!
//! Every frame that waits belongs to a stream, of which there is a bounded number, or is one
//! of a few that replace an older one of their kind. So what waits is bounded too.

mod receive;
mod send;
mod slot;
mod status;
#[cfg(test)]
mod tests;
mod user;

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::error::TunnelError;
use crate::frame::Frame;
use crate::hello::Hello;
use crate::options::Options;
use slot::Slot;
pub use status::Status;

/// The state of one end of a tunnel.
pub(crate) struct Session {
    options: Options,
    /// The end that connected opens odd streams, the other one even ones.
    next_id: u32,
    last_peer_id: u32,
    slots: HashMap<u32, Slot>,
    /// Streams that have something to send, each once, in turn.
    turns: VecDeque<u32>,
    ours: u32,
    peers: u32,
    peer: Option<Hello>,
    growth_left: u32,
    buffered: u64,
    buffered_peak: u64,
    opened: u64,
    hello: bool,
    ping: Option<u64>,
    pong: Option<u64>,
    /// Opens beyond the bound, that are to be refused.
    too_many: VecDeque<u32>,
    closing: Option<String>,
    close_sent: bool,
    ended: Option<TunnelError>,
}

impl Session {
    pub(crate) fn new(connected: bool, options: Options) -> Self {
        let options = options.sane();
        Session {
            growth_left: options.growth_bytes,
            options,
            next_id: if connected { 1 } else { 2 },
            last_peer_id: 0,
            slots: HashMap::new(),
            turns: VecDeque::new(),
            ours: 0,
            peers: 0,
            peer: None,
            buffered: 0,
            buffered_peak: 0,
            opened: 0,
            hello: true,
            ping: None,
            pong: None,
            too_many: VecDeque::new(),
            closing: None,
            close_sent: false,
            ended: None,
        }
    }

    /// True once the other end said who it is.
    pub(crate) fn greeted(&self) -> bool {
        self.peer.is_some()
    }

    /// Why it is over, if it is.
    pub(crate) fn ended(&self) -> Option<&TunnelError> {
        self.ended.as_ref()
    }

    /// Asks the other end for a sign of life.
    pub(crate) fn ping(&mut self, number: u64) {
        self.ping = Some(number);
    }

    /// Ends the tunnel once what is to be said was said.
    pub(crate) fn close(&mut self, reason: &str) {
        self.closing.get_or_insert_with(|| crate::refusal::shortened(reason.to_owned()));
    }

    /// True if the tunnel is to be closed.
    pub(crate) fn closing(&self) -> bool {
        self.closing.is_some()
    }

    /// True once the other end was told that we close.
    pub(crate) fn close_sent(&self) -> bool {
        self.close_sent
    }

    /// The tunnel is over: every stream fails, but for what was received already.
    pub(crate) fn end(&mut self, why: TunnelError) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(why);
        self.turns.clear();
        self.too_many.clear();
        let ids: Vec<u32> = self.slots.keys().copied().collect();
        for id in ids {
            self.discard_out(id);
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.wake();
            }
            self.remove_if_over(id);
        }
    }

    /// Gives up streams that nobody holds and that cannot get rid of their last bytes.
    pub(crate) fn expire(&mut self, now: Instant) {
        let over: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.dropped.is_some_and(|since| now - since >= self.options.linger_timeout) && !slot.reset
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.discard_out(id);
            self.with(id, Slot::give_up);
        }
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            streams: self.slots.len(),
            opened: self.opened,
            buffered_bytes: self.buffered,
            buffered_bytes_peak: self.buffered_peak,
            peer_streams: self.peer.map_or(0, |peer| peer.max_streams),
        }
    }

    /// Changes a stream, puts it in the queue if it has something to send, and lets go of it
    /// if it is over.
    fn with<T>(&mut self, id: u32, change: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let slot = self.slots.get_mut(&id)?;
        let value = change(slot);
        if slot.has_step() && !slot.queued && self.ended.is_none() {
            slot.queued = true;
            self.turns.push_back(id);
        }
        self.remove_if_over(id);
        Some(value)
    }

    fn insert(&mut self, id: u32, slot: Slot) {
        *if slot.ours { &mut self.ours } else { &mut self.peers } += 1;
        self.opened += 1;
        self.slots.insert(id, slot);
        self.with(id, |_| ());
    }

    /// Lets go of a stream that nobody holds and of which nothing is left to say.
    fn remove_if_over(&mut self, id: u32) {
        let over = self.slots.get(&id).is_some_and(|slot| {
            slot.dropped.is_some() && (self.ended.is_some() || slot.over() && !slot.has_step())
        });
        if !over {
            return;
        }
        let Some(slot) = self.slots.remove(&id) else { return };
        *if slot.ours { &mut self.ours } else { &mut self.peers } -= 1;
        self.buffered -= (slot.inbox.len() + slot.out.len()) as u64;
        self.growth_left += slot.window - self.options.window_bytes;
    }

    /// Forgets what a stream was to send.
    fn discard_out(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(&id) {
            self.buffered -= slot.out.len() as u64;
            slot.out = VecDeque::new();
        }
    }

    /// Forgets what nobody will read; how much it was.
    fn discard_inbox(&mut self, id: u32) -> u32 {
        let Some(slot) = self.slots.get_mut(&id) else { return 0 };
        let unread = std::mem::take(&mut slot.inbox).len();
        self.buffered -= unread as u64;
        unread as u32
    }

    fn holds(&mut self, bytes: usize) {
        self.buffered += bytes as u64;
        self.buffered_peak = self.buffered_peak.max(self.buffered);
    }

    /// True if there is something to send.
    pub(crate) fn has_frame(&self) -> bool {
        self.hello
            || self.ping.is_some()
            || self.pong.is_some()
            || !self.too_many.is_empty()
            || !self.turns.is_empty()
            || self.closing.is_some() && !self.close_sent
    }
}

/// The frame that ends a tunnel, after every other one.
fn close_frame(session: &mut Session) -> Option<Frame> {
    let reason = session.closing.clone().filter(|_| !session.close_sent)?;
    session.close_sent = true;
    Some(Frame::Close(reason))
}
