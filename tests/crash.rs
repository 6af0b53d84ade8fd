//! Kills members at random under load, cuts and heals links, freezes processes; then checks that every
//! acknowledged write is there, that revisions agree with time, that all members hold the same state and
//! that every watcher saw every change once, in order.
//!
//! * `SKIFF_CRASH_SECONDS`: how long faults go on.
//! * `SKIFF_CRASH_SEED`: the seed of faults and load; printed at the start.

use std::time::{Duration, Instant};

use skiff_test_support::load::Load;
use skiff_test_support::load::LoadOptions;
use skiff_test_support::{Cluster, ClusterOptions, Fault, LinkState, Program, Rng, Scratch, verify::verify};

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let seed = Rng::seed_from_env("SKIFF_CRASH_SEED");
    println!("SKIFF_CRASH_SEED={seed}");
    let seconds = std::env::var("SKIFF_CRASH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(90);
    let scratch = Scratch::new("crash");
    let options = ClusterOptions::three(subject()).with_relays();
    let mut cluster = Cluster::start(options, scratch.path()).await.expect("the cluster starts");
    let load = LoadOptions {
        writers: 6,
        swappers: 2,
        readers: 2,
        watchers: 4,
        pause: Duration::from_millis(5),
        seed,
    };
    let addresses = cluster.members.iter().map(skiff_test_support::Member::address).collect();
    let load = Load::start(addresses, &load);
    load.progress(50, Duration::from_secs(30)).await.expect("a quiet cluster takes writes");
    let mut nemesis = Nemesis { rng: Rng::derive(seed, u64::MAX), log: Vec::new() };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while Instant::now() < end {
        nemesis.strike(&mut cluster).await.expect("the harness can strike");
        nemesis.heal(&mut cluster).await.unwrap_or_else(|fault| panic!("after {:?}: {fault}", nemesis.log));
        if let Err(fault) = load.progress(20, Duration::from_secs(60)).await {
            panic!("a healed cluster takes no writes after {:?}: {fault}", nemesis.log);
        }
        rounds += 1;
        if rounds % 5 == 0 {
            println!("{rounds} rounds, {} acknowledged, {} unknown", load.acknowledged(), load.unknown());
        }
    }
    println!("{rounds} rounds, {} acknowledged, {} unknown", load.acknowledged(), load.unknown());
    verify(&cluster.members, load).await.unwrap_or_else(|fault| panic!("{fault}\nafter {:?}", nemesis.log));
}

/// Makes things fail.
struct Nemesis {
    rng: Rng,
    log: Vec<String>,
}

impl Nemesis {
    /// Strikes once and lets it last for a moment.
    async fn strike(&mut self, cluster: &mut Cluster) -> Result<(), Fault> {
        let count = cluster.members.len();
        let victim = match self.rng.chance(50) {
            true => cluster.leader().await?,
            false => self.rng.below(count as u64) as usize,
        };
        let kind = self.rng.weighted(&[35, 10, 8, 12, 20, 10, 5]);
        self.log.push(format!("strike {kind} at {}", cluster.members[victim].name()));
        match kind {
            0 => cluster.members[victim].kill(),
            1 => {
                // All but one.
                let spared = (victim + 1) % count;
                (0..count).filter(|index| *index != spared).for_each(|index| cluster.members[index].kill());
            }
            2 => cluster.members.iter_mut().for_each(skiff_test_support::Member::kill),
            3 => cluster.members[victim].freeze(true),
            4 => self.isolate(cluster, victim),
            5 => {
                // One direction between two.
                let other = (victim + 1) % count;
                let (from, to) = (cluster.members[victim].name(), cluster.members[other].name());
                cluster.network.set(from, to, LinkState::Stalled);
            }
            _ => {
                self.isolate(cluster, victim);
                cluster.members[(victim + 1) % count].kill();
            }
        }
        let lasts = Duration::from_millis(100 + self.rng.below(2_500));
        tokio::time::sleep(lasts).await;
        Ok(())
    }

    fn isolate(&mut self, cluster: &Cluster, victim: usize) {
        let state = *self.rng.pick(&[LinkState::Stalled, LinkState::Stalled, LinkState::Closed]);
        for other in &cluster.members {
            if other.name() != cluster.members[victim].name() {
                cluster.network.set_both(cluster.members[victim].name(), other.name(), state);
            }
        }
    }

    /// Undoes everything and waits until all members answer.
    async fn heal(&mut self, cluster: &mut Cluster) -> Result<(), Fault> {
        cluster.network.heal();
        for index in 0..cluster.members.len() {
            cluster.members[index].freeze(false);
            if cluster.members[index].pid().is_none() {
                cluster.start_member(index)?;
            } else if let Some(status) = cluster.members[index].exited()? {
                let tail = cluster.members[index].log_tail(15);
                return Err(format!("a member ended by itself: {status}\n{tail}").into());
            }
        }
        for member in &mut cluster.members {
            member.ready().await?;
        }
        Ok(())
    }
}
