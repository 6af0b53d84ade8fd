//! Those who wait in a queue on both servers, and those who observe.
//!
//! A call that must wait is left waiting; after each step those whose turn has come are awaited. Waits are
//! ended by steps alone: by giving back, by the end of a lease, by the client's going.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::KeyValue;
use skiff_test_support::pb::v3electionpb::*;
use skiff_test_support::pb::v3lockpb::*;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::answer::{Answer, header};
use crate::call::Call;
use crate::op::{NOBODY, Op, Step};
use crate::pair::{Difference, Pair};
use crate::queues::{LEASES, Who};
use crate::side::Side;

/// How long a turn, a claim or news may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any run: how long somebody waits is decided by the steps.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A call that waits on both servers.
struct Waiting {
    sent: Step,
    name: Bytes,
    lease: i64,
    /// Its claim's revision.
    revision: i64,
    calls: [JoinHandle<Answer>; 2],
}

/// An observation on both servers.
struct Observed {
    name: Bytes,
    told: [Arc<Mutex<Vec<LeaderResponse>>>; 2],
    tasks: [JoinHandle<Result<(), Status>>; 2],
}

/// Everybody who waits or observes.
#[derive(Default)]
pub(crate) struct Line {
    waiting: Vec<Waiting>,
    observed: Vec<Observed>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.waiting.iter().flat_map(|call| &call.calls).for_each(JoinHandle::abort);
        self.observed.iter().flat_map(|observed| &observed.tasks).for_each(JoinHandle::abort);
    }
}

impl Pair {
    fn sides(&self) -> [&Side; 2] {
        [&self.oracle, &self.subject]
    }

    fn fault(&mut self, step: usize, text: String) -> Difference {
        Difference { step, text, sent: std::mem::take(&mut self.sent) }
    }

    /// All claims of a name on a server, oldest first.
    async fn claims(&mut self, index: usize, side: usize, name: &Bytes) -> Result<Vec<KeyValue>, Difference> {
        let request = RangeRequest {
            key: [&name[..], b"/"].concat().into(),
            range_end: [&name[..], b"0"].concat().into(),
            sort_target: range_request::SortTarget::Create.into(),
            ..RangeRequest::default()
        };
        let answer = self.sides()[side].client(0, false).range(request).await;
        answer.map(|answer| answer.kvs).map_err(|error| {
            self.fault(index, format!("the claims of {name:?} cannot be read on side {side}: {error}"))
        })
    }

    /// The call that a step about the claims there are stands for.
    pub(crate) async fn about_claims(&mut self, index: usize, step: &Step) -> Result<Step, Difference> {
        let call = match &step.op {
            Op::Unlock(name) => {
                let claims = self.claims(index, 0, name).await?;
                Call::Unlock(UnlockRequest { key: claims.into_iter().next().unwrap_or_default().key })
            }
            Op::AsLeader(who, value) => {
                let claims = self.claims(index, 0, &who.name).await?;
                let leader = leader(who, &claims);
                match value.clone() {
                    Some(value) => Call::Proclaim(ProclaimRequest { leader, value }),
                    None => Call::Resign(ResignRequest { leader }),
                }
            }
            _ => return Ok(step.clone()),
        };
        Ok(Step { op: Op::Call(call), ..step.clone() })
    }

