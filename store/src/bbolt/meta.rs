//! Meta pages: where everything begins.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::{Buf, BufMut};

use super::page::{HEADER, META};
use super::{damaged, io_failed};
use crate::error::Result;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta page that count, its header included.
const META_LEN: usize = HEADER + BODY + 8;
/// Bytes that the checksum covers.
const BODY: usize = 56;
/// Sizes of pages: where the second meta page may lie.
const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// What a meta page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    /// Page of the tree of buckets.
    pub(super) root: u64,
    /// Page of the list of free pages.
    pub(super) freelist: u64,
    /// Pages in the file that are used.
    pub(super) pages: u64,
    /// Transaction that wrote it; it lies in page 0 or 1 by turns.
    pub(super) transaction: u64,
}

impl Meta {
    /// The page, without what pads it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_LEN);
        out.put_u64_le(self.transaction % 2);
        out.put_u16_le(META);
        out.put_u16_le(0);
        out.put_u32_le(0);
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.page_size);
        out.put_u32_le(0);
        out.put_u64_le(self.root);
        // The sequence of the tree of buckets: nobody counts there.
        out.put_u64_le(0);
        out.put_u64_le(self.freelist);
        out.put_u64_le(self.pages);
        out.put_u64_le(self.transaction);
        let sum = fnv1a(&out[HEADER..]);
        out.put_u64_le(sum);
        out
    }

    /// What the page says; `None` where it is no valid meta page.
    fn decode(page: &[u8; META_LEN]) -> Option<Self> {
        let mut rest = &page[HEADER..];
        let sum = fnv1a(&rest[..BODY]);
        let (magic, version, page_size, _flags) =
            (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        let (root, _sequence, freelist, pages, transaction) =
            (rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le(), rest.get_u64_le());
        let valid = magic == MAGIC
            && version == VERSION
            && rest.get_u64_le() == sum
            && PAGE_SIZES.contains(&page_size);
        valid.then_some(Self { page_size, root, freelist, pages, transaction })
    }

    /// The meta page that counts.
    pub(super) fn find(file: &File, len: u64) -> Result<Self> {
        let first = read(file, 0, len)?.as_ref().and_then(Meta::decode);
        // Where the first is damaged, its page size is not known either.
        let sizes =
            PAGE_SIZES.iter().copied().filter(|size| first.is_none_or(|meta| meta.page_size == *size));
        let mut newest = first;
        for size in sizes {
            let page = read(file, u64::from(size), len)?;
            let second = page.as_ref().and_then(Meta::decode).filter(|meta| meta.page_size == size);
            newest = newest.into_iter().chain(second).max_by_key(|meta| meta.transaction);
        }
        newest.ok_or_else(|| damaged("neither meta page is valid"))
    }
}

/// Whether a file is meant to be one: its first or second page says so.
///
/// # Errors
/// The disk fails.
pub fn is_bbolt(file: &File) -> Result<bool> {
    let len = file.metadata().map_err(io_failed)?.len();
    for at in std::iter::once(0).chain(PAGE_SIZES.map(u64::from)) {
        if let Some(page) = read(file, at, len)?
            && page[HEADER..].starts_with(&MAGIC.to_le_bytes())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(file: &File, at: u64, len: u64) -> Result<Option<[u8; META_LEN]>> {
    if at + META_LEN as u64 > len {
        return Ok(None);
    }
    let mut page = [0; META_LEN];
    file.read_exact_at(&mut page, at).map_err(io_failed)?;
    Ok(Some(page))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
