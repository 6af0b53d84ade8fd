//! The bytes on disk. All integers are little-endian; field offsets are frozen
//! for a format version.

use bytes::Bytes;

use crate::disk::SECTOR_BYTES;

/// Newest format this binary reads and the one it writes.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Where the first batch of a segment begins; the header has this block alone.
pub(super) const DATA_START: u64 = 4096;
/// No batch is longer: it bounds what a crash can tear, and the zeroing after it.
pub(super) const MAX_BATCH_BYTES: usize = 16 << 20;
/// No segment is longer: what a header declares beyond it is damage.
pub(super) const MAX_SEGMENT_BYTES: u64 = 1 << 30;
pub(super) const BATCH_HEADER_BYTES: usize = 40;
const RECORD_HEADER_BYTES: usize = 12;
const ENTRY_PREFIX_BYTES: usize = 24;
/// What an entry takes beside its payload.
pub(super) const RECORD_OVERHEAD_BYTES: usize = RECORD_HEADER_BYTES + ENTRY_PREFIX_BYTES;

const MAGIC: &[u8; 8] = b"SKIFFWAL";
const BATCH_MAGIC: u32 = 0x4241_4b53;
const HEADER_BYTES: usize = 64;
const NO_INDEX: u64 = u64::MAX;
/// Positions, indexes and numbers of segments stay below this: nothing that is
/// added to one of them overflows.
const BEYOND: u64 = 1 << 62;

/// Identity of a log entry: the term and node of the leader that made it, and
/// its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId {
    /// Term of the leader.
    pub term: u64,
    /// Node id of the leader.
    pub leader: u64,
    /// Position in the log.
    pub index: u64,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its identity.
    pub id: LogId,
    /// What kind of payload it carries; opaque to the log.
    pub kind: u8,
    /// What it carries; opaque to the log.
    pub payload: Bytes,
}

/// One change of the log. The numbers of the kinds are frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// 1: an entry after the last one.
    Entry(LogEntry),
    /// 2: the vote, replacing the one before.
    Vote(Bytes),
    /// 3: everything up to here is known to be committed.
    Committed(LogId),
    /// 4: entries from this index on are gone.
    TruncateFrom(u64),
    /// 5: entries up to here, inclusive, are gone.
    Purged(LogId),
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Entry(_) => 1,
            Self::Vote(_) => 2,
            Self::Committed(_) => 3,
            Self::TruncateFrom(_) => 4,
            Self::Purged(_) => 5,
        }
    }

    /// Bytes the record takes in a batch.
    pub(super) fn encoded_len(&self) -> usize {
        RECORD_HEADER_BYTES
            + match self {
                Self::Entry(entry) => ENTRY_PREFIX_BYTES + entry.payload.len(),
                Self::Vote(vote) => vote.len(),
                Self::Committed(_) | Self::Purged(_) => 24,
                Self::TruncateFrom(_) => 8,
            }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(entry) => {
                put_id(out, entry.id);
                out.extend_from_slice(&entry.payload);
            }
            Self::Vote(vote) => out.extend_from_slice(vote),
            Self::Committed(id) | Self::Purged(id) => put_id(out, *id),
            Self::TruncateFrom(index) => out.extend_from_slice(&index.to_le_bytes()),
        }
    }

    /// The second byte of the record: an entry's kind of payload.
    fn payload_kind(&self) -> u8 {
        if let Self::Entry(entry) = self { entry.kind } else { 0 }
    }

    fn decode(kind: u8, payload_kind: u8, body: Bytes) -> Result<Self, String> {
        let short = || format!("record of kind {kind} and {} bytes holds nothing sensible", body.len());
        Ok(match kind {
            1 => {
                let id = get_id(&body).ok_or_else(short)?;
                let payload = body.slice(ENTRY_PREFIX_BYTES..);
                Self::Entry(LogEntry { id, kind: payload_kind, payload })
            }
            2 => Self::Vote(body),
            3 => Self::Committed(get_id(&body).ok_or_else(short)?),
            4 => Self::TruncateFrom(get_u64(&body, 0).ok_or_else(short)?),
            5 => Self::Purged(get_id(&body).ok_or_else(short)?),
            _ => return Err(format!("unknown record kind {kind}")),
        })
    }
}

fn put_id(out: &mut Vec<u8>, id: LogId) {
    for part in [id.index, id.term, id.leader] {
        out.extend_from_slice(&part.to_le_bytes());
    }
}

/// `None` where the bytes are too few, or no log gets that long.
fn get_id(bytes: &[u8]) -> Option<LogId> {
    let index = get_u64(bytes, 0).filter(|index| *index < BEYOND)?;
    Some(LogId { index, term: get_u64(bytes, 8)?, leader: get_u64(bytes, 16)? })
}

