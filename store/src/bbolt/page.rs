//! Branch and leaf pages.

use bytes::{Buf, Bytes};

use super::damaged;
use super::reader::{Bucket, Item, Value};
use crate::error::Result;

/// Bytes of a page's header.
pub(super) const HEADER: usize = 16;
/// Bytes of an element's header, in both kinds of pages.
pub(super) const ELEMENT: usize = 16;
/// Bytes of a bucket's header.
pub(super) const BUCKET_HEADER: usize = 16;

/// Flags of pages.
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// Flag of a leaf's element whose value is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

/// What the header of a page says.
pub(super) struct Header {
    pub(super) id: u64,
    flags: u16,
    count: u16,
    /// Pages that it goes on in.
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= HEADER).then(|| Self {
            id: bytes.get_u64_le(),
            flags: bytes.get_u16_le(),
            count: bytes.get_u16_le(),
            overflow: bytes.get_u32_le(),
        })
    }
}

/// A branch or leaf page in memory.
pub(super) struct Page {
    id: u64,
    pub(super) branch: bool,
    pub(super) count: usize,
    bytes: Bytes,
}

impl Page {
    /// Of all bytes of a page.
    pub(super) fn new(id: u64, bytes: Bytes) -> Result<Self> {
        let header = Header::decode(&bytes).ok_or_else(|| damaged(format_args!("page {id} is cut off")))?;
        let branch = match header.flags {
            BRANCH => true,
            LEAF => false,
            flags => return Err(damaged(format_args!("page {id} is of kind {flags:#x}, not of a tree"))),
        };
        if header.id != id {
            return Err(damaged(format_args!("page {id} calls itself {}", header.id)));
        }
        let count = usize::from(header.count);
        if HEADER + count * ELEMENT > bytes.len() {
            return Err(damaged(format_args!("page {id} has no room for its {count} elements")));
        }
        Ok(Self { id, branch, count, bytes })
    }

    /// A child of a branch: its page.
    pub(super) fn child(&self, index: usize) -> Result<u64> {
        let (_, mut element) = self.element(index)?;
        element.advance(8);
        Ok(element.get_u64_le())
    }

    /// An element of a leaf.
    pub(super) fn item(&self, index: usize) -> Result<Item> {
        let (start, mut element) = self.element(index)?;
        let flags = element.get_u32_le();
        let (at, key_len, value_len) = (element.get_u32_le(), element.get_u32_le(), element.get_u32_le());
        let at = start as u64 + u64::from(at);
        let key = self.part(index, at, key_len)?;
        let value = self.part(index, at + u64::from(key_len), value_len)?;
        let value = match flags {
            0 => Value::Bytes(value),
            IS_BUCKET => Value::Bucket(self.bucket(index, value)?),
            flags => {
                return Err(damaged(format_args!("page {}: element {index} is of kind {flags:#x}", self.id)));
            }
        };
        Ok(Item { key, value })
    }

    fn bucket(&self, index: usize, mut value: Bytes) -> Result<Bucket> {
        if value.len() < BUCKET_HEADER {
            return Err(damaged(format_args!("page {}: the bucket of element {index} is cut off", self.id)));
        }
        let root = value.get_u64_le();
        value.advance(8);
        Ok(if root == 0 { Bucket::Inline(value) } else { Bucket::Page(root) })
    }

    /// Where an element's header begins, and its bytes.
    fn element(&self, index: usize) -> Result<(usize, &[u8])> {
        let start = HEADER + index * ELEMENT;
        let element = self.bytes.get(start..start + ELEMENT).filter(|_| index < self.count);
        Ok((start, element.ok_or_else(|| damaged(format_args!("page {}: no element {index}", self.id)))?))
    }

    fn part(&self, index: usize, at: u64, len: u32) -> Result<Bytes> {
        let end = at + u64::from(len);
        if end > self.bytes.len() as u64 {
            return Err(damaged(format_args!("page {}: element {index} reaches beyond it", self.id)));
        }
        Ok(self.bytes.slice(at as usize..end as usize))
    }
}
