//! The way from one place to another.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use skiff_store::mvcc::{Chronicle, Digest, Mvcc};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::place::Place;
use super::progress::Progress;
use super::replay::FILLER;
use super::source::Source;
use super::target::Target;
use super::{blocking, progress};
use crate::process::Signals;
use crate::util::arguments::Arguments;

/// Between looks at a source that is followed.
const LOOK: Duration = Duration::from_millis(100);

/// The target is in step where it takes no longer than this to take what came
/// since the last look.
const IN_STEP: Duration = Duration::from_secs(1);

/// What is asked for.
pub(super) struct Migration {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) online: bool,
    pub(super) dry_run: bool,
    /// How long a source that is followed must be quiet before the switch.
    pub(super) switch_after: Duration,
    pub(super) arguments: Arguments,
}

/// What came of it.
pub(super) enum Outcome {
    /// Everything is there.
    Moved(Map<String, Value>),
    /// What would be moved.
    Looked(Map<String, Value>),
}

impl Migration {
    /// Does it.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) async fn run(self, scratch: &Path) -> Result<Outcome, String> {
        let progress = Arc::new(progress::Progress::new());
        progress.say(&format!("reading {}", self.from));
        let mut source = Source::open(&self.from, scratch, &self.arguments)
            .await
            .map_err(|problem| format!("--from: {problem}"))?;
        let mvcc = source.mvcc().clone();
        let found = digest(mvcc.chronicle()).await?;
        progress.say(&format!(
            "{} keys in {} versions, {} leases; revision {}, compacted at {}",
            found.keys,
            found.versions,
            found.lease_count,
            found.revision,
            found.compact_revision.max(0)
        ));
        if self.dry_run {
            let target = Target::look(&self.to, &self.arguments).await;
            progress.say(&target.map_err(|problem| format!("--to: {problem}"))?);
            return Ok(Outcome::Looked(described(&found)));
        }
        let identity = self.from.identity(source.identity());
        let mut target = Target::open(&self.to, &self.arguments, identity, &mvcc.chronicle())
            .await
            .map_err(|problem| format!("--to: {problem}"))?;
        if target.through() > 1 {
            progress.say(&format!("going on behind revision {} of an earlier attempt", target.through()));
        }
        let mut signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
        let work = self.work(&mut source, &mut target, scratch, &progress);
        tokio::select! {
            done = work => done.map(Outcome::Moved),
            name = signals.next() => Err(format!(
                "{name}: stopped half-way; the source is as it was, and the same command goes on where this one was"
            )),
        }
    }

    async fn work(
        &self,
        source: &mut Source,
        target: &mut Target,
        scratch: &Path,
        progress: &Arc<Progress>,
    ) -> Result<Map<String, Value>, String> {
        copy(source.mvcc(), target, progress, "copying").await?;
        let begun = match self.online && source.is_live() {
            true => self.follow(source, target, progress).await?,
            false => Instant::now(),
        };
        source.settle().await.map_err(|problem| format!("--from: {problem}"))?;
        if !self.online && target.is_gradual() && source.mvcc().revision() != target.through() {
            return Err(format!(
                "the source went on from revision {} to {} while it was copied: stop what writes to it and run \
                 the same again, or run with --online",
                target.through(),
                source.mvcc().revision()
            ));
        }
        copy(source.mvcc(), target, progress, "switching").await?;
        let with_auth = !(self.arguments.bool("skip-auth") && matches!(target, Target::Etcd(_)));
        let revision = source.mvcc().revision();
        target.finish(source.mvcc(), with_auth).await.map_err(|problem| format!("--to: {problem}"))?;
        progress.say("comparing what is there now with the source");
        let found = verify(source.mvcc(), target, scratch, &self.arguments, with_auth).await?;
        target.release(&source.mvcc().chronicle(), with_auth).await?;
        source.arrive().await.map_err(|problem| format!("--from: {problem}"))?;
        if source.mvcc().revision() != revision {
            return Err(format!(
                "the target is complete up to revision {revision}, but the source was written to after that (it \
                 is at {}): what came later is not in the target",
                source.mvcc().revision()
            ));
        }
        let mut told = described(&found);
        told.insert("pauseMillis".into(), (begun.elapsed().as_millis() as u64).into());
        Ok(told)
    }

    /// Goes on with the source until it is quiet, or until a signal says that
    /// the time has come. Answers when the pause began.
    async fn follow(
        &self,
        source: &mut Source,
        target: &mut Target,
        progress: &Arc<Progress>,
    ) -> Result<Instant, String> {
        let mut now = signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?;
        let mut in_step = false;
        let mut quiet_since = Instant::now();
        loop {
            let before = source.mvcc().revision();
            let begun = Instant::now();
            source.advance().await.map_err(|problem| format!("--from: {problem}"))?;
            let revision = source.mvcc().revision();
            copy(source.mvcc(), target, progress, "following").await?;
            if !in_step && begun.elapsed() < IN_STEP {
                in_step = true;
                progress.say(&format!(
                    "in step at revision {revision}: stop what writes to the source now; the switch comes when it \
                     was quiet for {:?}, or on SIGUSR1 (process {})",
                    self.switch_after,
                    std::process::id()
                ));
            }
            if revision != before {
                quiet_since = Instant::now();
            }
            if quiet_since.elapsed() >= self.switch_after {
                return Ok(quiet_since);
            }
            if was_told(&mut now).await {
                return Ok(Instant::now());
            }
        }
    }
}

