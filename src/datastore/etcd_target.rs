//! Writing into a running etcd, which counts revisions by itself.
//!
//! A lease without keys marks the etcd as ours: its id tells of which source.
//! It comes and goes without a revision. How far a migration has come is the
//! etcd's own revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use skiff_store::mvcc::Chronicle;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{StoredRole, StoredUser};
use skiff_store::{Error, Result as StoreResult};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::blocking;
use super::etcd::{Etcd, told};
use super::place::Login;
use super::replay::{Change, FILLER, Step, steps};
use skiff_kine_api::services::auth_client::AuthClient;
use skiff_kine_api::services::kv_client::KvClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_sql::endpoint::EtcdEndpoint;

/// Steps that are ready before they are written.
const AHEAD: usize = 256;
/// Writes of the filler under way at once, and until progress is looked at.
const AT_ONCE: (usize, i64) = (64, 4096);
/// Operations of one transaction, as etcd bounds it by default; more are nested.
const OPERATIONS: usize = 128;
/// TTL of the mark: about what etcd takes at most.
const MARK_TTL: i64 = 9_000_000_000;
/// TTL of a lease that has ended at the source.
const ENDED_TTL: i64 = 600;
/// How often leases are looked at that must not end meanwhile.
const RENEWAL: Duration = Duration::from_millis(300);
/// Attempts for one write whose outcome is unknown.
const ATTEMPTS: u32 = 30;
/// Pause before the next.
const PAUSE: Duration = Duration::from_secs(1);

/// An etcd that is being filled.
pub(super) struct EtcdTarget {
    client: Etcd,
    mark: i64,
    revision: i64,
    /// The filler exists there.
    filler: bool,
    /// Leases that must not end, and their TTLs.
    leases: Arc<parking_lot::Mutex<BTreeMap<i64, i64>>>,
    /// The TTLs that were asked for, by this attempt.
    asked: BTreeMap<i64, i64>,
    renewal: Option<tokio::task::JoinHandle<()>>,
    /// TTLs that the etcd raised to its shortest.
    pub(super) raised: Vec<i64>,
}

