//! The first frame of both ends.

use bytes::{Buf, BufMut, BytesMut};

use crate::error::TunnelError;
use crate::frame::Malformed;
use crate::options::Options;

const MAGIC: u32 = u32::from_be_bytes(*b"SKFT");
/// The versions this end speaks, the oldest and the newest.
const VERSIONS: (u16, u16) = (1, 1);

/// What an end says of itself. Later versions may say more at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    oldest: u16,
    newest: u16,
    /// How many streams the other end may have open.
    pub(crate) max_streams: u32,
    /// What may be sent on a new stream at first.
    pub(crate) window: u32,
    /// The most bytes of a frame of data.
    pub(crate) frame: u32,
}

impl Hello {
    pub(crate) const MAX_BYTES: usize = 256;

    pub(crate) fn of(options: &Options) -> Self {
        Hello {
            oldest: VERSIONS.0,
            newest: VERSIONS.1,
            max_streams: options.max_streams,
            window: options.window_bytes,
            frame: options.frame_bytes,
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(MAGIC);
        out.put_u16(self.oldest);
        out.put_u16(self.newest);
        out.put_u32(self.max_streams);
        out.put_u32(self.window);
        out.put_u32(self.frame);
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(Malformed("a hello is too long"));
        }
        let short = |_| Malformed("a hello is cut off");
        if bytes.try_get_u32().map_err(short)? != MAGIC {
            return Err(Malformed("the first frame is no hello of a tunnel"));
        }
        let hello = Hello {
            oldest: bytes.try_get_u16().map_err(short)?,
            newest: bytes.try_get_u16().map_err(short)?,
            max_streams: bytes.try_get_u32().map_err(short)?,
            window: bytes.try_get_u32().map_err(short)?,
            frame: bytes.try_get_u32().map_err(short)?,
        };
        if hello.oldest > hello.newest || hello.frame == 0 {
            return Err(Malformed("a hello contradicts itself"));
        }
        Ok(hello)
    }

    /// The newest version that both ends speak.
    pub(crate) fn version(&self) -> Result<u16, TunnelError> {
        let (oldest, newest) = VERSIONS;
        let common = self.newest.min(newest);
        if common < self.oldest.max(oldest) {
            return Err(TunnelError::Version(self.oldest, self.newest, oldest, newest));
        }
        Ok(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello::of(&Options::default())
    }

    #[test]
    fn more_at_the_end_is_passed_over() {
        let mut bytes = BytesMut::new();
        hello().encode(&mut bytes);
        bytes.put_slice(b"later");
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(hello().version(), Ok(1));
        assert_eq!(Hello { oldest: 1, newest: 9, ..hello() }.version(), Ok(1));
        let newer = Hello { oldest: 2, newest: 3, ..hello() };
        assert_eq!(newer.version(), Err(TunnelError::Version(2, 3, 1, 1)));
    }
}
