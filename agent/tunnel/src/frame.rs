//! The bytes of a frame. One binary message of the websocket holds one frame: its kind (one
//! byte), the stream (four), and what belongs to the kind. Numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::hello::Hello;
use crate::refusal::{Refusal, RefusalCode, shortened};
use crate::target::Target;

/// What the largest frame adds to its data.
pub(crate) const OVERHEAD: usize = 512;
const HEADER: usize = 5;

const HELLO: u8 = 0;
const OPEN: u8 = 1;
const ACCEPT: u8 = 2;
const REFUSE: u8 = 3;
const DATA: u8 = 4;
const CREDIT: u8 = 5;
const FINISH: u8 = 6;
const RESET: u8 = 7;
const PING: u8 = 8;
const PONG: u8 = 9;
const CLOSE: u8 = 10;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    /// The first one of each end.
    Hello(Hello),
    /// Opens a stream.
    Open(u32, Target),
    /// It is open.
    Accept(u32),
    /// It is not.
    Refuse(u32, Refusal),
    /// Bytes of a stream, at least one.
    Data(u32, Bytes),
    /// So many more bytes may be sent.
    Credit(u32, u32),
    /// No more bytes come.
    Finish(u32),
    /// The stream is given up.
    Reset(u32),
    /// Asks for a sign of life.
    Ping(u64),
    /// The sign.
    Pong(u64),
    /// The tunnel ends.
    Close(String),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + self.size_hint());
        out.put_u8(self.kind());
        out.put_u32(self.stream());
        match self {
            Frame::Hello(hello) => hello.encode(&mut out),
            Frame::Open(_, target) => {
                // Targets are short, see there.
                out.put_u8(target.protocol().len() as u8);
                out.put_slice(target.protocol().as_bytes());
                out.put_slice(target.address().as_bytes());
            }
            Frame::Refuse(_, refusal) => {
                out.put_u16(refusal.code().number());
                out.put_slice(refusal.text().as_bytes());
            }
            Frame::Data(_, data) => out.put_slice(data),
            Frame::Credit(_, bytes) => out.put_u32(*bytes),
            Frame::Ping(number) | Frame::Pong(number) => out.put_u64(*number),
            Frame::Close(reason) => out.put_slice(reason.as_bytes()),
            Frame::Accept(_) | Frame::Finish(_) | Frame::Reset(_) => {}
        }
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let short = |_| Malformed("a frame is cut off");
        let kind = bytes.try_get_u8().map_err(short)?;
        let id = bytes.try_get_u32().map_err(short)?;
        if matches!(kind, HELLO | PING | PONG | CLOSE) != (id == 0) {
            return Err(Malformed("a frame names a wrong stream"));
        }
        let frame = match kind {
            HELLO => Frame::Hello(Hello::decode(&std::mem::take(&mut bytes))?),
            OPEN => Frame::Open(id, target(&mut bytes)?),
            ACCEPT => Frame::Accept(id),
            REFUSE => {
                let code = RefusalCode::from_number(bytes.try_get_u16().map_err(short)?);
                Frame::Refuse(id, Refusal::new(code, text(&mut bytes)?))
            }
            DATA if bytes.is_empty() => return Err(Malformed("a frame of data holds none")),
            DATA => Frame::Data(id, std::mem::take(&mut bytes)),
            CREDIT => match bytes.try_get_u32().map_err(short)? {
                0 => return Err(Malformed("a credit of nothing")),
                credit => Frame::Credit(id, credit),
            },
            FINISH => Frame::Finish(id),
            RESET => Frame::Reset(id),
            PING => Frame::Ping(bytes.try_get_u64().map_err(short)?),
            PONG => Frame::Pong(bytes.try_get_u64().map_err(short)?),
            CLOSE => Frame::Close(text(&mut bytes)?),
            _ => return Err(Malformed("a frame of an unknown kind")),
        };
        if bytes.has_remaining() {
            return Err(Malformed("a frame is too long"));
        }
        Ok(frame)
    }

    fn kind(&self) -> u8 {
        match self {
            Frame::Hello(_) => HELLO,
            Frame::Open(..) => OPEN,
            Frame::Accept(_) => ACCEPT,
            Frame::Refuse(..) => REFUSE,
            Frame::Data(..) => DATA,
            Frame::Credit(..) => CREDIT,
            Frame::Finish(_) => FINISH,
            Frame::Reset(_) => RESET,
            Frame::Ping(_) => PING,
            Frame::Pong(_) => PONG,
            Frame::Close(_) => CLOSE,
        }
    }

    /// The stream's number; 0 where the frame belongs to none.
    fn stream(&self) -> u32 {
        match *self {
            Frame::Open(id, _)
            | Frame::Accept(id)
            | Frame::Refuse(id, _)
            | Frame::Data(id, _)
            | Frame::Credit(id, _)
            | Frame::Finish(id)
            | Frame::Reset(id) => id,
            Frame::Hello(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => 0,
        }
    }

    fn size_hint(&self) -> usize {
        match self {
            Frame::Data(_, data) => data.len(),
            _ => 32,
        }
    }
}

