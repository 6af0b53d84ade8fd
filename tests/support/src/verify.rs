//! What must hold after faults.

use std::time::{Duration, Instant};

use crate::history as checks;
use crate::load::{Load, history};
use crate::pb::etcdserverpb::{HashKvRequest, RangeRequest};
use crate::{Fault, Member};

/// How long servers may take to agree.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often they are asked.
const POLL: Duration = Duration::from_millis(20);

/// Stops the load and checks all it was told: nothing acknowledged is lost, all servers have the same
/// history, watchers saw it once and in order.
///
/// # Errors
/// What does not hold.
pub async fn verify(members: &[Member], load: Load) -> Result<(), Fault> {
    let told = load.stop(&members[0].client()).await?;
    let revision = check_hashes(members).await?;
    let last =
        told.watched.first().and_then(|changes| changes.last()).map_or(revision, |change| change.revision);
    let mut faults = told.faults;
    let mut reference = None;
    for member in members {
        let changes = history(&member.client(), last).await?;
        match &reference {
            None => reference = Some(changes),
            Some(reference) if *reference != changes => {
                faults.push(format!("the history of {} differs", member.name()));
            }
            Some(_) => {}
        }
    }
    let reference = reference.unwrap_or_default();
    for (index, watched) in told.watched.iter().enumerate() {
        if *watched != reference {
            let first = watched.iter().zip(&reference).find(|(saw, is)| saw != is);
            let (saw, is) = (watched.len(), reference.len());
            faults.push(format!("watcher {index} saw {saw} changes of {is}; first difference {first:?}"));
        }
    }
    faults.extend(checks::check(&reference, &told.records, &told.observed));
    println!("{} changes, {} reads checked", reference.len(), told.observed.len());
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// Waits until the running members are at the same revision and checks that their hashes agree.
///
/// # Errors
/// When they do not get there, or their states differ.
pub async fn check_hashes(members: &[Member]) -> Result<i64, Fault> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut answers = Vec::new();
        for member in members.iter().filter(|member| member.pid().is_some()) {
            // A linearizable read makes the member catch up first.
            let request = RangeRequest { key: "hash".into(), ..Default::default() };
            let client = member.client();
            let caught_up = client.range(request).await;
            let hash = client.hash_kv(HashKvRequest { revision: 0 }).await;
            answers.push((member.name().to_owned(), caught_up.is_ok(), hash));
        }
        let revisions: Option<Vec<i64>> = answers
            .iter()
            .map(|(_, caught_up, hash)| {
                let header = hash.as_ref().ok()?.header.as_ref()?;
                caught_up.then_some(header.revision)
            })
            .collect();
        if let Some(revision) = revisions.as_ref().and_then(|all| all.first())
            && revisions.iter().flatten().all(|other| other == revision)
        {
            return same_hash(&answers).map(|()| *revision);
        }
        if Instant::now() > deadline {
            return Err(format!("the members do not get to the same revision: {answers:?}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn same_hash(
    answers: &[(String, bool, Result<crate::pb::etcdserverpb::HashKvResponse, tonic::Status>)],
) -> Result<(), Fault> {
    let keys: Vec<(u32, i64)> = answers
        .iter()
        .filter_map(|(_, _, hash)| hash.as_ref().ok().map(|hash| (hash.hash, hash.compact_revision)))
        .collect();
    if keys.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(format!("the members' states differ: {answers:?}").into())
}
