//! A full disk: on a small file system of its own, in a child process that may
//! mount one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::tests::small;
use super::*;
use crate::engine::conformance::noise;

/// Where the child finds the file system.
const DIR: &str = "SKIFF_TEST_SMALL_DISK";
/// The exit code of a child that may not mount.
const CANNOT: i32 = 77;

#[test]
fn a_full_disk_is_an_error_and_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "mount -t tmpfs -o size=16m tmpfs \"${DIR}\" || exit {CANNOT}; exec timeout 180 \"$0\" \"$@\""
    );
    let mut child = Command::new("unshare");
    child.args(["--mount", "sh", "-c", &script]).arg(std::env::current_exe().expect("this program"));
    child.args(["--exact", "--ignored", "engine::rocks::full_disk::on_a_small_disk"]).env(DIR, dir.path());
    match child.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(CANNOT) || cannot_unshare(&output.stderr) => {
            eprintln!("not run: no right to mount");
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(e) => eprintln!("not run: unshare: {e}"),
    }
}

fn cannot_unshare(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("Operation not permitted")
}

/// Asking for flushes while the disk was full once put off RocksDB's recovery
/// for as long as one went on asking.
#[test]
#[ignore = "run by a_full_disk_is_an_error_and_passes"]
fn on_a_small_disk() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![0; 6 << 20]).expect("take space");
    let engine = RocksEngine::open(&dir.join("db"), &small()).expect("open");
    let write = |i: u32| {
        let mut batch = Batch::default();
        batch.put(Cf::Kv, i.to_be_bytes().to_vec(), noise(i, 1000));
        engine.write(batch)
    };
    let full = (0..20_000).find_map(|i| write(i).err().map(|e| (i, e)));
    let (written, fault) = full.expect("the disk is full");
    assert!(matches!(&fault, Error::Storage(text) if text.contains("No space left")), "{fault}");
    for _ in 0..5 {
        assert!(matches!(engine.flush(), Err(Error::Storage(_))));
        assert!(matches!(engine.checkpoint(&dir.join("copy")), Err(Error::Storage(_))));
        assert!(matches!(engine.reclaim(), Err(Error::Storage(_))));
    }
    fs::remove_file(&ballast).expect("give space back");
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(e) = engine.flush() {
        assert!(Instant::now() < deadline, "still {e}");
        std::thread::sleep(Duration::from_millis(20));
        assert!(engine.snapshot().get(Cf::Kv, &[0; 4]).expect("reads go on").is_some());
    }
    write(written).expect("write again");
    drop(engine);
    let engine = RocksEngine::open(&dir.join("db"), &small()).expect("open again");
    let snapshot = engine.snapshot();
    for i in 0..=written {
        let value = snapshot.get(Cf::Kv, &i.to_be_bytes()).expect("get");
        assert_eq!(value.as_deref(), Some(&noise(i, 1000)[..]));
    }
}
