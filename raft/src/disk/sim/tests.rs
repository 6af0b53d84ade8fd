use super::*;

fn path() -> PathBuf {
    PathBuf::from("/d/f")
}

#[test]
fn a_crash_keeps_what_was_synced_and_old_or_new_sectors_of_the_rest() {
    let mut kept_old = false;
    let mut kept_new = false;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.create(&path()).expect("create");
        file.write_at(&[1; 2 * SECTOR_BYTES], 0).expect("write");
        file.sync().expect("sync");
        disk.sync_dir(Path::new("/d")).expect("sync directory");
        file.write_at(&[2; SECTOR_BYTES], SECTOR_BYTES as u64).expect("write");
        disk.crash();
        assert!(file.len().is_err(), "handles die with the machine");
        let bytes = disk.contents(&path()).expect("file is there");
        assert!(bytes[..SECTOR_BYTES].iter().all(|&b| b == 1));
        let second = &bytes[SECTOR_BYTES..];
        kept_old |= second.iter().all(|&b| b == 1);
        kept_new |= second.iter().all(|&b| b == 2);
    }
    assert!(kept_old && kept_new);
}

#[test]
fn names_need_the_directory_synced() {
    let lost = (0..50).any(|seed| {
        let disk = SimDisk::new(seed);
        disk.create(&path()).expect("create");
        disk.crash();
        disk.contents(&path()).is_none()
    });
    assert!(lost);
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let disk = SimDisk::new(1);
    let file = disk.create(&path()).expect("create");
    file.write_at(&[1; 100], 0).expect("write");
    disk.set_capacity(100);
    file.write_at(&[2; 100], 0).expect("overwrite in place");
    let err = file.write_at(&[3; 1], 100).err().map(|e| e.kind());
    assert_eq!(err, Some(io::ErrorKind::StorageFull));
}

#[test]
fn bytes_of_a_failed_sync_are_not_saved_by_the_next() {
    let lost = (0..50).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = disk.create(&path()).expect("create");
        disk.sync_dir(Path::new("/d")).expect("sync directory");
        file.write_at(&[7; SECTOR_BYTES], 0).expect("write");
        disk.inject(Fault::FailSyncs(1));
        assert!(file.sync().is_err());
        file.sync().expect("the next sync has nothing to do");
        disk.crash();
        disk.contents(&path()).is_none_or(|bytes| bytes.is_empty())
    });
    assert!(lost);
}
