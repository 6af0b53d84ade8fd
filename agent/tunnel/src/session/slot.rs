//! One stream, as one end knows it.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;

use crate::frame::Frame;
use crate::refusal::Refusal;
use crate::target::Target;

/// How far the opening is.
pub(super) enum Opening {
    /// Open.
    Done,
    /// We opened it, and it is not answered yet; `Some` until it is sent.
    Asked(Option<Target>),
    /// The other end opened it, and our acceptor has not decided.
    Undecided,
    /// The acceptor decided; the answer is to be sent.
    Accepted,
    /// The acceptor refused; `Some` until it is sent.
    Declined(Option<Refusal>),
    /// The other end refused.
    Refused(Refusal),
}

/// One stream.
pub(super) struct Slot {
    pub(super) ours: bool,
    pub(super) opening: Opening,
    /// Bytes that are to be sent, and how many the other end takes.
    pub(super) out: VecDeque<u8>,
    pub(super) send_credit: u32,
    /// Bytes that are to be read, and how many more the other end may send.
    pub(super) inbox: VecDeque<u8>,
    pub(super) receive_credit: u32,
    /// What `inbox` may ever hold.
    pub(super) window: u32,
    /// Bytes read since the last grant, and the grant that is to be sent.
    pub(super) consumed: u32,
    pub(super) grant: u32,
    /// Our side is finished, and the other end knows it.
    pub(super) finish: bool,
    pub(super) finish_sent: bool,
    pub(super) finish_received: bool,
    /// We give it up, and the other end knows it.
    pub(super) reset: bool,
    pub(super) reset_sent: bool,
    pub(super) reset_received: bool,
    /// Since when nobody holds it any more.
    pub(super) dropped: Option<Instant>,
    /// It stands in the list of those that have something to send.
    pub(super) queued: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Slot {
    pub(super) fn new(ours: bool, opening: Opening, window: u32, send_credit: u32) -> Self {
        Slot {
            ours,
            opening,
            out: VecDeque::new(),
            send_credit,
            inbox: VecDeque::new(),
            receive_credit: window,
            window,
            consumed: 0,
            grant: 0,
            finish: false,
            finish_sent: false,
            finish_received: false,
            reset: false,
            reset_sent: false,
            reset_received: false,
            dropped: None,
            queued: false,
            reader: None,
            writer: None,
        }
    }

    /// The next frame to send, but for data: its turn is [`Step::Data`].
    pub(super) fn step(&mut self, id: u32) -> Option<Step> {
        match &mut self.opening {
            Opening::Asked(target @ Some(_)) => {
                return target.take().map(|target| Step::Send(Frame::Open(id, target)));
            }
            Opening::Accepted => {
                self.opening = Opening::Done;
                return Some(Step::Send(Frame::Accept(id)));
            }
            Opening::Declined(refusal @ Some(_)) => {
                return refusal.take().map(|refusal| Step::Send(Frame::Refuse(id, refusal)));
            }
            _ => {}
        }
        if self.reset_received {
            return None;
        }
        if self.reset && !self.reset_sent {
            self.reset_sent = true;
            return Some(Step::Send(Frame::Reset(id)));
        }
        if !matches!(self.opening, Opening::Done) || self.reset_sent {
            return None;
        }
        if self.grant > 0 {
            return Some(Step::Send(Frame::Credit(id, std::mem::take(&mut self.grant))));
        }
        if !self.out.is_empty() {
            return (self.send_credit > 0).then_some(Step::Data);
        }
        if self.finish && !self.finish_sent {
            self.finish_sent = true;
            // Nobody is left to read what may still come.
            self.reset = self.dropped.is_some() && !self.finish_received;
            return Some(Step::Send(Frame::Finish(id)));
        }
        None
    }

    /// True if [`Self::step`] would give something.
    pub(super) fn has_step(&self) -> bool {
        let open = matches!(self.opening, Opening::Done);
        let answer =
            matches!(self.opening, Opening::Asked(Some(_)) | Opening::Accepted | Opening::Declined(Some(_)));
        let data = !self.out.is_empty() && self.send_credit > 0;
        let finish = self.finish && !self.finish_sent && self.out.is_empty();
        let alive = !self.reset_received && !self.reset_sent;
        answer || alive && (self.reset || open && (self.grant > 0 || data || finish))
    }

    /// True if neither end has anything left to say.
    pub(super) fn over(&self) -> bool {
        self.reset_sent
            || self.reset_received
            || self.finish_sent && self.finish_received
            || matches!(self.opening, Opening::Refused(_) | Opening::Declined(None))
    }

    /// Gives the stream up from our side. What the other end never heard of needs no word.
    pub(super) fn give_up(&mut self) {
        if matches!(self.opening, Opening::Asked(Some(_))) {
            self.opening = Opening::Declined(None);
            return;
        }
        self.reset = true;
        self.grant = 0;
    }

    /// Grants anew what nobody will read, so that the other end gets to its end.
    pub(super) fn pass_over(&mut self, bytes: u32) {
        if !self.reset && !self.reset_received {
            self.receive_credit += bytes;
            self.grant += bytes;
        }
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// What a stream sends next.
pub(super) enum Step {
    Send(Frame),
    /// As much of `out` as fits.
    Data,
}
