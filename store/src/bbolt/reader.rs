//! Reading a file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::meta::Meta;
use super::page::{HEADER, Header, Page};
use super::{damaged, io_failed};
use crate::error::Result;

/// Levels of a tree, at most. With the two children a page has at least in
/// practice there is no file that large.
const MAX_DEPTH: usize = 48;
/// Bytes of a page and what it goes on in, at most: far more than the largest
/// request that etcd can be set to take.
const MAX_PAGE_BYTES: u64 = 1 << 30;

/// A file, open for reading. It must not change meanwhile.
#[derive(Debug)]
pub struct Database {
    file: File,
    meta: Meta,
}

/// Where the pairs of a bucket are.
#[derive(Debug, Clone)]
pub enum Bucket {
    /// In a tree of its own, below this page.
    Page(u64),
    /// In this leaf.
    Inline(Bytes),
}

/// A key of a bucket, and what is there.
#[derive(Debug, Clone)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// What it leads to.
    pub value: Value,
}

/// What a key leads to.
#[derive(Debug, Clone)]
pub enum Value {
    /// A value.
    Bytes(Bytes),
    /// A bucket inside of the bucket.
    Bucket(Bucket),
}

impl Database {
    /// Opens the first `len` bytes of a file.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] where they are no database;
    /// [`crate::Error::Storage`] where the disk fails.
    pub fn open(file: File, len: u64) -> Result<Self> {
        let meta = Meta::find(&file, len)?;
        if meta.pages.checked_mul(u64::from(meta.page_size)).is_none_or(|bytes| bytes > len) {
            return Err(damaged(format_args!("it has {} pages and {len} bytes: it is cut off", meta.pages)));
        }
        Ok(Self { file, meta })
    }

    /// Bytes of all pages.
    pub fn size(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_size)
    }

    /// The buckets, in the order of their names.
    ///
    /// # Errors
    /// As for [`Database::cursor`].
    pub fn buckets(&self) -> Result<Cursor<'_>> {
        self.cursor(&Bucket::Page(self.meta.root))
    }

    /// The bucket of a name.
    ///
    /// # Errors
    /// As for [`Cursor::next`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>> {
        let mut buckets = self.buckets()?;
        while let Some(item) = buckets.next()? {
            if let Value::Bucket(bucket) = item.value
                && item.key == name
            {
                return Ok(Some(bucket));
            }
        }
        Ok(None)
    }

    /// What is in a bucket, in the order of the keys.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] where its root cannot be;
    /// [`crate::Error::Storage`] where the disk fails.
    pub fn cursor(&self, bucket: &Bucket) -> Result<Cursor<'_>> {
        let root = match bucket {
            Bucket::Page(id) => self.page(*id)?,
            Bucket::Inline(bytes) => Page::new(0, bytes.clone())?,
        };
        Ok(Cursor { database: self, levels: vec![(root, 0)], last: None })
    }

    fn page(&self, id: u64) -> Result<Page> {
        if id < 2 || id >= self.meta.pages {
            return Err(damaged(format_args!("page {id} is none of its {}", self.meta.pages)));
        }
        let size = u64::from(self.meta.page_size);
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, id * size).map_err(io_failed)?;
        let overflow = Header::decode(&header).map_or(0, |header| u64::from(header.overflow));
        let len = (overflow + 1) * size;
        if overflow >= self.meta.pages - id || len > MAX_PAGE_BYTES {
            return Err(damaged(format_args!("page {id} goes on in {overflow} pages")));
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, id * size).map_err(io_failed)?;
        Page::new(id, bytes.into())
    }
}

/// Walks a bucket.
pub struct Cursor<'a> {
    database: &'a Database,
    /// Pages from the root down, each with the element that comes next.
    levels: Vec<(Page, usize)>,
    last: Option<Bytes>,
}

impl Cursor<'_> {
    /// The next pair; `None` behind the last one.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] where a page contradicts itself or another;
    /// [`crate::Error::Storage`] where the disk fails.
    #[allow(clippy::should_implement_trait)] // It can fail, and is not to be adapted.
    pub fn next(&mut self) -> Result<Option<Item>> {
        // One level up or down a turn: at most MAX_DEPTH of each between keys.
        loop {
            let depth = self.levels.len();
            let Some((page, next)) = self.levels.last_mut() else { return Ok(None) };
            let index = *next;
            *next += 1;
            if index >= page.count {
                // Without this, a few pages that lead to each other and to no
                // key would be walked for ever.
                if page.count == 0 && (page.branch || depth > 1) {
                    return Err(damaged("a page of a tree has no elements"));
                }
                self.levels.pop();
            } else if !page.branch {
                let item = page.item(index)?;
                return self.rising(item).map(Some);
            } else if depth >= MAX_DEPTH {
                return Err(damaged(format_args!("a tree is deeper than {MAX_DEPTH} pages")));
            } else {
                let child = page.child(index)?;
                self.levels.push((self.database.page(child)?, 0));
            }
        }
    }

    fn rising(&mut self, item: Item) -> Result<Item> {
        if self.last.as_ref().is_some_and(|last| *last >= item.key) {
            return Err(damaged(format_args!("key {:02x?} is out of order", item.key)));
        }
        self.last = Some(item.key.clone());
        Ok(item)
    }
}
