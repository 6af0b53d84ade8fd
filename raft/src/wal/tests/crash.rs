//! Random writes and crashes against a model: what was reported durable is
//! there, in order, and nothing that was not written.

use proptest::prelude::*;

use super::*;
use crate::disk::Fault;

/// The log as the model sees it after some write.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    vote: Option<Bytes>,
    purged: Option<LogId>,
    entries: Vec<LogEntry>,
}

impl Model {
    fn of(wal: &Wal) -> Self {
        Self { vote: wal.vote(), purged: wal.purged(), entries: read_all(wal) }
    }

    fn next_index(&self) -> u64 {
        let purged = self.purged.map_or(1, |id| id.index + 1);
        self.entries.last().map_or(purged, |entry| entry.id.index + 1)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: u64,
        size: usize,
    },
    Vote,
    /// Removes that many entries from the end.
    Truncate(u64),
    /// Removes that many entries from the front, or goes beyond the end.
    Purge(u64),
    Committed,
    /// Waits for everything written so far.
    Settle,
    Inject(Fault),
    Restart(Stop),
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    Close,
    Kill,
    Crash,
    /// A process whose syncs fail is killed, restarted, and the power goes.
    KillThenCrash,
    /// The power goes, and again after so many changes of the recovery.
    CrashTwice(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let stop = prop_oneof![
        1 => Just(Stop::Close),
        1 => Just(Stop::Kill),
        3 => Just(Stop::Crash),
        2 => Just(Stop::KillThenCrash),
        2 => (0..12u32).prop_map(Stop::CrashTwice),
    ];
    prop_oneof![
        8 => (1..12u64, 0..3000usize).prop_map(|(count, size)| Step::Append { count, size }),
        2 => Just(Step::Vote),
        2 => (1..20u64).prop_map(Step::Truncate),
        2 => (1..60u64).prop_map(Step::Purge),
        1 => Just(Step::Committed),
        3 => Just(Step::Settle),
        1 => (1..4u32).prop_map(|n| Step::Inject(Fault::FailSyncs(n))),
        1 => (1..4u32).prop_map(|n| Step::Inject(Fault::FailWrites(n))),
        1 => (0..30u32).prop_map(|n| Step::Inject(Fault::LosePowerAfter(n))),
        3 => stop.prop_map(Step::Restart),
    ]
}

struct Run {
    disk: SimDisk,
    wal: Wal,
    /// The states since the last restart, oldest first; the last is the current one.
    states: Vec<Model>,
    /// For writes with a callback: the number of their state.
    pending: Vec<(usize, Receiver<std::io::Result<()>>)>,
    term: u64,
    /// Every committed id ever saved.
    committed: Vec<LogId>,
    powerless: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let wal = open(&disk).expect("open a new log");
        let states = vec![Model::default()];
        Self { disk, wal, states, pending: Vec::new(), term: 1, committed: Vec::new(), powerless: false }
    }

