//! Both servers in lockstep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::event::EventType;
use skiff_test_support::{Fault, Program, Scratch};

use crate::answer::{Answer, PICKED_LEASE};
use crate::call::Call;
use crate::known;
use crate::line::Line;
use crate::op::{Op, Step};
use crate::side::Side;

/// How long a server that says it stops may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// Puts at most that many fillers, should puts be refused.
const MOST_FILLERS: usize = 16;

/// What the client says about a server that does not answer; no answer, even if both do it.
const HANGS: &[&str] = &["the call hung", "no message on the stream", "the watches do not catch up"];

/// The first difference in a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    /// Index of the step.
    pub(crate) step: usize,
    /// What was sent and answered.
    pub(crate) text: String,
    /// Every step as it was sent to etcd.
    pub(crate) sent: Vec<Step>,
}

/// The real etcd and the server examined, both fresh at first and fed with the same steps.
pub(crate) struct Pair {
    pub(crate) oracle: Side,
    pub(crate) subject: Side,
    /// Who waits or observes.
    pub(crate) line: Line,
    /// Watches that started at the compacted revision: (stream, watch, revision).
    at_compaction: BTreeSet<(usize, i64, i64)>,
    picked_leases: i64,
    /// Every step of the sequence so far as it was sent to etcd.
    pub(crate) sent: Vec<Step>,
    /// How often etcd answered what, by kind of step and error.
    pub(crate) tally: BTreeMap<String, u64>,
    _scratch: Scratch,
}

impl Pair {
    /// Starts both servers.
    pub(crate) async fn start(subject: &Program) -> Result<Pair, Fault> {
        let scratch = Scratch::new("differential");
        let (oracle_dir, subject_dir) = (scratch.path().join("etcd"), scratch.path().join("subject"));
        let (oracle, subject) = tokio::try_join!(
            Side::start(Program::oracle(), &oracle_dir),
            Side::start(subject.fresh(), &subject_dir),
        )?;
        Ok(Pair {
            oracle,
            subject,
            line: Line::default(),
            at_compaction: BTreeSet::new(),
            picked_leases: 0,
            sent: Vec::new(),
            tally: BTreeMap::new(),
            _scratch: scratch,
        })
    }

    /// Runs a sequence up to the first difference.
    pub(crate) async fn run(&mut self, steps: &[Step]) -> Result<(), Difference> {
        self.oracle.begin();
        self.subject.begin();
        self.at_compaction.clear();
        self.sent.clear();
        for (index, step) in steps.iter().enumerate() {
            if self.oracle.watches() && matches!(step.op, Op::Compact(_) | Op::CancelWatch(..)) {
                // What is on its way would otherwise meet it at another moment on each server.
                self.barrier(index).await?;
            }
            match &step.op {
                Op::Barrier => self.barrier(index).await?,
                Op::Call(Call::Lock(_) | Call::Campaign(_)) => self.stand(index, step).await?,
                Op::Observe(name) => self.observe(index, step, name).await?,
                Op::Leave(which) => self.leave(index, *which).await?,
                _ => {
                    let step = self.about_claims(index, step).await?;
                    self.step(index, &step).await?;
                }
            }
            self.turns(index).await?;
        }
        self.finish(steps.len()).await
    }

    /// Compares what the watches saw. Those that wait for a revision to come get it first: progress is
    /// not reported before.
    async fn barrier(&mut self, index: usize) -> Result<(), Difference> {
        for _ in 0..MOST_FILLERS {
            if !self.oracle.waits_for_revision() {
                break;
            }
            let filler = PutRequest { key: "filler".into(), ..PutRequest::default() };
            if let Answer::Error(..) = self.step(index, &Op::Put(filler).into()).await? {
                self.end_alarms(index).await?;
            }
        }
        self.step(index, &Op::Barrier.into()).await.map(|_| ())
    }

