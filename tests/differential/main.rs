//! Differential test: the same random sequences drive a real etcd and this project's server; every answer
//! is compared field by field, error codes and texts included.
//!
//! Both servers start fresh and see the same steps, so that even absolute revisions agree. A run is made of
//! blocks: a block is a fresh pair of servers and some sequences of one kind: of keys, of users, or of locks
//! and elections, with auth or without. Some of the steps go through the JSON gateway of both. Environment:
//!
//! * `SKIFF_DIFF_SEQUENCES`: how many sequences of keys to run, and of the others in proportion.
//! * `SKIFF_DIFF_SEED`: the seed of the run, `random` for another one each time; without it the same one, so
//!   that a change is judged by what it changes. A failure prints it and how to replay its sequence alone.
//! * `SKIFF_DIFF_SQL_BLOCKS`: how many blocks to run over each SQL database.
//! * `SKIFF_DIFF_BLOCK`: run only this block of the run.
//! * `SKIFF_DIFF_WORKERS`: how many blocks at once.
//! * `SKIFF_DIFF_FAILURES`: stop after this many failures.
//! * `SKIFF_TEST_SUBJECT`: examine another binary, or `etcd` itself.

#[path = "../../store/sql/tests/support/mod.rs"]
mod databases;

mod answer;
mod call;
mod generate;
mod known;
mod line;
mod op;
mod pair;
mod queues;
mod sessions;
mod shrink;
mod side;
mod users;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pair::{Difference, Pair};
use skiff_test_support::{Program, Rng};

/// What the sequences of a block are about.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Keys,
    Users,
    Queues,
    GuardedQueues,
}

use Kind::{GuardedQueues, Keys, Queues, Users};

/// The kinds of blocks, in turn.
const KINDS: [Kind; 12] =
    [Keys, Users, Keys, Queues, Keys, Users, GuardedQueues, Keys, Queues, Users, GuardedQueues, Keys];
/// Sequences of a block of keys.
const BLOCK: u64 = 50;

impl Kind {
    /// Sequences on one pair of servers: no more than one where users are left behind.
    fn sequences(self) -> u64 {
        match self {
            Keys => BLOCK,
            Queues => 4,
            Users | GuardedQueues => 1,
        }
    }

    fn sequence(self, rng: &mut Rng, number: u64) -> Vec<op::Step> {
        match self {
            Keys => generate::sequence(rng, number),
            Users => users::sequence(rng),
            Queues => queues::sequence(rng, false),
            GuardedQueues => queues::sequence(rng, true),
        }
    }
}

/// How many blocks hold so many sequences of keys, and the others in proportion.
fn blocks(sequences: u64) -> u64 {
    let keys = KINDS.iter().filter(|kind| matches!(kind, Keys)).count() as u64;
    sequences.div_ceil(BLOCK * keys) * KINDS.len() as u64
}

/// What must have come up for a run to be worth something.
const SEEN: &[&str] = &[
    "Lock: answered",
    "Lock as JSON: answered",
    "Campaign as JSON: answered",
    "LogIn as JSON: answered",
    "Range as JSON: answered",
    "Txn as JSON: answered",
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
    "etcdserver: requested lease not found",
    "etcdserver: key is not provided",
    "etcdserver: request is too large",
    "election: not leader",
    "election: no leader",
    "mutex: session is expired",
    "\"leader\" field must be provided",
];

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
    /// The kinds of blocks, in turn.
    kinds: &'static [Kind],
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
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    let run = compare(subject, &KINDS, blocks(setting("SKIFF_DIFF_SEQUENCES", 1000))).await;
    let tally = run.tally.lock().expect("a worker of the test panicked");
    if run.only.is_none() {
        for what in SEEN {
            assert!(tally.keys().any(|kind| kind.contains(what)), "no step was answered {what:?}");
        }
    }
}

/// The same over each SQL database: what is compared above is the API and the state machine, here it is
/// what lies below.
mod over_sql {
    use super::databases::{Disk, MariadbServer, MysqlServer, PostgresServer};
    use super::*;

    async fn answers_equal(endpoint: String) {
        let subject = Program::Kine { binary: env!("CARGO_BIN_EXE_skiff").into(), endpoint };
        compare(subject, &[Keys, Queues, Keys], setting("SKIFF_DIFF_SQL_BLOCKS", 3)).await;
    }

    /// Skipped, said loudly, where there is no MySQL. Much of it is MariaDB's: one block is enough.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mysql() {
        let server = tokio::task::block_in_place(|| MysqlServer::start(Disk::Relaxed));
        let Some(server) = server else { return };
        let endpoint = server.endpoint("{fresh}");
        let subject = Program::Kine { binary: env!("CARGO_BIN_EXE_skiff").into(), endpoint };
        compare(subject, &[Keys], setting("SKIFF_DIFF_SQL_BLOCKS", 1)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        let scratch = skiff_test_support::Scratch::new("differential-sqlite");
        answers_equal(format!("sqlite://{}/{{fresh}}.db", scratch.path().display())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let server = tokio::task::block_in_place(|| PostgresServer::start(Disk::Relaxed));
        answers_equal(server.endpoint("{fresh}")).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb() {
        let server = tokio::task::block_in_place(|| MariadbServer::start(Disk::Relaxed));
        answers_equal(server.endpoint("{fresh}")).await;
    }
}

/// Compares a subject with etcd, in so many blocks of some kinds.
async fn compare(subject: Program, kinds: &'static [Kind], blocks: u64) -> Arc<Run> {
    let run = Arc::new(Run {
        seed: seed(),
        kinds,
        blocks,
        next: AtomicU64::new(0),
        sequences: AtomicU64::new(0),
        steps: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        most_failures: setting("SKIFF_DIFF_FAILURES", 1),
        only: std::env::var("SKIFF_DIFF_BLOCK").ok().and_then(|text| text.parse().ok()),
        subject,
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
    run
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
    let kind = run.kinds[(block % run.kinds.len() as u64) as usize];
    for number in 0..kind.sequences() {
        if run.failures.load(Ordering::SeqCst) >= run.most_failures {
            return;
        }
        let mut rng = Rng::derive(run.seed, block * BLOCK + number);
        let steps = kind.sequence(&mut rng, number);
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
async fn report(run: &Run, block: u64, number: u64, mut steps: Vec<op::Step>, first: Difference) {
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
