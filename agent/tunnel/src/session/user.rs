//! What the users of streams ask for.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Session;
use super::slot::{Opening, Slot};
use crate::error::{OpenError, TunnelError};
use crate::refusal::Refusal;
use crate::target::Target;

impl Session {
    /// Begins to open a stream.
    ///
    /// # Errors
    /// The tunnel is over, or there are as many streams as the other end allows.
    pub(crate) fn open_stream(&mut self, target: Target) -> Result<u32, OpenError> {
        if let Some(why) = &self.ended {
            return Err(why.clone().into());
        }
        if self.closing.is_some() {
            return Err(TunnelError::Closed.into());
        }
        let peer = self.peer.ok_or(TunnelError::Closed)?;
        if self.ours >= peer.max_streams {
            return Err(OpenError::TooMany(peer.max_streams));
        }
        let id = self.next_id;
        let Some(next) = id.checked_add(2) else {
            // Two thousand millions of streams: whoever keeps the tunnel makes a new one.
            self.close("every number of a stream is used up");
            return Err(TunnelError::Closed.into());
        };
        self.next_id = next;
        let window = self.options.window_bytes;
        self.insert(id, Slot::new(true, Opening::Asked(Some(target)), window, peer.window));
        Ok(id)
    }

    /// Waits for the other end's answer.
    pub(crate) fn poll_opened(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        if let Some(why) = &self.ended {
            return Poll::Ready(Err(why.clone().into()));
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Poll::Ready(Err(OpenError::Reset)) };
        match &slot.opening {
            Opening::Done => Poll::Ready(Ok(())),
            Opening::Refused(refusal) => Poll::Ready(Err(OpenError::Refused(refusal.clone()))),
            _ if slot.reset_received => Poll::Ready(Err(OpenError::Reset)),
            _ => {
                slot.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The acceptor's answer.
    ///
    /// # Errors
    /// The other end gave the stream up, or the tunnel is over.
    pub(crate) fn answer(&mut self, id: u32, answer: Result<(), Refusal>) -> io::Result<()> {
        if let Some(why) = &self.ended {
            return Err(why.to_io());
        }
        let given_up = self.with(id, |slot| {
            if slot.reset_received {
                slot.opening = Opening::Declined(None);
                return true;
            }
            slot.opening = match answer {
                Ok(()) => Opening::Accepted,
                Err(refusal) => Opening::Declined(Some(refusal)),
            };
            false
        });
        if given_up == Some(false) { Ok(()) } else { Err(reset()) }
    }

    pub(crate) fn poll_read(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(slot) = self.slots.get_mut(&id) else { return Poll::Ready(Err(reset())) };
        if slot.inbox.is_empty() || buf.remaining() == 0 {
            return match (&self.ended, slot) {
                _ if buf.remaining() == 0 => Poll::Ready(Ok(())),
                (_, slot) if slot.finish_received => Poll::Ready(Ok(())),
                (_, slot) if slot.reset_received => Poll::Ready(Err(reset())),
                (Some(why), _) => Poll::Ready(Err(why.to_io())),
                (None, slot) => {
                    slot.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let (first, _) = slot.inbox.as_slices();
        let length = first.len().min(buf.remaining());
        buf.put_slice(&first[..length]);
        slot.inbox.drain(..length);
        if slot.inbox.is_empty() {
            slot.inbox.shrink_to(self.options.frame_bytes as usize);
        }
        self.buffered -= length as u64;
        slot.consumed += length as u32;
        self.grant(id);
        Poll::Ready(Ok(()))
    }

    /// Grants anew what was read, once it is half a window; more where the reader is faster
    /// than the grants travel.
    fn grant(&mut self, id: u32) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.consumed < slot.window.div_ceil(2) || slot.finish_received || slot.reset_received {
            return;
        }
        let mut grant = std::mem::take(&mut slot.consumed);
        if slot.inbox.is_empty() {
            let room = self.options.max_window_bytes - slot.window;
            let more = slot.window.min(room).min(self.growth_left);
            slot.window += more;
            self.growth_left -= more;
            grant += more;
        }
        slot.receive_credit += grant;
        self.with(id, |slot| slot.grant += grant);
    }

    pub(crate) fn poll_write(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(why) = &self.ended {
            return Poll::Ready(Err(why.to_io()));
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Poll::Ready(Err(reset())) };
        if slot.reset_received || slot.finish {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = (self.options.send_buffer_bytes as usize).saturating_sub(slot.out.len());
        if room == 0 {
            slot.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = room.min(bytes.len());
        self.holds(length);
        self.with(id, |slot| slot.out.extend(&bytes[..length]));
        Poll::Ready(Ok(length))
    }

    /// No more bytes come from us, after those that wait.
    pub(crate) fn finish(&mut self, id: u32) {
        self.with(id, |slot| slot.finish = true);
    }

    /// Nobody holds the stream any more. What was finished is sent to its end; what was not
    /// is given up.
    pub(crate) fn drop_stream(&mut self, id: u32, now: Instant) {
        let unread = self.discard_inbox(id);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.dropped = Some(now);
        let unread = unread + std::mem::take(&mut slot.consumed);
        slot.pass_over(unread);
        slot.wake();
        let finished = slot.finish && matches!(slot.opening, Opening::Done | Opening::Accepted);
        let answered = matches!(slot.opening, Opening::Declined(_) | Opening::Refused(_));
        if !finished && !answered {
            self.discard_out(id);
            self.with(id, Slot::give_up);
        } else {
            self.with(id, |slot| slot.reset |= slot.finish_sent && !slot.finish_received);
        }
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the other end of the tunnel gave the stream up")
}
