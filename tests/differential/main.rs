//! Differential test: the same random sequences drive a real etcd and this project's server; every answer
//! is compared field by field, error codes and texts included.
//!
//! Both servers start fresh and see the same steps, so that even absolute revisions agree. A run is made of
//! blocks: a block is a fresh pair of servers and some sequences. Environment:
//!
//! * `SKIFF_DIFF_SEQUENCES`: how many sequences to run.
//! * `SKIFF_DIFF_SEED`: the seed of the run, `random` for another one each time; without it the same one, so
//!   that a change is judged by what it changes. A failure prints it and how to replay its sequence alone.
//! * `SKIFF_DIFF_BLOCK`: run only this block of the run.
//! * `SKIFF_DIFF_WORKERS`: how many blocks at once.
//! * `SKIFF_DIFF_FAILURES`: stop after this many failures.
//! * `SKIFF_TEST_SUBJECT`: examine another binary, or `etcd` itself.

mod answer;
mod generate;
mod known;
mod op;
mod pair;
mod shrink;
mod side;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pair::{Difference, Pair};
use skiff_test_support::{Program, Rng};

/// Sequences on one pair of servers.
const BLOCK: u64 = 50;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seed asked for; by default always the same.
fn seed() -> u64 {
    match std::env::var("SKIFF_DIFF_SEED").as_deref() {
        Err(_) => 20_261_122,
        Ok("random") => Rng::seed_from_env("SKIFF_DIFF_SEED_RANDOM"),
        Ok(_) => Rng::seed_from_env("SKIFF_DIFF_SEED"),
    }
}

/// What the workers of a run share.
struct Run {
    seed: u64,
    blocks: u64,
    next: AtomicU64,
    sequences: AtomicU64,
    steps: AtomicU64,
    failures: AtomicU64,
    most_failures: u64,
    only: Option<u64>,
    subject: Program,
    tally: Mutex<BTreeMap<String, u64>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_equal_etcds() {
    let run = Arc::new(Run {
        seed: seed(),
        blocks: setting("SKIFF_DIFF_SEQUENCES", 2000).div_ceil(BLOCK),
        next: AtomicU64::new(0),
        sequences: AtomicU64::new(0),
        steps: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        most_failures: setting("SKIFF_DIFF_FAILURES", 1),
        only: std::env::var("SKIFF_DIFF_BLOCK").ok().and_then(|text| text.parse().ok()),
        subject: Program::subject(env!("CARGO_BIN_EXE_skiff")),
        tally: Mutex::new(BTreeMap::new()),
    });
    println!("SKIFF_DIFF_SEED={}", run.seed);
    let workers: Vec<_> =
        (0..setting("SKIFF_DIFF_WORKERS", 4)).map(|_| tokio::spawn(worker(run.clone()))).collect();
    for worker in workers {
        worker.await.expect("a worker of the test panicked");
    }
    println!(
        "{} sequences, {} steps",
        run.sequences.load(Ordering::SeqCst),
        run.steps.load(Ordering::SeqCst)
    );
    for (kind, count) in run.tally.lock().expect("a worker of the test panicked").iter() {
        println!("{count:8} {kind}");
    }
    let failures = run.failures.load(Ordering::SeqCst);
    assert!(failures == 0, "{failures} sequences differ; run again with SKIFF_DIFF_SEED={}", run.seed);
}

async fn worker(run: Arc<Run>) {
    loop {
        let block = run.next.fetch_add(1, Ordering::SeqCst);
        if block >= run.blocks || run.failures.load(Ordering::SeqCst) >= run.most_failures {
            return;
        }
        if run.only.is_none_or(|only| only == block) {
            run_block(&run, block).await;
        }
    }
}

/// Runs the sequences of a block up to its first difference.
async fn run_block(run: &Run, block: u64) {
    let mut pair = match Pair::start(&run.subject).await {
        Ok(pair) => pair,
        Err(fault) => {
            run.failures.fetch_add(1, Ordering::SeqCst);
            eprintln!("block {block}: cannot start the servers: {fault}");
            return;
        }
    };
    for number in 0..BLOCK {
        if run.failures.load(Ordering::SeqCst) >= run.most_failures {
            return;
        }
        let mut rng = Rng::derive(run.seed, block * BLOCK + number);
        let steps = generate::sequence(&mut rng, number);
        match pair.run(&steps).await {
            Ok(()) => {
                run.sequences.fetch_add(1, Ordering::SeqCst);
                run.steps.fetch_add(steps.len() as u64, Ordering::SeqCst);
                let mut tally = run.tally.lock().expect("a worker of the test panicked");
                for (kind, count) in std::mem::take(&mut pair.tally) {
                    *tally.entry(kind).or_default() += count;
                }
            }
            Err(difference) => {
                run.failures.fetch_add(1, Ordering::SeqCst);
                drop(pair);
                report(run, block, number, steps, difference).await;
                return;
            }
        }
    }
}

/// Prints a failure: as small as it gets on fresh servers, or the whole block when it needs that.
async fn report(run: &Run, block: u64, number: u64, mut steps: Vec<op::Op>, first: Difference) {
    steps.truncate(first.step + 1);
    let difference = shrink::shrink(&run.subject, steps, first.clone()).await;
    let mut text = format!(
        "=== sequence {number} of block {block} differs; replay the block with\n    SKIFF_DIFF_SEED={} SKIFF_DIFF_BLOCK={block}\n",
        run.seed
    );
    match difference {
        Some(difference) => {
            text += "on fresh servers, these steps are enough (as sent to etcd):\n";
            for (index, step) in difference.sent.iter().enumerate() {
                text += &format!("  {index}: {step:?}").chars().take(700).collect::<String>();
                text.push('\n');
            }
            text += &difference.text;
        }
        None => {
            text += "it does not differ on fresh servers; as it was in the block:\n";
            text += &first.text;
        }
    }
    eprintln!("{text}\n");
}
