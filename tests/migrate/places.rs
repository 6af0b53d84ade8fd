//! Places of every kind, and servers on them.

use std::path::{Path, PathBuf};

use skiff_test_support::{Client, Member, MemberOptions, Program, Scratch};

use crate::databases::{self, TestDatabase};
use crate::{SKIFF, migrated};

/// Where a store can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A real etcd.
    Etcd,
    /// A running `skiff etcd`.
    SkiffEtcd,
    /// The data directory of a stopped `skiff etcd`.
    DataDir,
    /// A snapshot.
    Snapshot,
    Sqlite,
    Postgres,
    Mariadb,
    Mysql,
}

impl Kind {
    /// All that can be had here.
    pub(crate) fn all() -> Vec<Kind> {
        use Kind::*;
        let mut all = vec![Etcd, SkiffEtcd, DataDir, Snapshot, Sqlite, Postgres, Mariadb];
        match databases::mysql() {
            Some(_) => all.push(Mysql),
            None => eprintln!("NOT TESTED: migration from and to MySQL; no server can be had here"),
        }
        all
    }
}

/// A place of one's own, empty at first.
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// What stands behind `--from` and `--to`.
    pub(crate) name: String,
    /// Flags that go along with it as `--to`.
    flags: Vec<String>,
    dir: PathBuf,
    /// How a member on a data directory is started.
    options: MemberOptions,
    server: Option<Member>,
    _database: Option<TestDatabase>,
    _scratch: Scratch,
}

impl Place {
    /// An empty one. Where it is a running etcd, that is started.
    pub(crate) async fn empty(kind: Kind) -> Place {
        let scratch = Scratch::new("migrate");
        let dir = scratch.path().to_owned();
        let database = match kind {
            Kind::Sqlite => Some(databases::sqlite()),
            Kind::Postgres => Some(databases::postgres()),
            Kind::Mariadb => Some(databases::mariadb()),
            Kind::Mysql => databases::mysql(),
            _ => None,
        };
        let mut server = match kind {
            Kind::Etcd => Some(member(Program::oracle(), &dir)),
            Kind::SkiffEtcd => Some(member(Program::Skiff(SKIFF.into()), &dir)),
            _ => None,
        };
        if let Some(server) = &mut server {
            start(server).await;
        }
        let name = match (&server, &database, kind) {
            (Some(server), ..) => format!("http://{}", server.address()),
            (_, Some(database), _) => database.endpoint.clone(),
            (.., Kind::DataDir) => format!("data-dir:{}", dir.join("data").display()),
            _ => format!("snapshot:{}", dir.join("snapshot").display()),
        };
        let options = MemberOptions::single(Program::Skiff(SKIFF.into()), &dir);
        let flags = match kind {
            Kind::DataDir => vec![
                format!("--name={}", options.name),
                format!("--initial-cluster={}", options.initial_cluster),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{}", options.peer_port),
            ],
            _ => Vec::new(),
        };
        Place { kind, name, flags, dir, options, server, _database: database, _scratch: scratch }
    }

    /// One that holds what another holds.
    pub(crate) async fn filled(kind: Kind, from: &Place) -> Place {
        let place = Place::empty(kind).await;
        migrated(&from.name, &place.name, &place.flags()).ok();
        place
    }

    pub(crate) fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }

    /// A client of a server on this place, which is started if it does not run.
    pub(crate) async fn client(&mut self) -> Client {
        if self.server.is_none() {
            let mut server = match self.kind {
                Kind::DataDir => Member::new(self.options.clone()),
                Kind::Snapshot => {
                    let data = self.dir.join("restored/data");
                    let file = self.name.trim_start_matches("snapshot:").to_owned();
                    let args = ["etcd", "util", "snapshot", "restore", &file, "--data-dir"];
                    if !data.exists() {
                        let mut restore = std::process::Command::new(SKIFF);
                        let done = restore.args(args).arg(&data).output().expect("it runs");
                        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
                    }
                    member(Program::Skiff(SKIFF.into()), &self.dir.join("restored"))
                }
                _ => {
                    let kine = Program::Kine { binary: SKIFF.into(), endpoint: self.name.clone() };
                    member(kine, &self.dir)
                }
            };
            start(&mut server).await;
            self.server = Some(server);
        }
        self.server.as_ref().expect("it runs").client()
    }

    /// Ends the server that [`Place::client`] started.
    pub(crate) async fn rest(&mut self) {
        if !matches!(self.kind, Kind::Etcd | Kind::SkiffEtcd)
            && let Some(mut server) = self.server.take()
        {
            server.stop().await.expect("it stops");
        }
    }
}

fn member(program: Program, dir: &Path) -> Member {
    Member::new(MemberOptions::single(program, dir))
}

async fn start(member: &mut Member) {
    std::fs::create_dir_all(&member.options().dir).expect("a folder");
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
}