    fn now(&self) -> Model {
        self.states.last().expect("there is a state").clone()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { count, size } => self.append(count, size),
            Step::Vote => self.vote(),
            Step::Truncate(count) => self.truncate(count),
            Step::Purge(count) => self.purge(count),
            Step::Committed => {
                if let Some(last) = self.wal.last() {
                    self.wal.save_committed(last).expect("save committed");
                    self.committed.push(last);
                }
            }
            // Without power nothing settles.
            Step::Settle if self.powerless => {}
            Step::Settle => {
                // Writes behind the last one that reports may still be queued.
                let durable = self.pending.last().map_or(0, |(state, _)| *state);
                for (_, reports) in self.pending.drain(..) {
                    wait(&reports).expect("durable");
                }
                self.states.drain(..durable);
            }
            Step::Inject(fault) => {
                self.powerless |= matches!(fault, Fault::LosePowerAfter(_));
                self.disk.inject(fault);
            }
            Step::Restart(stop) => self.restart(stop),
        }
    }

    fn append(&mut self, count: u64, size: usize) {
        let (done, reports) = done();
        let mut now = self.now();
        let first = now.next_index();
        let entries: Vec<LogEntry> = (first..first + count).map(|i| entry(self.term, i, size)).collect();
        append(&self.wal, entries.clone(), done).expect("append");
        // A large append takes several batches: any part of it may survive.
        for entry in entries {
            now.entries.push(entry);
            self.states.push(now.clone());
        }
        self.pending.push((self.states.len() - 1, reports));
    }

    fn vote(&mut self) {
        let (done, reports) = done();
        self.term += 1;
        let vote = Bytes::from(format!("vote in term {}", self.term));
        self.wal.save_vote(vote.clone(), done).expect("save vote");
        let now = self.now();
        self.states.push(Model { vote: Some(vote), ..now });
        self.pending.push((self.states.len() - 1, reports));
    }

    fn truncate(&mut self, count: u64) {
        let mut now = self.now();
        let keep = now.entries.len().saturating_sub(count as usize);
        let index = now.next_index() - (now.entries.len() - keep) as u64;
        self.term += 1;
        self.wal.truncate_from(index).expect("truncate");
        now.entries.truncate(keep);
        self.states.push(now);
    }

    fn purge(&mut self, count: u64) {
        let mut now = self.now();
        let first = now.entries.first().map_or(now.next_index(), |entry| entry.id.index);
        let id = id(self.term, first + count - 1);
        self.wal.purge(id).expect("purge");
        now.entries.retain(|entry| entry.id.index > id.index);
        now.purged = Some(id);
        self.states.push(now);
    }

    fn restart(&mut self, stop: Stop) {
        assert_eq!(Model::of(&self.wal), self.now(), "readers see every write at once");
        match stop {
            Stop::Close if !self.powerless => self.wal.close(),
            Stop::Close | Stop::Crash => self.disk = self.disk.crash(),
            Stop::Kill if !self.powerless => self.disk = self.disk.kill(),
            Stop::Kill => self.disk = self.disk.crash(),
            Stop::KillThenCrash => {
                if !self.powerless {
                    self.disk = self.disk.kill();
                    self.reopen();
                }
                self.disk = self.disk.crash();
            }
            Stop::CrashTwice(changes) => {
                self.disk = self.disk.crash();
                self.disk.inject(Fault::LosePowerAfter(changes));
                match open(&self.disk) {
                    Ok(wal) => wal.close(),
                    Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
                }
                self.disk = self.disk.crash();
            }
        }
        self.reopen();
    }

    /// Opens the log again and checks what is there against the model.
    fn reopen(&mut self) {
        self.powerless = false;
        self.wal.close();
        let reports: Vec<(usize, bool)> =
            self.pending.drain(..).map(|(state, reports)| (state, wait(&reports).is_ok())).collect();
        assert!(reports.is_sorted_by_key(|(_, ok)| !ok), "no write is durable before an earlier one");
        let durable = reports.iter().rfind(|(_, ok)| *ok).map_or(0, |(state, _)| *state);
        self.wal = open_at_last(&self.disk);
        let found = Model::of(&self.wal);
        let state = self.states[durable..].iter().position(|state| *state == found);
        assert!(state.is_some(), "found {found:?}\nexpected one of {:?}", &self.states[durable..]);
        self.states = vec![found];
        let committed = self.wal.committed();
        assert!(committed.is_none_or(|id| self.committed.contains(&id)));
        self.term += 1;
    }
}

/// Opens the log; faults of the disk still armed make it fail a few times first.
fn open_at_last(disk: &SimDisk) -> Wal {
    for _ in 0..1000 {
        match open(disk) {
            Ok(wal) => return wal,
            Err(Error::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the faults do not end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_reported_durable_survives_any_stop(
        seed: u64,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::new(seed);
        for step in steps {
            run.take(step);
        }
        run.take(Step::Restart(Stop::Crash));
    }
}