fn get_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The checksum of `bytes` as written in the segment of `salt` at `position` of
/// the log. Bytes a recycled file still holds from an earlier life, and bytes
/// that ended up somewhere else, do not pass.
fn checksum(salt: u64, position: u64, bytes: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &position.to_le_bytes()), bytes)
}

/// The first block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Number of the segment; successors count up by one from 1.
    pub(super) sequence: u64,
    /// Random; part of every checksum in the segment.
    pub(super) salt: u64,
    /// The index the next entry had when the segment began; `None` for a log
    /// that may begin anywhere.
    pub(super) next_index: Option<u64>,
    /// Position in the log of the first byte after the header block. The
    /// segment before is authoritative up to here and no further.
    pub(super) start_position: u64,
    /// Length of the file.
    pub(super) file_bytes: u64,
}

/// Why a header was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Newer(u32),
    Damaged(&'static str),
}

impl SegmentHeader {
    /// The header's block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DATA_START as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        // The version has a checksum of its own: the rest of the header may be
        // laid out in another way in another version, this part never.
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let next = self.next_index.unwrap_or(NO_INDEX);
        for part in [self.sequence, self.salt, next, self.start_position, self.file_bytes] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.resize(DATA_START as usize, 0);
        out
    }

    /// Reads the header from the first bytes of a file.
    pub(super) fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        let short = HeaderError::Damaged("the segment header is cut off");
        if block.len() < HEADER_BYTES {
            return Err(short);
        }
        if &block[..8] != MAGIC {
            return Err(HeaderError::Damaged("this is not a segment of a skiff log"));
        }
        let field32 = |at| get_u32(block, at).unwrap_or_default();
        let field = |at| get_u64(block, at).unwrap_or_default();
        if field32(12) != crc32c::crc32c(&block[..12]) {
            return Err(HeaderError::Damaged("the format version fails its checksum"));
        }
        match field32(8) {
            FORMAT_VERSION => {}
            newer if newer > FORMAT_VERSION => return Err(HeaderError::Newer(newer)),
            _ => return Err(HeaderError::Damaged("the format version is unknown")),
        }
        if field32(56) != crc32c::crc32c(&block[..56]) {
            return Err(HeaderError::Damaged("the segment header fails its checksum"));
        }
        let numbers = [field(16), field(40)].into_iter().chain(Some(field(32)).filter(|&n| n != NO_INDEX));
        if numbers.into_iter().any(|number| number >= BEYOND) {
            return Err(HeaderError::Damaged("the segment header names an impossible place"));
        }
        Ok(Self {
            sequence: field(16),
            salt: field(24),
            next_index: Some(field(32)).filter(|&index| index != NO_INDEX),
            start_position: field(40),
            file_bytes: field(48),
        })
    }
}

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchKind {
    /// 0: carries records.
    Records,
    /// 1: empty; says that everything before it is durable. Overwritten by the
    /// next batch.
    Synced,
    /// 2: empty; says that the log goes on in the next segment.
    Sealed,
}

/// The head of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) kind: BatchKind,
    /// Where in the log this batch begins.
    pub(super) position: u64,
    /// Everything before was durable when this batch was written.
    pub(super) synced: u64,
    /// Bytes of records after the header.
    pub(super) body_bytes: u32,
    pub(super) records: u32,
}

impl BatchHeader {
    /// Bytes from this batch to the next one.
    pub(super) fn stride(&self) -> u64 {
        stride(self.body_bytes as usize)
    }

