//! Which frame is sent next.

use bytes::Bytes;

use super::slot::Step;
use super::{Session, close_frame};
use crate::frame::Frame;
use crate::hello::Hello;
use crate::refusal::{Refusal, RefusalCode};

impl Session {
    /// The next frame, streams in turn. After the last one, nothing until something happens.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        if self.ended.is_some() || self.close_sent {
            return None;
        }
        if std::mem::take(&mut self.hello) {
            return Some(Frame::Hello(Hello::of(&self.options)));
        }
        if self.peer.is_none() {
            return close_frame(self);
        }
        if let Some(number) = self.pong.take() {
            return Some(Frame::Pong(number));
        }
        if let Some(number) = self.ping.take() {
            return Some(Frame::Ping(number));
        }
        if let Some(id) = self.too_many.pop_front() {
            return Some(Frame::Refuse(id, Refusal::new(RefusalCode::Busy, "too many streams are open")));
        }
        while let Some(id) = self.turns.pop_front() {
            if let Some(frame) = self.frame_of(id) {
                return Some(frame);
            }
        }
        close_frame(self)
    }

    fn frame_of(&mut self, id: u32) -> Option<Frame> {
        let slot = self.slots.get_mut(&id)?;
        slot.queued = false;
        let frame = match slot.step(id) {
            Some(Step::Send(frame)) => Some(frame),
            Some(Step::Data) => self.data_of(id),
            None => None,
        };
        self.with(id, |_| ());
        frame
    }

    fn data_of(&mut self, id: u32) -> Option<Frame> {
        let most = self.options.frame_bytes.min(self.peer.map_or(u32::MAX, |peer| peer.frame));
        let slot = self.slots.get_mut(&id)?;
        let length = slot.out.len().min(slot.send_credit.min(most) as usize);
        let (first, second) = slot.out.as_slices();
        let in_first = first.len().min(length);
        let data = Bytes::from([&first[..in_first], &second[..length - in_first]].concat());
        slot.out.drain(..length);
        slot.send_credit -= length as u32;
        self.buffered -= length as u64;
        if slot.out.is_empty() {
            slot.out.shrink_to(most as usize);
        }
        if let Some(waker) = slot.writer.take() {
            waker.wake();
        }
        Some(Frame::Data(id, data))
    }
}
