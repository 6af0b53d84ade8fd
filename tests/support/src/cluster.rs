//! Several members of one cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::pb::etcdserverpb::{MemberAddRequest, StatusRequest};
use crate::{Fault, Member, MemberOptions, Network, Program, ports};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// How to start a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// What to start.
    pub program: Program,
    /// How many voters.
    pub size: usize,
    /// Put relays in front of the peer ports.
    pub relays: bool,
    /// More flags for every member.
    pub flags: Vec<String>,
}

impl ClusterOptions {
    /// Three members without relays.
    pub fn three(program: Program) -> Self {
        ClusterOptions { program, size: 3, relays: false, flags: Vec::new() }
    }

    /// The same with relays.
    pub fn with_relays(mut self) -> Self {
        self.relays = true;
        self
    }

    /// The same with one more flag, written `--flag=value`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }
}

/// Members named m1, m2, ... that were started from as many command lines.
#[derive(Debug)]
pub struct Cluster {
    /// The members, in the order they were made.
    pub members: Vec<Member>,
    /// The relays, if asked for.
    pub network: Network,
    options: ClusterOptions,
    dir: std::path::PathBuf,
    made: usize,
}

impl Cluster {
    /// Starts a cluster in `dir` and waits until every member answers.
    ///
    /// # Errors
    /// When a member does not start.
    pub async fn start(options: ClusterOptions, dir: &Path) -> Result<Self, Fault> {
        let mut cluster = Cluster {
            members: Vec::new(),
            network: Network::new(),
            dir: dir.to_path_buf(),
            made: 0,
            options,
        };
        for _ in 0..cluster.options.size {
            let member = cluster.make_member().await?;
            cluster.members.push(member);
        }
        let initial = cluster.initial_cluster(None);
        for member in &mut cluster.members {
            member.options_mut().initial_cluster.clone_from(&initial);
        }
        for index in 0..cluster.members.len() {
            cluster.start_member(index)?;
        }
        for member in &mut cluster.members {
            member.ready().await?;
        }
        Ok(cluster)
    }

    async fn make_member(&mut self) -> Result<Member, Fault> {
        self.made += 1;
        let name = format!("m{}", self.made);
        let peer_port = ports::free_port();
        let advertised_peer_port =
            if self.options.relays { self.network.relay(&name, peer_port).await? } else { peer_port };
        Ok(Member::new(MemberOptions {
            program: self.options.program.clone(),
            dir: self.dir.join(&name),
            name,
            client_port: ports::free_port(),
            peer_port,
            advertised_peer_port,
            initial_cluster: String::new(),
            existing: false,
            flags: self.options.flags.clone(),
        }))
    }

    /// The value of `--initial-cluster` with the present members and `another`.
    fn initial_cluster(&self, another: Option<&Member>) -> String {
        let entry = |member: &Member| format!("{}={}", member.name(), member.peer_url());
        self.members.iter().chain(another).map(entry).collect::<Vec<_>>().join(",")
    }

    /// Starts member `index` (again) without waiting for it.
    ///
    /// # Errors
    /// When its process cannot be started.
    pub fn start_member(&mut self, index: usize) -> Result<(), Fault> {
        self.members[index].start()?;
        self.network.register(self.members[index].name(), self.members[index].pid());
        Ok(())
    }

    /// Starts member `index` (again) and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_member(&mut self, index: usize) -> Result<(), Fault> {
        self.start_member(index)?;
        self.members[index].ready().await
    }

    /// Adds a member through member `through`, without starting it; answers its index and id.
    ///
    /// # Errors
    /// When the cluster refuses it.
    pub async fn add_member(&mut self, through: usize, learner: bool) -> Result<(usize, u64), Fault> {
        let mut member = self.make_member().await?;
        let request = MemberAddRequest { peer_ur_ls: vec![member.peer_url()], is_learner: learner };
        let client = self.members[through].client();
        let added = retry(|| client.member_add(request.clone())).await?;
        let initial_cluster = self.initial_cluster(Some(&member));
        let options = member.options_mut();
        options.existing = true;
        options.initial_cluster = initial_cluster;
        self.members.push(member);
        let id = added.member.map(|member| member.id).ok_or("the answer to MemberAdd has no member")?;
        Ok((self.members.len() - 1, id))
    }

    /// The endpoints of all members, for etcdctl.
    pub fn endpoints(&self) -> String {
        self.members.iter().map(Member::address).collect::<Vec<_>>().join(",")
    }

    /// Waits until a running member says that it leads; answers its index.
    ///
    /// # Errors
    /// When none does in time.
    pub async fn leader(&self) -> Result<usize, Fault> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (index, member) in self.members.iter().enumerate() {
                if member.pid().is_none() {
                    continue;
                }
                let client = member.client().with_deadline(Duration::from_secs(2));
                if let Ok(status) = client.status(StatusRequest {}).await {
                    let own = status.header.map(|header| header.member_id).unwrap_or_default();
                    if own != 0 && own == status.leader {
                        return Ok(index);
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
        Err("no member leads".into())
    }

    /// Waits until the running members are at the same revision and checks that their hashes agree.
    ///
    /// # Errors
    /// When they do not get there, or their states differ.
    pub async fn check_hashes(&self) -> Result<i64, Fault> {
        crate::verify::check_hashes(&self.members).await
    }
}

/// Calls until it succeeds, for calls that a cluster in motion refuses for a moment.
///
/// # Errors
/// The last error after a minute.
pub async fn retry<T, E, F, Fut>(mut call: F) -> Result<T, Fault>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(Box::new(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
