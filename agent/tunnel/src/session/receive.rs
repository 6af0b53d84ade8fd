//! What a frame of the other end changes.

use bytes::Bytes;

use super::Session;
use super::slot::{Opening, Slot};
use crate::error::TunnelError;
use crate::frame::Frame;
use crate::hello::Hello;
use crate::refusal::Refusal;
use crate::target::Target;

type Result<T = ()> = std::result::Result<T, TunnelError>;

fn violation(what: &'static str) -> TunnelError {
    TunnelError::Violation(what.to_owned())
}

impl Session {
    /// Takes a frame. Tells of the stream that the other end wants to open, if it does.
    ///
    /// # Errors
    /// The tunnel is over: the other end closed it, or does not keep to the protocol.
    pub(crate) fn receive(&mut self, frame: Frame) -> Result<Option<(u32, Target)>> {
        if let Some(why) = &self.ended {
            return Err(why.clone());
        }
        if self.peer.is_none() && !matches!(frame, Frame::Hello(_) | Frame::Close(_)) {
            return Err(violation("its first frame is no hello"));
        }
        match frame {
            Frame::Hello(hello) => self.hello_received(hello)?,
            Frame::Open(id, target) => return self.open_received(id, target),
            Frame::Accept(id) => self.answered(id, None)?,
            Frame::Refuse(id, refusal) => self.answered(id, Some(refusal))?,
            Frame::Data(id, data) => self.data_received(id, &data)?,
            Frame::Credit(id, bytes) => self.credit_received(id, bytes)?,
            Frame::Finish(id) => self.finish_received(id)?,
            Frame::Reset(id) => self.reset_received(id)?,
            Frame::Ping(number) => self.pong = Some(number),
            Frame::Pong(_) => {}
            Frame::Close(reason) => return Err(TunnelError::ClosedByPeer(reason)),
        }
        Ok(None)
    }

    fn hello_received(&mut self, hello: Hello) -> Result {
        if self.peer.is_some() {
            return Err(violation("it says hello twice"));
        }
        hello.version()?;
        self.peer = Some(hello);
        Ok(())
    }

    fn open_received(&mut self, id: u32, target: Target) -> Result<Option<(u32, Target)>> {
        if self.is_ours(id) || id <= self.last_peer_id {
            return Err(violation("it opens a stream with a number that is not its turn"));
        }
        self.last_peer_id = id;
        let most = self.options.max_streams;
        if self.peers >= most {
            if self.too_many.len() >= most as usize {
                return Err(violation("it opens streams without end"));
            }
            self.too_many.push_back(id);
            return Ok(None);
        }
        let credit = self.peer.map_or(0, |peer| peer.window);
        self.insert(id, Slot::new(false, Opening::Undecided, self.options.window_bytes, credit));
        Ok(Some((id, target)))
    }

    fn answered(&mut self, id: u32, refusal: Option<Refusal>) -> Result {
        if !self.is_ours(id) {
            return Err(violation("it answers a stream that it opened itself"));
        }
        let Some(slot) = self.known(id)? else { return Ok(()) };
        if !matches!(slot.opening, Opening::Asked(None)) {
            return Err(violation("it answers a stream twice"));
        }
        self.with(id, |slot| {
            slot.opening = refusal.map_or(Opening::Done, Opening::Refused);
            slot.wake();
        });
        Ok(())
    }

    fn data_received(&mut self, id: u32, data: &Bytes) -> Result {
        let Some(slot) = self.open(id)? else { return Ok(()) };
        if slot.finish_received {
            return Err(violation("it sends data after the end of a stream"));
        }
        let Some(left) = slot.receive_credit.checked_sub(data.len() as u32) else {
            return Err(violation("it sends more than it was granted"));
        };
        slot.receive_credit = left;
        if slot.dropped.is_some() {
            self.with(id, |slot| slot.pass_over(data.len() as u32));
            return Ok(());
        }
        slot.inbox.extend(data);
        if let Some(waker) = slot.reader.take() {
            waker.wake();
        }
        self.holds(data.len());
        Ok(())
    }

    fn credit_received(&mut self, id: u32, bytes: u32) -> Result {
        let Some(slot) = self.open(id)? else { return Ok(()) };
        let Some(credit) = slot.send_credit.checked_add(bytes) else {
            return Err(violation("it grants more than a window may ever be"));
        };
        self.with(id, |slot| slot.send_credit = credit);
        Ok(())
    }

    fn finish_received(&mut self, id: u32) -> Result {
        let Some(slot) = self.open(id)? else { return Ok(()) };
        if slot.finish_received {
            return Err(violation("it ends a stream twice"));
        }
        self.with(id, |slot| {
            slot.finish_received = true;
            slot.wake();
        });
        Ok(())
    }

    fn reset_received(&mut self, id: u32) -> Result {
        if self.known(id)?.is_none() {
            return Ok(());
        }
        self.discard_out(id);
        self.with(id, |slot| {
            slot.reset_received = true;
            slot.grant = 0;
            if matches!(slot.opening, Opening::Accepted | Opening::Declined(Some(_))) {
                slot.opening = Opening::Declined(None);
            }
            slot.wake();
        });
        Ok(())
    }

    fn is_ours(&self, id: u32) -> bool {
        id % 2 == self.next_id % 2
    }

    /// A stream by its number. `None` if it was there once: its last frames crossed ours.
    fn known(&mut self, id: u32) -> Result<Option<&mut Slot>> {
        let ever = if self.is_ours(id) { id < self.next_id } else { id <= self.last_peer_id };
        if !ever {
            return Err(violation("it names a stream that never was"));
        }
        Ok(self.slots.get_mut(&id).filter(|slot| !slot.reset_received))
    }

    /// The same, for frames that only an open stream has.
    fn open(&mut self, id: u32) -> Result<Option<&mut Slot>> {
        let ours = self.is_ours(id);
        let Some(slot) = self.known(id)? else { return Ok(None) };
        // We accepted, or we are told: where the answer is still to be sent it cannot know.
        let may = match slot.opening {
            Opening::Done => true,
            Opening::Declined(None) => ours,
            _ => false,
        };
        if !may {
            return Err(violation("it uses a stream that is not open"));
        }
        Ok(Some(slot))
    }
}
