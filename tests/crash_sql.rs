//! Two `skiff kine` on one database: servers and the database itself are killed at random under load; then
//! every acknowledged write is there, both servers have the same history, and every watcher saw every change
//! once, in order.
//!
//! * `SKIFF_CRASH_SQL_SECONDS`: how long faults go on, for each database.
//! * `SKIFF_CRASH_SEED`: the seed of faults and load; printed at the start.

#[path = "../store/sql/tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use skiff_test_support::load::{Load, LoadOptions};
use skiff_test_support::{Fault, Member, MemberOptions, Program, Rng, Scratch, verify::verify};
use support::{Disk, MariadbServer, MysqlServer, PostgresServer, Stop};

/// A database server that can be killed.
trait Victim {
    fn restart(&mut self);
}

impl Victim for PostgresServer {
    fn restart(&mut self) {
        PostgresServer::restart(self, Stop::Kill);
    }
}

impl Victim for MariadbServer {
    fn restart(&mut self) {
        MariadbServer::restart(self, Stop::Kill);
    }
}

impl Victim for MysqlServer {
    fn restart(&mut self) {
        MysqlServer::restart(self, Stop::Kill);
    }
}

/// SQLite is a part of the process.
struct NoServer;

impl Victim for NoServer {
    fn restart(&mut self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_postgres() {
    let mut server = tokio::task::block_in_place(|| PostgresServer::start(Disk::Durable));
    let endpoint = server.endpoint("kubernetes");
    crash(&endpoint, 2, &mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_mariadb() {
    let mut server = tokio::task::block_in_place(|| MariadbServer::start(Disk::Durable));
    let endpoint = server.endpoint("kubernetes");
    crash(&endpoint, 2, &mut server).await;
}

/// Skipped, said loudly, where there is no MySQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_mysql() {
    let server = tokio::task::block_in_place(|| MysqlServer::start(Disk::Durable));
    let Some(mut server) = server else { return };
    let endpoint = server.endpoint("kubernetes");
    crash(&endpoint, 2, &mut server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_sqlite() {
    let scratch = Scratch::new("crash-sqlite");
    let endpoint = format!("sqlite://{}", scratch.path().join("state.db").display());
    crash(&endpoint, 1, &mut NoServer).await;
}

async fn crash(endpoint: &str, servers: usize, database: &mut dyn Victim) {
    let seed = Rng::seed_from_env("SKIFF_CRASH_SEED");
    println!("SKIFF_CRASH_SEED={seed}");
    let seconds =
        std::env::var("SKIFF_CRASH_SQL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let scratch = Scratch::new("crash-sql");
    let program = Program::Kine { binary: env!("CARGO_BIN_EXE_skiff").into(), endpoint: endpoint.to_owned() };
    let mut members: Vec<Member> = (0..servers)
        .map(|n| {
            let dir = scratch.path().join(format!("s{n}"));
            let mut options = MemberOptions::single(program.clone(), &dir);
            options.name = format!("s{n}");
            Member::new(options)
        })
        .collect();
    for member in &mut members {
        member.start().expect("the server starts");
    }
    for member in &mut members {
        member.ready().await.expect("the server answers");
    }
    let load = LoadOptions {
        writers: 6,
        swappers: 2,
        readers: 2,
        watchers: 4,
        pause: Duration::from_millis(5),
        seed,
    };
    let load = Load::start(members.iter().map(Member::address).collect(), &load);
    load.progress(50, Duration::from_secs(30)).await.expect("quiet servers take writes");
    let mut rng = Rng::derive(seed, u64::MAX);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut struck = Vec::new();
    while Instant::now() < end {
        let strike = rng.weighted(&[40, 15, 30, 15]);
        struck.push(strike);
        let victim = rng.below(servers as u64) as usize;
        match strike {
            0 => members[victim].kill(),
            1 => members.iter_mut().for_each(Member::kill),
            2 => tokio::task::block_in_place(|| database.restart()),
            _ => members[victim].freeze(true),
        }
        tokio::time::sleep(Duration::from_millis(100 + rng.below(1_500))).await;
        heal(&mut members).await.unwrap_or_else(|fault| panic!("after {struck:?}: {fault}"));
        if let Err(fault) = load.progress(20, Duration::from_secs(60)).await {
            panic!("healed servers take no writes after {struck:?}: {fault}");
        }
    }
    println!("{} rounds, {} acknowledged, {} unknown", struck.len(), load.acknowledged(), load.unknown());
    verify(&members, load).await.unwrap_or_else(|fault| panic!("{fault}\nafter {struck:?}"));
}

/// Starts what was killed; a server that ended by itself is a fault.
async fn heal(members: &mut [Member]) -> Result<(), Fault> {
    for member in members.iter_mut() {
        member.freeze(false);
        if member.pid().is_none() {
            member.start()?;
        } else if let Some(status) = member.exited()? {
            return Err(format!("a server ended by itself: {status}\n{}", member.log_tail(15)).into());
        }
    }
    for member in members {
        member.ready().await?;
    }
    Ok(())
}
