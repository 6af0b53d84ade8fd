//! What is written is read; what is damaged is refused and does no harm.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::conformance::fuzz::mutated;
use crate::error::Result;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<String, Pairs>;

fn written(buckets: &Buckets) -> File {
    let mut writer = Writer::new(tempfile::tempfile().unwrap()).unwrap();
    for (name, pairs) in buckets {
        writer
            .bucket(name, |bucket| pairs.iter().try_for_each(|(key, value)| bucket.put(key, value)))
            .unwrap();
    }
    writer.finish().unwrap()
}

fn open(file: File) -> Result<Database> {
    let len = file.metadata().unwrap().len();
    Database::open(file, len)
}

/// Everything in a file, each bucket as deep as `depth` levels.
fn read(file: File) -> Result<Buckets> {
    let database = open(file)?;
    let mut buckets = database.buckets()?;
    let mut all = Buckets::new();
    while let Some(item) = buckets.next()? {
        let Value::Bucket(bucket) = item.value else { continue };
        let mut cursor = database.cursor(&bucket)?;
        let mut pairs = Pairs::new();
        while let Some(item) = cursor.next()? {
            if let Value::Bytes(value) = item.value {
                pairs.insert(item.key.to_vec(), value.to_vec());
            }
        }
        all.insert(String::from_utf8_lossy(&item.key).into_owned(), pairs);
    }
    Ok(all)
}

fn bytes_of(file: File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Pairs enough for two levels of branches.
fn many(count: u32) -> Pairs {
    (0..count).map(|n| (format!("{n:0>40}").into_bytes(), vec![n as u8; n as usize % 90])).collect()
}

fn any_buckets() -> impl Strategy<Value = Buckets> {
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (0usize..20_000).prop_map(|len| vec![7; len]),
    ];
    let pairs = prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..200), value, 0..120);
    prop::collection::btree_map("[a-z]{1,12}", pairs, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read(buckets in any_buckets()) {
        prop_assert_eq!(read(written(&buckets)).unwrap(), buckets);
    }

    #[test]
    fn strange_files_never_panic_nor_go_on_for_ever(buckets in any_buckets(), seed in any::<u64>()) {
        let _ = read(file_of(&mutated(&bytes_of(written(&buckets)), seed)));
    }

    /// Damage to the first bytes of a page: to what says where things are.
    #[test]
    fn strange_pages_never_panic_nor_go_on_for_ever(
        page in 2usize..40, at in 0usize..200, byte in prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()],
    ) {
        let mut bytes = bytes_of(written(&[("key".to_owned(), many(600))].into()));
        let at = page * 4096 + at;
        if at < bytes.len() {
            bytes[at] = byte;
            let _ = read(file_of(&bytes));
        }
    }
}

#[test]
fn trees_of_several_levels_and_large_values() {
    let mut pairs = many(30_000);
    pairs.insert(b"zz".to_vec(), vec![9; 3 << 20]);
    pairs.insert(b"zzz".to_vec(), vec![]);
    let buckets = Buckets::from([("key".to_owned(), pairs), ("empty".to_owned(), Pairs::new())]);
    assert_eq!(read(written(&buckets)).unwrap(), buckets);
}

#[test]
fn keys_out_of_order_are_not_written() {
    let mut writer = Writer::new(tempfile::tempfile().unwrap()).unwrap();
    let twice = writer.bucket("b", |bucket| {
        bucket.put(b"k", b"")?;
        bucket.put(b"k", b"")
    });
    assert!(twice.unwrap_err().to_string().contains("out of order"));
}

#[test]
fn the_newer_meta_page_counts_and_a_damaged_one_does_not() {
    let buckets = Buckets::from([("key".to_owned(), many(10))]);
    let whole = bytes_of(written(&buckets));
    for page in [0, 1] {
        let mut bytes = whole.clone();
        bytes[page * 4096 + 40] ^= 1;
        assert_eq!(read(file_of(&bytes)).unwrap(), buckets, "meta page {page} damaged");
        bytes[(1 - page) * 4096 + 40] ^= 1;
        let error = read(file_of(&bytes)).unwrap_err().to_string();
        assert!(error.contains("neither meta page"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let whole = bytes_of(written(&[("key".to_owned(), many(1000))].into()));
    let error = read(file_of(&whole[..whole.len() - 1])).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

/// The page of the first element of a branch.
fn first_child(bytes: &mut [u8], page: usize) -> &mut [u8] {
    let at = page * 4096 + 16 + 8;
    &mut bytes[at..at + 8]
}

#[test]
fn a_page_that_leads_to_itself_or_twice_to_another_is_refused() {
    let whole = bytes_of(written(&[("key".to_owned(), many(600))].into()));
    let pages = whole.len() / 4096;
    let branch = (2..pages).find(|page| whole[page * 4096 + 8] == 1).unwrap();
    let mut bytes = whole.clone();
    first_child(&mut bytes, branch).copy_from_slice(&(branch as u64).to_le_bytes());
    let error = read(file_of(&bytes)).unwrap_err().to_string();
    assert!(error.contains("deeper than"), "{error}");

    let mut bytes = whole.clone();
    let second = 3u64;
    first_child(&mut bytes, branch).copy_from_slice(&second.to_le_bytes());
    let error = read(file_of(&bytes)).unwrap_err().to_string();
    assert!(error.contains("out of order"), "{error}");

    // Leaves without keys, which would be met again and again.
    let mut bytes = whole;
    bytes[2 * 4096 + 10..2 * 4096 + 12].fill(0);
    let error = read(file_of(&bytes)).unwrap_err().to_string();
    assert!(error.contains("no elements"), "{error}");
}

#[test]
fn a_declared_length_is_not_believed() {
    let whole = bytes_of(written(&[("key".to_owned(), many(600))].into()));
    let mut overflow = whole.clone();
    overflow[2 * 4096 + 12..2 * 4096 + 16].fill(0xff);
    let mut count = whole.clone();
    count[2 * 4096 + 10..2 * 4096 + 12].fill(0xff);
    let mut length = whole;
    length[2 * 4096 + 16 + 12..2 * 4096 + 16 + 16].fill(0xff);
    for bytes in [overflow, count, length] {
        assert!(matches!(read(file_of(&bytes)), Err(crate::Error::Corruption(_))));
    }
}