/// Waits a moment; true where the signal came.
async fn was_told(signal: &mut Signal) -> bool {
    tokio::select! {
        _ = signal.recv() => true,
        () = tokio::time::sleep(LOOK) => false,
    }
}

/// Brings a target that is written gradually to where the replica is.
async fn copy(
    mvcc: &Arc<Mvcc>,
    target: &mut Target,
    progress: &Arc<Progress>,
    phase: &'static str,
) -> Result<(), String> {
    let chronicle = Arc::new(mvcc.chronicle());
    let goal = chronicle.stored().revision;
    if !target.is_gradual() || target.through() >= goal {
        return Ok(());
    }
    progress.begin(phase, target.through());
    let told = progress.clone();
    target
        .append(chronicle, move |revision| told.at(revision, goal))
        .await
        .map_err(|problem| format!("--to: {problem}"))
}

/// Reads the target back and compares it with the replica.
async fn verify(
    mvcc: &Arc<Mvcc>,
    target: &Target,
    scratch: &Path,
    arguments: &Arguments,
    with_auth: bool,
) -> Result<Digest, String> {
    let failed = |problem| format!("the target cannot be read back: {problem}");
    let expected = digest(mvcc.chronicle()).await?;
    let back = target.read_back(scratch.to_owned(), arguments).await.map_err(failed)?;
    let leases_agree = leases_agree(&mvcc.chronicle(), &back.chronicle, target);
    let found = digest(back.chronicle).await?;
    let parts = [
        ("revision", expected.revision == found.revision),
        ("pairs", expected.pairs == found.pairs),
        ("history", expected.history == found.history),
        ("leases", leases_agree),
        ("users and roles", !with_auth || expected.auth == found.auth),
    ];
    let wrong: Vec<&str> = parts.iter().filter(|(_, equal)| !equal).map(|(name, _)| *name).collect();
    if wrong.is_empty() {
        return Ok(found);
    }
    Err(format!(
        "the target differs from the source in: {}; do not use it, and begin again with --restart or an empty target (source: revision {}, {} keys, {} versions; \
         target: revision {}, {} keys, {} versions)",
        wrong.join(", "),
        expected.revision,
        expected.keys,
        expected.versions,
        found.revision,
        found.keys,
        found.versions
    ))
}

/// The leases and their TTLs; a running etcd raises short ones, and has one of
/// this migration.
fn leases_agree(expected: &Chronicle, found: &Chronicle, target: &Target) -> bool {
    let (raised, mark) = match target {
        Target::Etcd(etcd) => (etcd.raised.clone(), Some(etcd.mark())),
        _ => (Vec::new(), None),
    };
    let sorted = |chronicle: &Chronicle| {
        let leases = chronicle.leases().into_iter().filter(|lease| Some(lease.id) != mark);
        let mut leases: Vec<(i64, i64)> =
            leases.map(|lease| (lease.id, if raised.contains(&lease.id) { 0 } else { lease.ttl })).collect();
        leases.sort_unstable();
        leases
    };
    sorted(expected) == sorted(found)
}

async fn digest(chronicle: Chronicle) -> Result<Digest, String> {
    blocking(move || chronicle.digest(FILLER).map_err(|error| error.to_string())).await
}

fn described(digest: &Digest) -> Map<String, Value> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut told = Map::new();
    told.insert("revision".into(), digest.revision.into());
    told.insert("compactRevision".into(), digest.compact_revision.max(0).into());
    told.insert("keys".into(), digest.keys.into());
    told.insert("versions".into(), digest.versions.into());
    told.insert("leases".into(), digest.lease_count.into());
    told.insert("bytes".into(), digest.bytes.into());
    told.insert("pairsHash".into(), hex(&digest.pairs).into());
    told.insert("historyHash".into(), hex(&digest.history).into());
    told
}
