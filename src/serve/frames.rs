//! As much of HTTP/2 framing (RFC 9113) as following its frames takes.

/// What every HTTP/2 connection of a client begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a frame's payload.
pub(super) const HEAD_BYTES: usize = 9;

/// Kinds of frames.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

/// Flags of frames; their meaning depends on the kind.
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x01;
    pub(in super::super) const END_STREAM: u8 = 0x01;
    pub(in super::super) const END_HEADERS: u8 = 0x04;
    pub(in super::super) const PADDED: u8 = 0x08;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the payload.
    pub(super) length: usize,
    /// See [`kind`].
    pub(super) kind: u8,
    /// See [`flag`].
    pub(super) flags: u8,
    /// The stream, 0 for the connection.
    pub(super) stream: u32,
}

impl Head {
    /// Reads a head.
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        Head {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1),
        }
    }

    /// True if the flag is set.
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Follows the frames of one direction, whatever pieces they come in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload still to come.
    payload: usize,
    /// Within a header block, which no other frame may interrupt.
    in_block: bool,
}

impl Frames {
    /// Takes the next bytes and shows the heads that are complete with them.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let (taken, head) = self.step(bytes);
            bytes = &bytes[taken..];
            head.map(&mut seen);
        }
    }

    /// True where a frame of one's own may be put in.
    pub(super) fn between(&self) -> bool {
        self.have == 0 && self.payload == 0 && !self.in_block
    }

    /// How many of the next bytes belong to what is under way.
    pub(super) fn rest(mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.between() {
            at += self.step(&bytes[at..]).0;
        }
        at
    }

    /// Takes bytes up to the end of a head or a payload.
    fn step(&mut self, bytes: &[u8]) -> (usize, Option<Head>) {
        if self.payload > 0 {
            let taken = self.payload.min(bytes.len());
            self.payload -= taken;
            return (taken, None);
        }
        let taken = (HEAD_BYTES - self.have).min(bytes.len());
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have < HEAD_BYTES {
            return (taken, None);
        }
        let head = Head::read(&self.head);
        self.have = 0;
        self.payload = head.length;
        if matches!(head.kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION) {
            self.in_block = !head.has(flag::END_HEADERS);
        }
        (taken, Some(head))
    }
}

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    // Own frames are short; a length above 24 bits cannot come up.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_matter() {
        let bytes = [
            frame(kind::HEADERS, 0, 1, b"abc"),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""),
            frame(kind::DATA, flag::END_STREAM, 1, &[7; 300]),
            frame(kind::PING, 0, 0, &[1; 8]),
        ]
        .concat();
        for piece in [1, 2, 8, 9, 10, 33, bytes.len()] {
            let mut frames = Frames::default();
            let mut kinds = Vec::new();
            for part in bytes.chunks(piece) {
                frames.feed(part, |head| kinds.push((head.kind, head.length, head.stream)));
            }
            let want =
                [(kind::HEADERS, 3, 1), (kind::CONTINUATION, 0, 1), (kind::DATA, 300, 1), (kind::PING, 8, 0)];
            assert_eq!(kinds, want, "pieces of {piece}");
            assert!(frames.between());
        }
    }

    #[test]
    fn a_header_block_is_not_interrupted() {
        let open = frame(kind::HEADERS, 0, 1, b"abc");
        let close = frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"d");
        let next = frame(kind::DATA, 0, 1, b"e");
        let mut frames = Frames::default();
        frames.feed(&open, drop);
        assert!(!frames.between());
        let following = [close.clone(), next].concat();
        assert_eq!(frames.rest(&following), close.len());
        frames.feed(&close, drop);
        assert!(frames.between());
        assert_eq!(frames.rest(&following), 0);
    }
}