impl Drop for EtcdTarget {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl EtcdTarget {
    /// Connects, and finds an empty etcd or one where this migration goes on.
    pub(super) async fn begin(
        etcd: &EtcdEndpoint,
        login: &Login,
        identity: u64,
        compacted: i64,
    ) -> Result<Self, String> {
        let client = Etcd::connect(etcd, login).await?;
        // What was made up for a compacted history differs with it.
        let mark = ((identity ^ (compacted.max(0) as u64).rotate_left(20)) & (i64::MAX as u64)).max(1) as i64;
        let (revision, keys) = client.revision().await?;
        let leases = client.lease_ids().await?;
        let marked = leases.contains(&mark);
        if !marked && (revision > 1 || keys > 0 || !leases.is_empty()) {
            return Err(format!(
                "the target is not empty: it is at revision {revision} with {keys} keys and {} leases, and no \
                 unfinished migration of this state; revisions can only be kept in an etcd that was never \
                 written to",
                leases.len()
            ));
        }
        let target = Self {
            filler: exists(&client, FILLER).await?,
            client,
            mark,
            revision,
            leases: Arc::default(),
            asked: BTreeMap::new(),
            renewal: None,
            raised: Vec::new(),
        };
        if !marked {
            target.grant(mark, MARK_TTL).await?;
        }
        Ok(target)
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Grants a lease; answers its TTL, and whether it was there already.
    async fn grant(&self, id: i64, ttl: i64) -> Result<(i64, bool), String> {
        let call = |service| async move {
            LeaseClient::new(service).lease_grant(pb::LeaseGrantRequest { ttl, id }).await
        };
        match self.client.again(call).await {
            Ok(granted) => Ok((granted.ttl, false)),
            // By an earlier attempt.
            Err(status) if status.message().contains("lease already exists") => {
                Ok((self.client.lease_ttl(id).await?.unwrap_or(ttl), true))
            }
            Err(status) => Err(told(&status)),
        }
    }

    /// Writes everything that a state has beyond the etcd's revision.
    pub(super) async fn append(
        &mut self,
        chronicle: Arc<Chronicle>,
        report: impl Fn(i64),
    ) -> Result<(), String> {
        self.keep_leases(&chronicle).await?;
        let (sender, mut ready) = mpsc::channel(AHEAD);
        let after = self.revision;
        let reading = tokio::spawn(blocking(move || {
            let mut send = |step| -> StoreResult<()> {
                sender.blocking_send(step).map_err(|_| Error::Other("the migration ended".to_owned()))
            };
            steps(&chronicle, after, &mut send).map_err(|error| error.to_string())
        }));
        let mut written = Ok(());
        while let Some(step) = ready.recv().await {
            written = match step {
                Step::Idle(through) => self.idle(through, &report).await,
                Step::Change(revision, changes) => self.change(revision, &changes).await,
            };
            if written.is_err() {
                break;
            }
            report(self.revision);
        }
        drop(ready);
        written?;
        reading.await.map_err(|error| format!("reading the state: {error}"))?
    }

    /// Grants the leases that are missing, and keeps them from ending.
    async fn keep_leases(&mut self, chronicle: &Chronicle) -> Result<(), String> {
        for lease in chronicle.leases() {
            if self.leases.lock().contains_key(&lease.id) {
                continue;
            }
            let (ttl, there) = self.grant(lease.id, lease.ttl).await?;
            // An earlier attempt may have granted it for keys of one that had ended.
            let other = there && ttl == ENDED_TTL;
            if ttl > lease.ttl && !other {
                self.raised.push(lease.id);
            }
            self.asked.insert(lease.id, if other { ENDED_TTL } else { lease.ttl });
            self.leases.lock().insert(lease.id, ttl);
        }
        if self.renewal.is_none() {
            self.renewal = Some(tokio::spawn(renew(self.client.clone(), self.leases.clone())));
        }
        Ok(())
    }

    /// Writes the filler until the etcd is at a revision; of more than one write
    /// the last removes it.
    async fn idle(&mut self, through: i64, report: &impl Fn(i64)) -> Result<(), String> {
        let mut failures = 0;
        while self.revision < through {
            let left = through - self.revision;
            let written = match left {
                1 if self.filler => self.delete_filler().await,
                1 => self.put_fillers(1).await,
                _ => self.put_fillers((left - 1).min(AT_ONCE.1)).await,
            };
            let (revision, _) = self.client.revision().await?;
            if revision > through {
                return Err(foreign(through, revision));
            }
            match written {
                Ok(()) => failures = 0,
                Err(status) if failures < ATTEMPTS && self.client.passes(&status).await => {
                    failures += 1;
                    tracing::warn!(%status, "a write to the target failed; it goes on from where it is");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(told(&status)),
            }
            self.filler = exists(&self.client, FILLER).await?;
            self.revision = revision;
            report(revision);
        }
        Ok(())
    }

    async fn put_fillers(&self, count: i64) -> Result<(), Status> {
        let kv = self.client.kv();
        let mut writes = stream::iter(0..count)
            .map(|_| {
                let mut kv = kv.clone();
                async move {
                    Etcd::once(kv.put(pb::PutRequest { key: FILLER.into(), ..Default::default() })).await
                }
            })
            .buffer_unordered(AT_ONCE.0);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    async fn delete_filler(&self) -> Result<(), Status> {
        let request = pb::DeleteRangeRequest { key: FILLER.into(), ..Default::default() };
        Etcd::once(self.client.kv().delete_range(request)).await.map(drop)
    }

    /// Makes the changes of one revision.
    async fn change(&mut self, revision: i64, changes: &[Change]) -> Result<(), String> {
        if self.revision != revision - 1 {
            return Err(foreign(revision - 1, self.revision));
        }
        self.grant_ended_leases(changes).await?;
        let mut operations: Vec<pb::RequestOp> = changes.iter().map(operation).collect();
        if self.filler {
            // It goes along, so that it takes no revision.
            operations.push(operation(&Change::Delete(FILLER.into())));
        }
        let txn = pb::TxnRequest { success: nested(operations), ..Default::default() };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut kv = self.client.kv();
            let status = match Etcd::once(kv.txn(txn.clone())).await {
                Ok(answer) => {
                    let at = answer.header.map_or(0, |header| header.revision);
                    return self.arrived(revision, at);
                }
                Err(status) => status,
            };
            if attempt >= ATTEMPTS || !self.client.passes(&status).await {
                return Err(format!("revision {revision} of {} changes: {}", changes.len(), told(&status)));
            }
            tracing::warn!(%status, attempt, revision, "the outcome of a write is unknown; asking the target");
            tokio::time::sleep(PAUSE).await;
            let (at, _) = self.client.revision().await?;
            if at >= revision {
                return self.arrived(revision, at);
            }
        }
    }

    /// A key may have had a lease that has ended since. It is there as long as
    /// the key is, and gone in the end.
    async fn grant_ended_leases(&mut self, changes: &[Change]) -> Result<(), String> {
        for change in changes {
            if let Change::Put(_, _, lease) = change
                && *lease != 0
                && !self.leases.lock().contains_key(lease)
            {
                let (ttl, _) = self.grant(*lease, ENDED_TTL).await?;
                self.asked.insert(*lease, ENDED_TTL);
                self.leases.lock().insert(*lease, ttl);
            }
        }
        Ok(())
    }

    fn arrived(&mut self, expected: i64, at: i64) -> Result<(), String> {
        if at != expected {
            return Err(foreign(expected, at));
        }
        (self.revision, self.filler) = (at, false);
        Ok(())
    }

    /// What comes after the last revision: compaction, leases that are gone,
    /// users and roles where these go along.
    pub(super) async fn finish(&mut self, chronicle: &Chronicle, with_auth: bool) -> Result<(), String> {
        let compacted = chronicle.stored().compact_revision;
        if compacted >= 1 {
            let call = |service| async move {
                let request = pb::CompactionRequest { revision: compacted, physical: true };
                KvClient::new(service).compact(request).await
            };
            match self.client.again(call).await {
                Err(status) if !status.message().contains("has been compacted") => return Err(told(&status)),
                _ => {}
            }
        }
        self.settle_leases(chronicle).await?;
        if !with_auth {
            return Ok(());
        }
        for role in chronicle.roles() {
            self.add_role(role).await?;
        }
        for user in chronicle.users() {
            self.add_user(user).await?;
        }
        Ok(())
    }

    /// Brings the leases to where they are in the state. Those that are not there
    /// any more have no keys by now; nor has one in whose place another of the
    /// same id came meanwhile.
    async fn settle_leases(&mut self, chronicle: &Chronicle) -> Result<(), String> {
        let wanted: BTreeMap<i64, i64> =
            chronicle.leases().into_iter().map(|lease| (lease.id, lease.ttl)).collect();
        for id in self.client.lease_ids().await?.into_iter().filter(|id| *id != self.mark) {
            let asked = self.asked.get(&id).copied();
            match wanted.get(&id) {
                Some(ttl) if asked.is_none_or(|asked| asked == *ttl) => {}
                _ => {
                    if self.client.lease_has_keys(id).await? {
                        return Err(format!(
                            "lease {id:016x} has keys at the target, and ended at the source or was granted anew \
                             with another TTL: begin again with an empty target"
                        ));
                    }
                    self.leases.lock().remove(&id);
                    self.revoke(id).await?;
                    self.asked.remove(&id);
                }
            }
        }
        self.keep_leases(chronicle).await?;
        match self.client.revision().await? {
            (at, _) if at == self.revision => Ok(()),
            (at, _) => Err(foreign(self.revision, at)),
        }
    }

    /// Takes the mark away, and lets users and roles count where they did.
    pub(super) async fn release(&mut self, chronicle: &Chronicle, with_auth: bool) -> Result<(), String> {
        self.revoke(self.mark).await?;
        if !with_auth || !chronicle.stored().auth_enabled {
            return Ok(());
        }
        self.accept(self.client.auth().auth_enable(pb::AuthEnableRequest {}).await)
    }

    async fn revoke(&self, id: i64) -> Result<(), String> {
        let call = |service| async move {
            LeaseClient::new(service).lease_revoke(pb::LeaseRevokeRequest { id }).await
        };
        match self.client.again(call).await {
            Err(status) if status.code() != Code::NotFound => Err(told(&status)),
            _ => Ok(()),
        }
    }

    async fn add_role(&self, role: &StoredRole) -> Result<(), String> {
        let name = &role.name;
        let call = |service| async {
            AuthClient::new(service).role_add(pb::AuthRoleAddRequest { name: name.clone() }).await
        };
        self.accept(self.client.again(call).await)?;
        for permission in &role.permissions {
            let request =
                pb::AuthRoleGrantPermissionRequest { name: name.clone(), perm: Some(permission.clone()) };
            let call =
                |service| async { AuthClient::new(service).role_grant_permission(request.clone()).await };
            self.accept(self.client.again(call).await)?;
        }
        Ok(())
    }

    async fn add_user(&self, user: &StoredUser) -> Result<(), String> {
        let request = pb::AuthUserAddRequest {
            name: user.name.clone(),
            options: Some(skiff_store::pb::authpb::UserAddOptions { no_password: user.no_password }),
            ..Default::default()
        };
        let call = |service| async { AuthClient::new(service).user_add(request.clone()).await };
        self.accept(self.client.again(call).await)?;
        for role in &user.roles {
            let request = pb::AuthUserGrantRoleRequest { user: user.name.clone(), role: role.clone() };
            let call = |service| async { AuthClient::new(service).user_grant_role(request.clone()).await };
            self.accept(self.client.again(call).await)?;
        }
        Ok(())
    }

    /// An earlier attempt may have come this far.
    fn accept<T>(&self, answer: Result<T, Status>) -> Result<(), String> {
        match answer {
            Err(status) if !status.message().contains("already exist") => Err(told(&status)),
            _ => Ok(()),
        }
    }

    /// A client of the same etcd.
    pub(super) fn client(&self) -> &Etcd {
        &self.client
    }

    /// The id of the mark, which is no lease of the state.
    pub(super) fn mark(&self) -> i64 {
        self.mark
    }
}

/// Refuses users that an etcd does not take.
///
/// # Errors
/// There are some; a sentence.
pub(super) fn check_users(chronicle: &Chronicle) -> Result<(), String> {
    match chronicle.users().filter(|user| !user.no_password).count() {
        0 => Ok(()),
        count => Err(format!(
            "{count} users have passwords, whose hashes no running etcd takes: move to snapshot:PATH and make the \
             etcd of that, or leave users and roles behind with --skip-auth"
        )),
    }
}

async fn exists(client: &Etcd, key: &'static [u8]) -> Result<bool, String> {
    let call = |service| async move {
        let request = pb::RangeRequest { key: key.into(), count_only: true, ..Default::default() };
        KvClient::new(service).range(request).await
    };
    client.again(call).await.map(|answer| answer.count > 0).map_err(|status| told(&status))
}

fn foreign(expected: i64, found: i64) -> String {
    format!(
        "the target is at revision {found} where {expected} was expected: something else writes to it; stop that, \
         and begin with an empty target"
    )
}

fn operation(change: &Change) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match change {
        Change::Put(key, value, lease) => Request::RequestPut(pb::PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: *lease,
            ..Default::default()
        }),
        Change::Delete(key) => {
            Request::RequestDeleteRange(pb::DeleteRangeRequest { key: key.clone(), ..Default::default() })
        }
    };
    pb::RequestOp { request: Some(request) }
}

/// Operations as few enough for one level of a transaction.
fn nested(mut operations: Vec<pb::RequestOp>) -> Vec<pb::RequestOp> {
    while operations.len() > OPERATIONS {
        let inner = |piece: &[pb::RequestOp]| {
            let txn = pb::TxnRequest { success: piece.to_vec(), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(txn)) }
        };
        operations = operations.chunks(OPERATIONS).map(inner).collect();
    }
    operations
}