    fn encode(&self, salt: u64, out: &mut [u8]) {
        let kind: u32 = match self.kind {
            BatchKind::Records => 0,
            BatchKind::Synced => 1,
            BatchKind::Sealed => 2,
        };
        out[0..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.position.to_le_bytes());
        out[16..24].copy_from_slice(&self.synced.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.records.to_le_bytes());
        out[32..36].copy_from_slice(&kind.to_le_bytes());
        let crc = checksum(salt, self.position, &out[8..BATCH_HEADER_BYTES]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header at the start of `bytes`, if they are one that was written for
    /// `position` in the segment of `salt`.
    pub(super) fn decode(salt: u64, position: u64, bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..BATCH_HEADER_BYTES)?;
        if get_u32(head, 0)? != BATCH_MAGIC || get_u64(head, 8)? != position {
            return None;
        }
        if get_u32(head, 4)? != checksum(salt, position, &head[8..]) {
            return None;
        }
        let kind = match get_u32(head, 32)? {
            0 => BatchKind::Records,
            1 => BatchKind::Synced,
            2 => BatchKind::Sealed,
            _ => return None,
        };
        let (body_bytes, records) = (get_u32(head, 24)?, get_u32(head, 28)?);
        Some(Self { kind, position, synced: get_u64(head, 16)?, body_bytes, records })
    }
}

/// Bytes a batch with that many bytes of records takes: whole sectors, so that
/// no batch writes into a sector that holds an earlier, durable one.
pub(super) fn stride(body_bytes: usize) -> u64 {
    (BATCH_HEADER_BYTES + body_bytes).next_multiple_of(SECTOR_BYTES) as u64
}

/// Encodes an empty batch that says that all before `position` is durable.
pub(super) fn encode_mark(kind: BatchKind, salt: u64, position: u64) -> Vec<u8> {
    let mut out = vec![0; SECTOR_BYTES];
    BatchHeader { kind, position, synced: position, body_bytes: 0, records: 0 }.encode(salt, &mut out);
    out
}

/// Encodes a batch of records into `out` (cleared first), padded to whole
/// sectors. Returns where each record begins, in bytes from the batch's start.
pub(super) fn encode_batch<'a>(
    salt: u64,
    position: u64,
    records: impl Iterator<Item = &'a Record>,
    out: &mut Vec<u8>,
) -> Vec<u32> {
    out.clear();
    out.resize(BATCH_HEADER_BYTES, 0);
    let mut offsets = Vec::new();
    for record in records {
        let start = out.len();
        offsets.push(start as u32);
        let body = (record.encoded_len() - RECORD_HEADER_BYTES) as u32;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&body.to_le_bytes());
        out.extend_from_slice(&[record.kind(), record.payload_kind(), 0, 0]);
        record.encode_body(out);
        let crc = checksum(salt, position + start as u64, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let body_bytes = (out.len() - BATCH_HEADER_BYTES) as u32;
    let header = BatchHeader {
        kind: BatchKind::Records,
        position,
        synced: position,
        body_bytes,
        records: offsets.len() as u32,
    };
    header.encode(salt, &mut out[..BATCH_HEADER_BYTES]);
    out.resize(stride(body_bytes as usize) as usize, 0);
    offsets
}

/// Reads the record at `at` in `bytes`, where `bytes` begin at `position` of
/// the log. Returns it with its encoded length; an error says what is wrong.
pub(super) fn decode_record(
    salt: u64,
    position: u64,
    bytes: &Bytes,
    at: usize,
) -> Result<(Record, usize), String> {
    let cut = || "a record is cut off".to_string();
    let head = bytes.get(at..at + RECORD_HEADER_BYTES).ok_or_else(cut)?;
    let (crc, body) = (get_u32(head, 0).unwrap_or_default(), get_u32(head, 4).unwrap_or_default());
    let end = at + RECORD_HEADER_BYTES + body as usize;
    let checked = bytes.get(at + 4..end).ok_or_else(cut)?;
    if crc != checksum(salt, position + at as u64, checked) {
        return Err("a record fails its checksum".to_string());
    }
    let record = Record::decode(head[8], head[9], bytes.slice(at + RECORD_HEADER_BYTES..end))?;
    Ok((record, end - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let id = LogId { term: 3, leader: 7, index: 9 };
        vec![
            Record::Entry(LogEntry { id, kind: 2, payload: Bytes::from(vec![5; 700]) }),
            Record::Vote(Bytes::from_static(b"vote")),
            Record::Committed(id),
            Record::TruncateFrom(4),
            Record::Purged(id),
        ]
    }

    #[test]
    fn a_batch_reads_back_and_only_at_its_place() {
        let (salt, position) = (11, 4096);
        let mut out = Vec::new();
        let offsets = encode_batch(salt, position, records().iter(), &mut out);
        let bytes = Bytes::from(out);
        let header = BatchHeader::decode(salt, position, &bytes).expect("valid header");
        assert_eq!(header.stride() as usize, bytes.len());
        assert_eq!(bytes.len() % SECTOR_BYTES, 0);
        assert_eq!(header.records as usize, records().len());
        for (record, &at) in records().iter().zip(&offsets) {
            let (read, _) = decode_record(salt, position, &bytes, at as usize).expect("valid record");
            assert_eq!(&read, record);
            assert!(decode_record(salt + 1, position, &bytes, at as usize).is_err());
            assert!(decode_record(salt, position + 512, &bytes, at as usize).is_err());
        }
        assert!(BatchHeader::decode(salt + 1, position, &bytes).is_none());
        assert!(BatchHeader::decode(salt, position + 512, &bytes).is_none());
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_seen() {
        let header =
            SegmentHeader { sequence: 1, salt: 2, next_index: Some(3), start_position: 4, file_bytes: 5 };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..60 * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    /// These bytes are on users' disks: they may not change within a version.
    #[test]
    fn the_format_is_frozen() {
        let header =
            SegmentHeader { sequence: 1, salt: 2, next_index: None, start_position: 4, file_bytes: 5 };
        assert_eq!(crc32c::crc32c(&header.encode()), FROZEN_HEADER);
        let mut out = Vec::new();
        encode_batch(11, 4096, records().iter(), &mut out);
        assert_eq!(crc32c::crc32c(&out), FROZEN_BATCH);
    }

    const FROZEN_HEADER: u32 = 3_580_832_990;
    const FROZEN_BATCH: u32 = 1_279_903_738;
}