    /// Enters a queue; the answer is awaited once the turn has come.
    pub(crate) async fn stand(&mut self, index: usize, step: &Step) -> Result<(), Difference> {
        let Op::Call(call) = &step.op else { return Ok(()) };
        let (name, lease, value) = match call {
            Call::Lock(request) => (request.name.clone(), request.lease, None),
            Call::Campaign(request) => (request.name.clone(), request.lease, Some(request.value.clone())),
            _ => return Ok(()),
        };
        let own = [&name[..], format!("/{lease:x}").as_bytes()].concat();
        let before = self.claims(index, 0, &name).await?;
        let place = before.iter().position(|claim| claim.key == own).unwrap_or(before.len());
        if place == 0 || !(1..=LEASES).contains(&lease) {
            return self.step(index, step).await.map(drop);
        }
        if self.line.waiting.iter().any(|call| call.name == name && call.lease == lease) {
            return Ok(());
        }
        let calls = self.sides().map(|side| {
            let client = side.client(step.caller, step.json).with_deadline(FOREVER);
            tokio::spawn(call.clone().ask(client))
        });
        let deadline = Instant::now() + PATIENCE;
        for (side, asked) in calls.iter().enumerate() {
            // It stands with its value, or it was refused.
            loop {
                let claims = self.claims(index, side, &name).await?;
                let claim = claims.iter().find(|claim| claim.key == own);
                if claim.is_some_and(|claim| value.as_ref().is_none_or(|value| claim.value == *value))
                    || asked.is_finished()
                {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(self.fault(index, format!("{step:?} does not enter on side {side}")));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        let claims = self.claims(index, 0, &name).await?;
        let claim = claims.iter().find(|claim| claim.key == own);
        let revision = claim.map(|claim| claim.create_revision);
        let call = Waiting { sent: step.clone(), name, lease, revision: revision.unwrap_or(0), calls };
        if revision.is_some() && !call.calls.iter().any(JoinHandle::is_finished) {
            self.line.waiting.push(call);
            return Ok(());
        }
        self.turn(index, call).await
    }

    /// Compares the answers to a call that waits no longer.
    async fn turn(&mut self, index: usize, call: Waiting) -> Result<(), Difference> {
        let mut answers = Vec::new();
        for mut asked in call.calls {
            answers.push(match tokio::time::timeout(PATIENCE, &mut asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(self.fault(index, format!("{:?}: {error}", call.sent))),
                Err(_) => {
                    asked.abort();
                    Answer::Error(4, "the call hung".to_owned())
                }
            });
        }
        let (Some(found), Some(expected)) = (answers.pop(), answers.pop()) else { return Ok(()) };
        self.sent.push(call.sent.clone());
        self.judge(index, &call.sent, expected, found).await.map(drop)
    }

    /// Awaits those whose turn has come, or who were refused; then that everybody who observes knows the
    /// present leader.
    pub(crate) async fn turns(&mut self, index: usize) -> Result<(), Difference> {
        for call in std::mem::take(&mut self.line.waiting) {
            let claims = self.claims(index, 0, &call.name).await?;
            let waits = claims.iter().any(|claim| claim.create_revision < call.revision);
            // One that is answered on one server alone is found out by waiting for the other.
            if waits && !call.calls.iter().any(JoinHandle::is_finished) {
                self.line.waiting.push(call);
            } else {
                self.turn(index, call).await?;
            }
        }
        self.news(index).await
    }

    async fn news(&mut self, index: usize) -> Result<(), Difference> {
        let observed: Vec<_> = self
            .line
            .observed
            .iter()
            .map(|observed| (observed.name.clone(), observed.told.clone()))
            .collect();
        for (name, told) in observed {
            let Some(leader) = self.claims(index, 0, &name).await?.into_iter().next() else { continue };
            let deadline = Instant::now() + PATIENCE;
            for (side, told) in told.iter().enumerate() {
                while told.lock().last().and_then(|news| news.kv.as_ref()) != Some(&leader) {
                    if Instant::now() > deadline {
                        let last = told.lock().last().cloned();
                        let text =
                            format!("an observer on side {side} is not told of {leader:?} but of {last:?}");
                        return Err(self.fault(index, text));
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
        }
        Ok(())
    }

    /// The client of a waiting call goes.
    pub(crate) async fn leave(&mut self, index: usize, which: usize) -> Result<(), Difference> {
        if self.line.waiting.is_empty() {
            return Ok(());
        }
        let call = self.line.waiting.remove(which % self.line.waiting.len());
        call.calls.iter().for_each(JoinHandle::abort);
        let deadline = Instant::now() + PATIENCE;
        for side in [0, 1] {
            let own = |claim: &KeyValue| claim.create_revision == call.revision;
            while self.claims(index, side, &call.name).await?.iter().any(own) {
                if Instant::now() > deadline {
                    let text = format!("side {side} keeps the claim of a client that has gone");
                    return Err(self.fault(index, text));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Starts to observe an election; where that is refused, compares how.
    pub(crate) async fn observe(
        &mut self,
        index: usize,
        step: &Step,
        name: &Bytes,
    ) -> Result<(), Difference> {
        let told: [Arc<Mutex<Vec<LeaderResponse>>>; 2] = Default::default();
        let mut side = 0;
        let tasks = self.sides().map(|observer| {
            let (client, name) = (observer.client(step.caller, false), name.clone());
            let told = told[side].clone();
            side += 1;
            tokio::spawn(async move {
                let mut leaders = client.observe(LeaderRequest { name }).await?;
                while let Some(mut news) = leaders.message().await? {
                    header(&mut news.header);
                    told.lock().push(news);
                }
                Ok(())
            })
        });
        if step.caller != NOBODY || !self.oracle.guarded() {
            self.line.observed.push(Observed { name: name.clone(), told, tasks });
            return Ok(());
        }
        let mut ends = Vec::new();
        for mut task in tasks {
            let end = tokio::time::timeout(PATIENCE, &mut task).await;
            task.abort();
            match end {
                Ok(Ok(Ok(()))) => ends.push("ended".to_owned()),
                Ok(Ok(Err(status))) => ends.push(format!("{:?}: {}", status.code(), status.message())),
                other => return Err(self.fault(index, format!("{step:?} is not refused: {other:?}"))),
            }
        }
        if ends[0] != ends[1] {
            return Err(self.fault(index, format!("{step:?}\netcd: {}\nhere: {}", ends[0], ends[1])));
        }
        *self.tally.entry(format!("Observe: {}", ends[0])).or_default() += 1;
        Ok(())
    }

    /// Ends a sequence: everybody's turn has come, and who observed was told the same.
    pub(crate) fn end_line(&mut self, index: usize) -> Result<(), Difference> {
        if let Some(call) = self.line.waiting.first() {
            let text = format!("nobody is before it, but {:?} waits", call.sent);
            return Err(self.fault(index, text));
        }
        for observed in std::mem::take(&mut self.line.observed) {
            observed.tasks.iter().for_each(JoinHandle::abort);
            let [expected, found] = observed.told.map(|told| told.lock().clone());
            if expected != found {
                let name = observed.name;
                let text =
                    format!("what observers of {name:?} were told\netcd: {expected:?}\nhere: {found:?}");
                return Err(self.fault(index, text));
            }
        }
        Ok(())
    }
}

/// The leadership that is claimed.
fn leader(who: &Who, claims: &[KeyValue]) -> Option<LeaderKey> {
    let name = who.name.clone();
    let place = who.place?;
    let candidates = &claims[..claims.len().min(2)];
    let Some(claim) = candidates.get(place).or(candidates.first()) else {
        return Some(LeaderKey { name, lease: who.lease.unwrap_or(1), ..LeaderKey::default() });
    };
    let lease = who.lease.unwrap_or(claim.lease);
    Some(LeaderKey { name, key: claim.key.clone(), rev: claim.create_revision + who.off, lease })
}
