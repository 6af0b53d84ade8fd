//! Damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use skiff_test_support::{Member, Program, Rng, Scratch};

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named() {
    let scratch = Scratch::new("util-damage");
    let mut member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    write(&mut member).await;
    // Everything into the tables and the index file, then a bit more of log.
    member.stop().await.expect("it stops");
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    put(&member.client(), "one", "more", 0).await;
    member.kill();
    let data = member.data_dir();
    for file in contents(&data).into_keys().filter(|file| path(file).contains("/wal/spare-")) {
        fs::remove_file(file).expect("a removal");
    }
    let original = scratch.path().join("original");
    copy(&data, &original);
    let seed = Rng::seed_from_env("SKIFF_UTIL_SEED");
    println!("SKIFF_UTIL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut found = 0;
    let candidates: Vec<PathBuf> = contents(&data).into_keys().filter(|file| holds_data(file)).collect();
    for file in &candidates {
        for damage in ["flip", "cut", "gone"] {
            fs::remove_dir_all(&data).expect("the last round's files go");
            copy(&original, &data);
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            let mut bytes = fs::read(file).expect("a file");
            // What counts of a segment is at its beginning.
            let used = if name.ends_with(".wal") { 4096 + 200 } else { bytes.len() };
            match damage {
                "flip" => {
                    let at = rng.below(used.min(bytes.len()) as u64) as usize;
                    // The rest of a segment's first block is not used.
                    let at = if name.ends_with(".wal") && at >= 60 { 4096 + at % 40 } else { at };
                    // Not the bit by which letters differ in case: a checksum is read either way.
                    bytes[at] ^= 1 << rng.below(5);
                    fs::write(file, bytes).expect("a write");
                }
                "cut" => fs::write(file, &bytes[..bytes.len() / 2]).expect("a write"),
                _ => fs::remove_file(file).expect("a removal"),
            }
            let before = contents(&data);
            let done = util(&["verify", path(&data)]);
            assert!(contents(&data) == before, "{damage} {name}: verify changed something");
            if done.code == 0 {
                // An index file may be missing; RocksDB's tables end with bytes that nothing reads, and a
                // manifest's last record may be torn: the log then holds what it told of.
                let harmless = (damage == "gone" && name == "index")
                    || (damage == "flip" && name.ends_with(".sst"))
                    || (damage != "gone" && name.starts_with("MANIFEST-"))
                    || (damage == "cut" && name.ends_with(".wal"));
                assert!(harmless, "{damage} {name} was not found:\n{}", done.stdout);
                continue;
            }
            found += 1;
            assert_eq!(done.code, 1, "{damage} {name}: {}", done.stderr);
            assert!(!done.stderr.contains("panicked"), "{damage} {name}: {}", done.stderr);
            let folder =
                file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
            let folder_named = |folder: &str| done.stderr.contains(&format!("/{folder}"));
            let named = done.stderr.contains(name)
                || ((folder.starts_with("db-") || damage == "gone") && folder_named(folder));
            assert!(named, "{damage} {name} is not named: {}", done.stderr);
        }
    }
    assert!(found >= candidates.len(), "{found} of {} damaged files found", 3 * candidates.len());
}

fn holds_data(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "CURRENT" | "metadata" | "index")
        || name.ends_with(".wal")
        || name.ends_with(".sst")
        || name.starts_with("MANIFEST-")
}