    /// Ends a sequence so that the next one finds no alarm and no lease.
    async fn finish(&mut self, index: usize) -> Result<(), Difference> {
        self.end_alarms(index).await?;
        for slot in 0..self.oracle.meaning.leases.len() as i64 {
            if self.oracle.meaning.leases[slot as usize] != 0 {
                let op = Op::Revoke(LeaseRevokeRequest { id: crate::op::lease(slot) });
                // By the first caller, who is root where auth is on.
                self.step(index, &Step { caller: 0, json: false, op }).await?;
                self.turns(index).await?;
            }
        }
        self.end_line(index)?;
        self.barrier(index).await
    }

    async fn end_alarms(&mut self, index: usize) -> Result<(), Difference> {
        let get = AlarmRequest::default();
        if let Answer::Alarm(answer) = self.step(index, &Op::Alarm(get).into()).await? {
            for alarm in answer.alarms {
                let member_id = if alarm.member_id == self.oracle.meaning.member {
                    crate::op::SELF
                } else {
                    alarm.member_id
                };
                let off = AlarmRequest { action: 2, member_id, alarm: alarm.alarm };
                self.step(index, &Op::Alarm(off).into()).await?;
            }
        }
        Ok(())
    }

    /// Sends one step to both, compares the answers and learns from them; answers the oracle's.
    pub(crate) async fn step(&mut self, index: usize, step: &Step) -> Result<Answer, Difference> {
        let sent = self.oracle.meaning.resolve(step);
        self.sent.push(sent.clone());
        let started = std::time::Instant::now();
        let (expected, found) = tokio::join!(
            self.oracle.execute(sent.clone()),
            self.subject.execute(self.subject.meaning.resolve(step)),
        );
        if std::env::var_os("SKIFF_DIFF_TRACE").is_some() {
            println!(
                "{index} {:?} {}",
                started.elapsed(),
                format!("{sent:?}").chars().take(trace_length()).collect::<String>()
            );
        }
        self.judge(index, &sent, expected, found).await
    }

    /// Compares the answers to a step and learns from them; answers the oracle's.
    pub(crate) async fn judge(
        &mut self,
        index: usize,
        sent: &Step,
        expected_raw: Answer,
        found_raw: Answer,
    ) -> Result<Answer, Difference> {
        *self.tally.entry(kind(sent, &expected_raw)).or_default() += 1;
        self.learn(&sent.op, &expected_raw, &found_raw);
        let mut expected = self.without_compacted(self.oracle.normalizer.normalize(expected_raw.clone()));
        let mut found = self.without_compacted(self.subject.normalizer.normalize(found_raw));
        known::settle(&sent.op, self.oracle.meaning.compacted, &mut expected, &mut found);
        let faulty = |answer: &Answer| match answer {
            Answer::Barrier(streams) => streams.iter().any(|stream| !stream.faults.is_empty()),
            // Errors of this test's own client.
            Answer::Error(_, text) => HANGS.contains(&text.as_str()),
            _ => false,
        };
        let faulty = faulty(&expected) || faulty(&found);
        if expected == found && !faulty {
            return Ok(expected_raw);
        }
        let mut text = describe(sent, &expected, &found);
        if let Answer::Barrier(streams) = &found {
            streams
                .iter()
                .flat_map(|stream| &stream.faults)
                .for_each(|fault| text += &format!("fault: {fault}\n"));
        }
        for side in [&mut self.oracle, &mut self.subject] {
            // A server that is about to end gets the time to say why.
            let patience = if text.contains("server stopped") { ENDING } else { Duration::ZERO };
            if let Ok(status) = side.member.wait_exit(patience).await {
                text += &format!(
                    "{} ended: {status}\n{}\n",
                    side.member.log_path().display(),
                    side.member.log_tail(40)
                );
            }
        }
        Err(Difference { step: index, text, sent: std::mem::take(&mut self.sent) })
    }

