//! Truncates and flips bytes in the files of a stopped member. Started again, it either serves everything
//! or refuses with a message that names the file; it never serves anything wrong.
//!
//! What cannot be told from a crash may be lost: entries cut off the end of the log of a single member.
//!
//! `SKIFF_CORRUPTION_SEED` and `SKIFF_CORRUPTION_ROUNDS` choose the damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Member, Program, Rng, Scratch};

const KEYS: i64 = 400;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder of the member").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).is_ok_and(|data| data.len() > 0) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// False for files whose damage can do no harm: notes, locks, options, files made ready for later.
fn holds_data(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    !["LOG", "LOCK", "IDENTITY", "OPTIONS", "spare-"].iter().any(|harmless| name.starts_with(harmless))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder of the member").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[derive(Debug)]
enum Damage {
    Truncated,
    Flipped,
}

/// Damages a file, within the bytes that were ever written.
fn damage(rng: &mut Rng, file: &Path) -> Damage {
    let mut bytes = fs::read(file).expect("a file of the member");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = rng.below(used as u64) as usize;
    let damage = if rng.chance(35) {
        bytes.truncate(at);
        Damage::Truncated
    } else {
        bytes[at] ^= 1 << rng.below(8);
        Damage::Flipped
    };
    fs::write(file, bytes).expect("the damage is done");
    damage
}

/// What a started member shows: its revision, when everything up to it is right.
async fn shown(member: &Member) -> Result<i64, String> {
    let request = RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
    let answer = member.client().range(request).await.map_err(|error| error.to_string())?;
    let revision = answer.header.map(|header| header.revision).unwrap_or_default();
    if answer.kvs.len() as i64 != revision - 1 {
        return Err(format!("WRONG: {} keys at revision {revision}", answer.kvs.len()));
    }
    for kv in &answer.kvs {
        let number: i64 =
            String::from_utf8_lossy(&kv.key[1..]).parse().map_err(|_| "WRONG: a key".to_owned())?;
        let right = kv.mod_revision == number + 2 && kv.value == value(number) && kv.version == 1;
        if !right {
            return Err(format!("WRONG: {kv:?}"));
        }
    }
    Ok(revision)
}

fn value(number: i64) -> String {
    format!("value {number} ").repeat(8)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_never_served() {
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    if subject.is_etcd() {
        return;
    }
    let seed = Rng::seed_from_env("SKIFF_CORRUPTION_SEED");
    println!("SKIFF_CORRUPTION_SEED={seed}");
    let rounds: u64 =
        std::env::var("SKIFF_CORRUPTION_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("corruption");
    let mut member = Member::single(subject, &scratch.path().join("m")).await.expect("it starts");
    let client = member.client();
    for number in 0..KEYS {
        let key = format!("k{number}").into();
        let request = PutRequest { key, value: value(number).into(), ..PutRequest::default() };
        client.put(request).await.expect("a write");
        if number == KEYS / 2 {
            // Half of it comes from the state's files, half from the log.
            member.stop().await.expect("it stops");
            member.start().expect("it starts");
            member.ready().await.expect("it answers");
        }
    }
    member.kill();
    let data = member.data_dir();
    let original = scratch.path().join("original");
    copy(&data, &original);
    let (mut served, mut shorter, mut refused) = (0, 0, 0);
    for round in 0..rounds {
        fs::remove_dir_all(&data).expect("the last round's files go");
        copy(&original, &data);
        let mut all = files(&data);
        all.retain(|file| holds_data(file));
        let file = rng.pick(&all).clone();
        let damage = damage(&mut rng, &file);
        let name = file.strip_prefix(&data).expect("a file of the member").display().to_string();
        let what = format!("round {round}: {damage:?} {name}");
        member.clear_log();
        member.start().expect("the process starts");
        let outcome = outcome(&mut member).await;
        match outcome {
            Ok(revision) if revision == KEYS + 1 => served += 1,
            Ok(revision) => {
                // The end of the log is gone, as after a crash; one entry at most for a single flipped bit.
                let log = !name.ends_with(".sst") && !name.contains("state");
                let least = match damage {
                    Damage::Truncated => 1,
                    Damage::Flipped => KEYS,
                };
                assert!(log && revision >= least, "{what}: everything after revision {revision} is gone");
                shorter += 1;
            }
            Err(Refusal::Ended(text)) => {
                // RocksDB does not always say which of its files it is: then the folder has to do.
                let folder = file.parent().filter(|_| name.contains("/state/"));
                let names = [Some(file.as_path()), folder].into_iter().flatten().filter_map(Path::file_name);
                let named = names.into_iter().any(|name| text.contains(&*name.to_string_lossy()));
                assert!(named, "{what}: the message does not name the file:\n{text}");
                refused += 1;
            }
            Err(Refusal::Wrong(error)) => panic!("{what}: {error}\n{}", member.log_tail(20)),
        }
        member.kill();
    }
    println!("{served} served everything, {shorter} lost the end of the log, {refused} refused");
}

enum Refusal {
    /// The process ended by itself, or answers that data is corrupt: with what message.
    Ended(String),
    /// It serves something wrong, or nothing.
    Wrong(String),
}

/// Waits until the member answers or ends.
async fn outcome(member: &mut Member) -> Result<i64, Refusal> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if !matches!(member.exited(), Ok(None)) {
            return Err(Refusal::Ended(member.log_tail(50)));
        }
        match shown(member).await {
            Ok(revision) => return Ok(revision),
            Err(error) if error.contains("corrupt data") => return Err(Refusal::Ended(error)),
            Err(error) if error.contains("WRONG") || Instant::now() > deadline => {
                return Err(Refusal::Wrong(error));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