/// Renews leases until told to stop.
async fn renew(client: Etcd, leases: Arc<parking_lot::Mutex<BTreeMap<i64, i64>>>) {
    let mut due: BTreeMap<i64, tokio::time::Instant> = BTreeMap::new();
    loop {
        let (requests, outgoing) = mpsc::channel::<pb::LeaseKeepAliveRequest>(64);
        let outgoing = stream::unfold(outgoing, async |mut outgoing| {
            outgoing.recv().await.map(|request| (request, outgoing))
        });
        let mut service = client.leases();
        let answers = service.lease_keep_alive(Box::pin(outgoing));
        let sending = async {
            loop {
                let now = tokio::time::Instant::now();
                let all: Vec<(i64, i64)> = leases.lock().iter().map(|(id, ttl)| (*id, *ttl)).collect();
                for (id, ttl) in all {
                    if due.get(&id).is_some_and(|due| *due > now) {
                        continue;
                    }
                    if requests.send(pb::LeaseKeepAliveRequest { id }).await.is_err() {
                        return;
                    }
                    let third = Duration::from_millis((ttl.max(1) as u64).saturating_mul(333));
                    due.insert(id, now + third.min(Duration::from_secs(3600)));
                }
                tokio::time::sleep(RENEWAL).await;
            }
        };
        let receiving = async {
            let Ok(answers) = answers.await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        };
        tokio::select! {
            () = sending => {}
            () = receiving => {}
        }
        due.clear();
        tokio::time::sleep(PAUSE).await;
    }
}
