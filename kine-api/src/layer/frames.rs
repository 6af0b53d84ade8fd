//! Counts gRPC messages in a stream of bytes.

/// Length of a message's prefix: a flag and the length of the message.
const PREFIX: usize = 5;

/// Follows the message boundaries of one direction of a call.
#[derive(Debug, Default)]
pub(super) struct Frames {
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// Bytes of the current message still to come.
    remaining: usize,
}

/// A message that is too large: its length in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge(pub(super) usize);

/// What a chunk of bytes held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Messages that began.
    pub(super) messages: u64,
    /// Bytes of messages, prefixes left out.
    pub(super) bytes: u64,
}

impl Frames {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// A message longer than `limit` begins in them.
    pub(super) fn feed(&mut self, mut data: &[u8], limit: usize) -> Result<Seen, TooLarge> {
        let mut seen = Seen::default();
        while !data.is_empty() {
            if self.remaining > 0 {
                let taken = self.remaining.min(data.len());
                self.remaining -= taken;
                seen.bytes += taken as u64;
                data = &data[taken..];
                continue;
            }
            let taken = (PREFIX - self.prefix_len).min(data.len());
            self.prefix[self.prefix_len..self.prefix_len + taken].copy_from_slice(&data[..taken]);
            self.prefix_len += taken;
            data = &data[taken..];
            if self.prefix_len == PREFIX {
                self.prefix_len = 0;
                seen.messages += 1;
                let [_, a, b, c, d] = self.prefix;
                self.remaining = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.remaining > limit {
                    return Err(TooLarge(self.remaining));
                }
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(len.to_be_bytes());
        bytes.resize(PREFIX + len as usize, 7);
        bytes
    }

    #[test]
    fn boundaries_do_not_matter() {
        let stream = [message(3), message(0), message(300)].concat();
        for chunk in [1, 2, 4, 5, 7, 1000] {
            let mut frames = Frames::default();
            let mut total = Seen::default();
            for part in stream.chunks(chunk) {
                let seen = frames.feed(part, 300).unwrap();
                total.messages += seen.messages;
                total.bytes += seen.bytes;
            }
            assert_eq!(total, Seen { messages: 3, bytes: 303 });
        }
    }

    #[test]
    fn a_large_message_is_told_at_its_prefix() {
        assert_eq!(Frames::default().feed(&message(301)[..PREFIX], 300), Err(TooLarge(301)));
    }
}