    fn learn(&mut self, sent: &Op, expected: &Answer, found: &Answer) {
        if let Some(revision) = expected.revision() {
            for side in [&mut self.oracle, &mut self.subject] {
                side.meaning.current = side.meaning.current.max(revision);
            }
        }
        match (sent, expected, found) {
            (Op::Compact(request), Answer::Compact(_), _) => {
                for side in [&mut self.oracle, &mut self.subject] {
                    side.meaning.compacted = request.revision;
                }
            }
            (Op::Grant(request), _, _) => {
                let id = |answer: &Answer| match answer {
                    Answer::Grant(granted) => granted.id,
                    _ => 0,
                };
                let (expected, found) = (id(expected), id(found));
                self.oracle.meaning.leases.push(expected);
                self.subject.meaning.leases.push(found);
                if request.id == 0 && expected != 0 && found != 0 {
                    self.picked_leases += 1;
                    self.oracle.normalizer.leases.insert(expected, PICKED_LEASE + self.picked_leases);
                    self.subject.normalizer.leases.insert(found, PICKED_LEASE + self.picked_leases);
                }
            }
            (Op::Watch(stream, request), Answer::Watch(answer, _), _)
                if request.start_revision == self.oracle.meaning.compacted =>
            {
                self.at_compaction.insert((*stream, answer.watch_id, request.start_revision));
            }
            _ => {}
        }
    }

    /// Takes out deletions at the very revision compacted at: a compaction removes them some time after
    /// it was answered, so a watch that starts there may or may not see them.
    fn without_compacted(&self, mut answer: Answer) -> Answer {
        if let Answer::Barrier(streams) = &mut answer {
            for (stream, watch, revision) in &self.at_compaction {
                if let Some(seen) = streams[*stream].watches.get_mut(watch) {
                    seen.events.retain(|event| {
                        let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                        event.r#type != EventType::Delete as i32 || at != *revision
                    });
                }
            }
            for stream in streams {
                stream.watches.retain(|_, seen| !(seen.events.is_empty() && seen.control.is_empty()));
            }
        }
        answer
    }
}

/// How much of each step a trace shows: `SKIFF_DIFF_TRACE` characters.
fn trace_length() -> usize {
    std::env::var("SKIFF_DIFF_TRACE").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}

/// The kind of a step and the error it met, if any.
fn kind(sent: &Step, answer: &Answer) -> String {
    let shown = format!("{:?}", sent.op);
    let shown = shown.strip_prefix("Call(").unwrap_or(&shown);
    let step: String = shown.chars().take_while(|c| c.is_alphanumeric()).collect();
    let step = if sent.json { format!("{step} as JSON") } else { step };
    match answer {
        Answer::Error(_, text) => format!("{step}: {text}"),
        _ => format!("{step}: answered"),
    }
}

/// The step and both answers, with the lines that differ marked.
fn describe(sent: &Step, expected: &Answer, found: &Answer) -> String {
    let mut text: String = format!("sent {sent:?}").chars().take(2000).collect();
    text.push('\n');
    let (expected, found) = (format!("{expected:#?}"), format!("{found:#?}"));
    let (left, right): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same_front = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    let rest = left.len().min(right.len()) - same_front;
    let same_back = left.iter().rev().zip(right.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let shown = |text: &mut String, name: &str, lines: &[&str]| {
        let (start, end) = (same_front.saturating_sub(4), (lines.len() - same_back + 3).min(lines.len()));
        let _ = writeln!(text, "{name}, lines {start} to {end} of {}:", lines.len());
        for (number, line) in lines.iter().enumerate().take(end).skip(start).take(60) {
            let mark = if number >= same_front && number < lines.len() - same_back { '*' } else { ' ' };
            let _ = writeln!(text, " {mark} {}", line.chars().take(300).collect::<String>());
        }
    };
    shown(&mut text, "etcd answered", &left);
    shown(&mut text, "the subject answered", &right);
    text
}