fn target(bytes: &mut Bytes) -> Result<Target, Malformed> {
    let length = usize::from(bytes.try_get_u8().map_err(|_| Malformed("a frame is cut off"))?);
    if bytes.len() < length || bytes.len() - length > Target::MAX_ADDRESS {
        return Err(Malformed("a target has a wrong length"));
    }
    let protocol = bytes.split_to(length);
    let address = std::mem::take(bytes);
    let utf8 = |_| Malformed("a target is not UTF-8");
    let protocol = std::str::from_utf8(&protocol).map_err(utf8)?;
    let address = std::str::from_utf8(&address).map_err(utf8)?;
    Target::new(protocol, address).map_err(|_| Malformed("a target has a wrong length"))
}

fn text(bytes: &mut Bytes) -> Result<String, Malformed> {
    let bytes = std::mem::take(bytes);
    if bytes.len() > Refusal::MAX_TEXT {
        return Err(Malformed("a text is too long"));
    }
    Ok(shortened(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::options::Options;

    /// Any frame that an end could send, right or not.
    pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
        let id = 1..20u32;
        prop_oneof![
            Just(Frame::Hello(Hello::of(&Options::default()))),
            (id.clone(), "[a-z]{1,16}", "\\PC{1,75}").prop_map(|(id, protocol, address)| Frame::Open(
                id,
                Target::new(&protocol, &address).unwrap()
            )),
            id.clone().prop_map(Frame::Accept),
            (id.clone(), any::<u16>(), "\\PC{0,60}").prop_map(|(id, code, text)| Frame::Refuse(
                id,
                Refusal::new(RefusalCode::from_number(code), text)
            )),
            (id.clone(), proptest::collection::vec(any::<u8>(), 1..200))
                .prop_map(|(id, data)| Frame::Data(id, data.into())),
            (id.clone(), 1..=u32::MAX).prop_map(|(id, credit)| Frame::Credit(id, credit)),
            id.clone().prop_map(Frame::Finish),
            id.prop_map(Frame::Reset),
            any::<u64>().prop_map(Frame::Ping),
            any::<u64>().prop_map(Frame::Pong),
            "\\PC{0,60}".prop_map(Frame::Close),
        ]
    }

    proptest! {
        #[test]
        fn fuzz_a_frame_is_read_as_it_is_written(frame in any_frame()) {
            let bytes = frame.encode();
            if let Frame::Data(_, data) = &frame {
                prop_assert!(bytes.len() <= data.len() + OVERHEAD);
            } else {
                prop_assert!(bytes.len() <= OVERHEAD);
            }
            prop_assert_eq!(Frame::decode(bytes), Ok(frame));
        }

        #[test]
        fn fuzz_other_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(frame) = Frame::decode(bytes.clone().into()) {
                prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
            }
        }

        #[test]
        fn fuzz_a_cut_or_changed_frame_is_read_or_refused(
            frame in any_frame(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
        ) {
            let mut bytes = frame.encode().to_vec();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let _ = Frame::decode(bytes.into());
        }
    }
}
