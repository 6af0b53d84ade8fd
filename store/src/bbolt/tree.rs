//! Building a tree of pages from pairs that come sorted.

use std::io::Write;

use bytes::{BufMut, Bytes};

use super::io_failed;
use super::page::{BRANCH, BUCKET_HEADER, ELEMENT, HEADER, IS_BUCKET, LEAF};
use crate::error::{Error, Result};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;
/// A bucket of at most so many bytes lies inside of its entry, as in bbolt.
const MAX_INLINE: usize = PAGE / 4;
/// Longest key and value, as in bbolt.
const MAX_KEY: usize = 32 << 10;
const MAX_VALUE: usize = (1 << 31) - 2;

/// Writes pages one after the other.
pub(super) struct Pages<W> {
    pub(super) out: W,
    pub(super) next: u64,
}

impl<W: Write> Pages<W> {
    /// Writes a page; answers where.
    fn write(&mut self, flags: u16, count: usize, body: &[u8]) -> Result<u64> {
        let id = self.next;
        let len = (HEADER + body.len()).next_multiple_of(PAGE);
        let pages = (len / PAGE) as u64;
        let header = header(id, flags, count, pages as u32 - 1);
        let padding = vec![0; len - HEADER - body.len()];
        for part in [&header[..], body, &padding] {
            self.out.write_all(part).map_err(io_failed)?;
        }
        self.next += pages;
        Ok(id)
    }

    /// Writes a page that lists nothing as free.
    pub(super) fn write_freelist(&mut self) -> Result<u64> {
        self.write(super::page::FREELIST, 0, &[])
    }
}

fn header(id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.put_u64_le(id);
    out.put_u16_le(flags);
    // A page has at most PAGE / ELEMENT elements.
    out.put_u16_le(count as u16);
    out.put_u32_le(overflow);
    out
}

/// An element: of a leaf with a value, of a branch with a page.
struct Element {
    key: Bytes,
    flags: u32,
    value: Bytes,
    child: u64,
}

/// A page that is being filled.
#[derive(Default)]
struct Node {
    elements: Vec<Element>,
    bytes: usize,
}

impl Node {
    fn room_for(&self, element: &Element) -> bool {
        self.elements.is_empty() || HEADER + self.bytes + element.bytes() <= PAGE
    }

    fn push(&mut self, element: Element) {
        self.bytes += element.bytes();
        self.elements.push(element);
    }

    /// The elements as they stand behind the header of a page.
    fn body(&self, leaf: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes);
        let mut data = self.elements.len() * ELEMENT;
        for (index, element) in self.elements.iter().enumerate() {
            // Counted from where the element itself stands.
            let at = (data - index * ELEMENT) as u32;
            if leaf {
                out.put_u32_le(element.flags);
                out.put_u32_le(at);
                out.put_u32_le(element.key.len() as u32);
                out.put_u32_le(element.value.len() as u32);
            } else {
                out.put_u32_le(at);
                out.put_u32_le(element.key.len() as u32);
                out.put_u64_le(element.child);
            }
            data += element.key.len() + element.value.len();
        }
        for element in &self.elements {
            out.put_slice(&element.key);
            out.put_slice(&element.value);
        }
        out
    }
}

impl Element {
    fn bytes(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// A tree that is being built: of each level the page that is being filled.
#[derive(Default)]
pub(super) struct Tree {
    leaf: Node,
    branches: Vec<Node>,
    last: Option<Bytes>,
    holds_buckets: bool,
}

impl Tree {
    /// Adds a pair behind all others.
    pub(super) fn put<W: Write>(&mut self, pages: &mut Pages<W>, key: &[u8], value: &[u8]) -> Result<()> {
        self.add(pages, key, 0, Bytes::copy_from_slice(value))
    }

    /// Adds a bucket behind all others.
    pub(super) fn put_bucket<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        name: &[u8],
        bucket: Bytes,
    ) -> Result<()> {
        self.holds_buckets = true;
        self.add(pages, name, IS_BUCKET, bucket)
    }

    fn add<W: Write>(&mut self, pages: &mut Pages<W>, key: &[u8], flags: u32, value: Bytes) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(Error::Other(format!(
                "bbolt cannot hold a key of {} bytes with a value of {}",
                key.len(),
                value.len()
            )));
        }
        if self.last.as_ref().is_some_and(|last| last[..] >= *key) {
            return Err(Error::Other(format!("key {key:02x?} was written to a bbolt file out of order")));
        }
        let key = Bytes::copy_from_slice(key);
        self.last = Some(key.clone());
        let element = Element { key, flags, value, child: 0 };
        if !self.leaf.room_for(&element) {
            self.write_leaf(pages)?;
        }
        self.leaf.push(element);
        Ok(())
    }

    fn write_leaf<W: Write>(&mut self, pages: &mut Pages<W>) -> Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let Some(first) = leaf.elements.first() else { return Ok(()) };
        let key = first.key.clone();
        let id = pages.write(LEAF, leaf.elements.len(), &leaf.body(true))?;
        self.add_child(pages, 0, key, id)
    }

    fn add_child<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        key: Bytes,
        child: u64,
    ) -> Result<()> {
        let element = Element { key, flags: 0, value: Bytes::new(), child };
        if self.branches.len() <= level {
            self.branches.push(Node::default());
        }
        if !self.branches[level].room_for(&element) {
            self.write_branch(pages, level)?;
        }
        self.branches[level].push(element);
        Ok(())
    }

    fn write_branch<W: Write>(&mut self, pages: &mut Pages<W>, level: usize) -> Result<()> {
        let branch = std::mem::take(&mut self.branches[level]);
        let Some(first) = branch.elements.first() else { return Ok(()) };
        let key = first.key.clone();
        let id = pages.write(BRANCH, branch.elements.len(), &branch.body(false))?;
        self.add_child(pages, level + 1, key, id)
    }

    /// Writes the rest; answers the page of the root.
    pub(super) fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> Result<u64> {
        if self.branches.is_empty() {
            return pages.write(LEAF, self.leaf.elements.len(), &self.leaf.body(true));
        }
        self.write_leaf(pages)?;
        let mut level = 0;
        loop {
            // A branch of one child at the top is no use: the child is the root.
            if let [only] = &self.branches[level].elements[..]
                && level + 1 == self.branches.len()
            {
                return Ok(only.child);
            }
            self.write_branch(pages, level)?;
            level += 1;
        }
    }

    /// Writes the rest; answers the bucket as the tree above holds it.
    pub(super) fn finish_bucket<W: Write>(self, pages: &mut Pages<W>) -> Result<Bytes> {
        let inline =
            self.branches.is_empty() && !self.holds_buckets && HEADER + self.leaf.bytes <= MAX_INLINE;
        let mut out = Vec::with_capacity(BUCKET_HEADER);
        if inline {
            out.put_u64_le(0);
            out.put_u64_le(0);
            out.extend(header(0, LEAF, self.leaf.elements.len(), 0));
            out.extend(self.leaf.body(true));
        } else {
            out.put_u64_le(self.finish(pages)?);
            out.put_u64_le(0);
        }
        Ok(out.into())
    }
}
