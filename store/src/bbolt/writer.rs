//! Writing a file.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use super::io_failed;
use super::meta::Meta;
use super::tree::{PAGE, Pages, Tree};
use crate::error::Result;

/// Bytes written at a time.
const BUFFER: usize = 256 << 10;

/// Writes a database: bucket after bucket, in the order of their names. Holds
/// one page of each level of a tree.
pub struct Writer<W: Write + Seek> {
    pages: Pages<BufWriter<W>>,
    buckets: Tree,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins at the beginning of `out`, which is empty.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] where the disk fails.
    pub fn new(out: W) -> Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER, out);
        // The meta pages are written last: until then it is no database.
        out.write_all(&[0; 2 * PAGE]).map_err(io_failed)?;
        Ok(Self { pages: Pages { out, next: 2 }, buckets: Tree::default() })
    }

    /// Writes the next bucket: `fill` gives its pairs in order.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] where the disk fails; [`crate::Error::Other`] where names or
    /// keys are not sorted, or too long; what `fill` fails with.
    pub fn bucket(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut BucketWriter<'_, W>) -> Result<()>,
    ) -> Result<()> {
        let mut bucket = BucketWriter { pages: &mut self.pages, tree: Tree::default() };
        fill(&mut bucket)?;
        let header = bucket.tree.finish_bucket(&mut self.pages)?;
        self.buckets.put_bucket(&mut self.pages, name.as_bytes(), header)
    }

    /// Writes the rest; gives `out` back.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] where the disk fails.
    pub fn finish(self) -> Result<W> {
        let Self { mut pages, buckets } = self;
        let root = buckets.finish(&mut pages)?;
        let freelist = pages.write_freelist()?;
        for transaction in [0, 1] {
            let meta = Meta { page_size: PAGE as u32, root, freelist, pages: pages.next, transaction };
            pages.out.seek(SeekFrom::Start(transaction * PAGE as u64)).map_err(io_failed)?;
            pages.out.write_all(&meta.encode()).map_err(io_failed)?;
        }
        pages.out.into_inner().map_err(|error| io_failed(error.into_error()))
    }
}

/// Writes the pairs of a bucket.
pub struct BucketWriter<'a, W: Write + Seek> {
    pages: &'a mut Pages<BufWriter<W>>,
    tree: Tree,
}

impl<W: Write + Seek> BucketWriter<'_, W> {
    /// Adds a pair, whose key is above all others.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] where the disk fails; [`crate::Error::Other`] where the key
    /// is not above the last one, or something is too long.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.tree.put(self.pages, key, value)
    }
}
