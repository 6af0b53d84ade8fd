//! Evaluation of commands: a copy of the state in, rows, events and answers
//! out. No clock, no random source, no I/O beyond reading the view.
//!
//! A command checks everything that can fail before it changes anything, so
//! an error leaves no trace; that order is etcd's too, and decides which error
//! a request with several faults gets.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::api::WriteReply;
use crate::auth::{Permit, TokenChange};
use crate::engine::{Batch, Cf};
use crate::error::{ApiError, Error, Result};
use crate::index::Tree;
use crate::mvcc::compare;
use crate::mvcc::keys;
use crate::mvcc::range::KeyRange;
use crate::mvcc::read::{self, header};
use crate::mvcc::state::{self, Key, Lease, Meta};
use crate::mvcc::view::View;
use crate::mvcc::{EntryOutcome, LeaseChange};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};
use crate::pb::skiff::v1::command::Op;
use crate::pb::skiff::v1::{Command, LeaseRevoke, StoredLease};

/// The longest TTL, in seconds.
pub const MAX_LEASE_TTL: i64 = 9_000_000_000;

/// Kind of change in an `ev` row. Persisted: frozen.
pub(crate) const EVENT_PUT: u8 = 0;
pub(crate) const EVENT_DELETE: u8 = 1;

/// The state being changed by a run of commands, and what they leave behind.
pub(crate) struct Evaluator {
    pub(crate) view: View,
    pub(crate) batch: Batch,
    pub(crate) events: Vec<Event>,
    pub(crate) leases: Vec<LeaseChange>,
    pub(crate) tokens: Vec<TokenChange>,
    /// Index of the entry under way.
    pub(super) index: u64,
    /// Changes made by the command under way; its revision is one above the
    /// state's while there are any.
    changes: u32,
}

impl Evaluator {
    pub(crate) fn new(view: View) -> Self {
        Self {
            view,
            batch: Batch::default(),
            events: Vec::new(),
            leases: Vec::new(),
            tokens: Vec::new(),
            index: 0,
            changes: 0,
        }
    }

    /// Applies the commands of one entry.
    ///
    /// # Errors
    /// Only faults of the engine; errors of a command are its answer.
    pub(crate) fn entry(&mut self, term: u64, index: u64, commands: &[Command]) -> Result<EntryOutcome> {
        self.index = index;
        let mut replies = Vec::with_capacity(commands.len());
        for command in commands {
            let reply = self.command(term, command);
            match reply {
                Err(error) if !error.is_deterministic() => return Err(error),
                reply => replies.push(reply),
            }
            self.end_command();
        }
        let (leases, tokens) = (std::mem::take(&mut self.leases), std::mem::take(&mut self.tokens));
        Ok(EntryOutcome { replies, leases, tokens })
    }

    pub(super) fn end_command(&mut self) {
        if self.changes > 0 {
            self.view.state.stored.revision += 1;
            self.changes = 0;
        }
    }

    fn command(&mut self, term: u64, command: &Command) -> Result<WriteReply> {
        let op = command.op.as_ref();
        let state = &self.view.state;
        if let (Some(permit), Some(op)) = (Permit::new(&state.auth, command.caller.as_ref(), state), op) {
            permit.command(op)?;
        }
        self.refuse_by_alarm(op)?;
        Ok(match op {
            Some(Op::Put(request)) => {
                self.check_single_put(request)?;
                WriteReply::Put(self.put(request)?)
            }
            Some(Op::DeleteRange(request)) => WriteReply::DeleteRange(self.delete_range(request)?),
            Some(Op::Txn(request)) => WriteReply::Txn(self.txn(request)?),
            Some(Op::Compact(request)) => WriteReply::Compact(self.compact(request)?),
            Some(Op::LeaseGrant(request)) => WriteReply::LeaseGrant(self.lease_grant(request)?),
            Some(Op::LeaseRevoke(request)) => WriteReply::LeaseRevoke(self.lease_revoke(term, request)?),
            Some(Op::LeaseCheckpoint(request)) => self.lease_checkpoint(request),
            Some(Op::Alarm(request)) => WriteReply::Alarm(self.alarm(request)),
            Some(Op::MemberPublish(member)) => self.member_publish(member),
            Some(Op::ClusterVersion(version)) => {
                self.view.state.stored.cluster_version = version.clone();
                WriteReply::Done(self.revision())
            }
            Some(Op::Downgrade(info)) => {
                self.view.state.stored.downgrade = info.enabled.then(|| info.clone());
                WriteReply::Done(self.revision())
            }
            Some(Op::Adopt(adopt)) => self.adopt(adopt),
            Some(Op::Auth(request)) => self.auth(request)?,
            Some(Op::Authenticate(request)) => WriteReply::Authenticate(self.authenticate(request)?),
            None => return Err(unknown_command()),
        })
    }

    /// Alarms refuse by kind of request, as etcd's appliers do.
    fn refuse_by_alarm(&self, op: Option<&Op>) -> Result<()> {
        let raised =
            |kind: pb::AlarmType| self.view.state.stored.alarms.iter().any(|a| a.alarm == kind as i32);
        if self.view.state.stored.alarms.is_empty() {
            return Ok(());
        }
        if raised(pb::AlarmType::Corrupt)
            && matches!(
                op,
                Some(
                    Op::Put(_)
                        | Op::DeleteRange(_)
                        | Op::Txn(_)
                        | Op::Compact(_)
                        | Op::LeaseGrant(_)
                        | Op::LeaseRevoke(_)
                )
            )
        {
            return Err(ApiError::Corrupt.into());
        }
        let takes_space = match op {
            Some(Op::Put(_) | Op::LeaseGrant(_)) => true,
            Some(Op::Txn(txn)) => has_put(txn),
            _ => false,
        };
        if takes_space && raised(pb::AlarmType::Nospace) {
            return Err(ApiError::NoSpace.into());
        }
        Ok(())
    }

    /// The revision that a read inside the command under way sees.
    pub(super) fn revision(&self) -> i64 {
        self.view.state.stored.revision + i64::from(self.changes > 0)
    }

    /// The revision of the writes of the command under way.
    fn write_revision(&self) -> i64 {
        self.view.state.stored.revision + 1
    }

    fn check_lease(&self, lease: i64) -> Result<()> {
        if lease != 0 && self.view.state.leases.get(&lease).is_none() {
            return Err(ApiError::LeaseNotFound.into());
        }
        Ok(())
    }

    fn check_existing(&self, request: &pb::PutRequest) -> Result<()> {
        if (request.ignore_value || request.ignore_lease)
            && self.view.state.index.get(&request.key[..]).is_none()
        {
            return Err(ApiError::KeyNotFound.into());
        }
        Ok(())
    }

    fn check_single_put(&self, request: &pb::PutRequest) -> Result<()> {
        self.check_lease(request.lease)?;
        self.check_existing(request)
    }

    fn put(&mut self, request: &pb::PutRequest) -> Result<pb::PutResponse> {
        let previous = self.view.state.index.get(&request.key[..]).copied();
        let needs_pair = request.prev_kv || request.ignore_value;
        let pair = match &previous {
            Some(meta) if needs_pair => Some(self.view.fetch(&request.key, meta)?),
            _ => None,
        };
        let value = match &pair {
            Some(pair) if request.ignore_value => pair.value.clone(),
            _ => request.value.clone(),
        };
        let lease = match &previous {
            Some(meta) if request.ignore_lease => meta.lease,
            _ => request.lease,
        };
        self.write(&request.key, value, lease, previous);
        Ok(pb::PutResponse {
            header: header(self.write_revision()),
            prev_kv: pair.filter(|_| request.prev_kv),
        })
    }

    /// Writes the next version of a key.
    pub(super) fn write(&mut self, key: &Bytes, value: Bytes, lease: i64, previous: Option<Meta>) {
        let revision = self.write_revision();
        let meta = Meta {
            create_revision: previous.map_or(revision, |meta| meta.create_revision),
            mod_revision: revision,
            version: previous.map_or(1, |meta| meta.version + 1),
            lease,
            sub: self.changes,
        };
        let kv = KeyValue { value, key: key.clone(), ..meta.to_kv(&[]) };
        let index_key = Key::from(&key[..]);
        self.move_lease(&index_key, previous.map_or(0, |meta| meta.lease), lease);
        self.view.state.index.insert(index_key.clone(), meta);
        self.record(index_key, EVENT_PUT, kv.encode_to_vec().into());
        self.events.push(Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None });
    }

    /// Deletes a live key.
    pub(super) fn delete(&mut self, key: Key, meta: Meta) {
        self.move_lease(&key, meta.lease, 0);
        self.view.state.index.remove(&key[..]);
        let kv = KeyValue {
            key: Bytes::copy_from_slice(&key),
            mod_revision: self.write_revision(),
            ..Default::default()
        };
        self.record(key, EVENT_DELETE, Bytes::new());
        self.events.push(Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv: None });
    }

    /// Adds the rows of one change.
    fn record(&mut self, key: Key, kind: u8, version: Bytes) {
        let revision = self.write_revision();
        let row = keys::version_key(&key, revision, self.changes);
        let mut event = BytesMut::with_capacity(1 + key.len());
        event.put_u8(kind);
        event.put_slice(&key);
        self.view.state.stored.bytes_written += row_bytes(&row, &version, &key);
        self.view.overlay.insert(row.clone(), version.clone());
        self.view.overlay_changes.push((revision, key));
        self.batch.put(Cf::Kv, row, version);
        self.batch.put(Cf::Events, keys::event_key(revision, self.changes), event.freeze());
        self.changes += 1;
    }

    pub(super) fn move_lease(&mut self, key: &Key, from: i64, to: i64) {
        if from == to {
            return;
        }
        if from != 0
            && let Some(lease) = self.view.state.leases.get_mut(&from)
        {
            lease.keys.remove(&key[..]);
        }
        if to != 0
            && let Some(lease) = self.view.state.leases.get_mut(&to)
        {
            lease.keys.insert(key.clone(), ());
        }
    }

    fn live(&self, range: &KeyRange) -> Vec<(Key, Meta)> {
        if let KeyRange::One(key) = range {
            let found = self.view.state.index.get(&key[..]);
            return found.map(|meta| (Key::from(&key[..]), *meta)).into_iter().collect();
        }
        let (start, end) = range.bounds();
        self.view.state.index.range(start, end).map(|(key, meta)| (key.clone(), *meta)).collect()
    }

    fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse> {
        let doomed = self.live(&KeyRange::new(&request.key, &request.range_end));
        let prev_kvs = if request.prev_kv { self.view.fetch_all(&doomed)? } else { Vec::new() };
        let deleted = doomed.len() as i64;
        for (key, meta) in doomed {
            self.delete(key, meta);
        }
        Ok(pb::DeleteRangeResponse { header: header(self.revision()), deleted, prev_kvs })
    }

    /// Runs a transaction: picks the path by the state before it, checks every
    /// operation on the path, then executes.
    fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse> {
        let path = self.choose(request)?;
        self.check_puts(request, &path)?;
        self.check_ranges(request, &path)?;
        let mut response = self.execute(request, &path)?;
        response.header = header(self.revision());
        Ok(response)
    }

    /// Evaluates the conditions, down the branches taken.
    fn choose(&self, request: &pb::TxnRequest) -> Result<Path> {
        let mut succeeded = true;
        for condition in &request.compare {
            let picked = self.live(&KeyRange::new(&condition.key, &condition.range_end));
            let pairs = if compare::needs_value(condition) {
                self.view.fetch_all(&picked)?
            } else {
                picked.iter().map(|(key, meta)| meta.to_kv(key)).collect()
            };
            if !compare::holds(condition, &pairs) {
                succeeded = false;
                break;
            }
        }
        let mut nested = Vec::new();
        for op in branch(request, succeeded) {
            if let Some(Request::RequestTxn(txn)) = &op.request {
                nested.push(self.choose(txn)?);
            }
        }
        Ok(Path { succeeded, nested })
    }

    fn check_puts(&self, request: &pb::TxnRequest, path: &Path) -> Result<()> {
        path.visit(request, &mut |op| {
            if let Request::RequestPut(put) = op {
                self.check_existing(put)?;
                self.check_lease(put.lease)?;
            }
            Ok(())
        })
    }

    fn check_ranges(&self, request: &pb::TxnRequest, path: &Path) -> Result<()> {
        path.visit(request, &mut |op| {
            let stored = &self.view.state.stored;
            match op {
                // Unlike on its own, a range in a transaction may not name a
                // negative revision below the compacted one.
                Request::RequestRange(range) if range.revision > stored.revision => {
                    Err(ApiError::FutureRevision.into())
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < stored.compact_revision =>
                {
                    Err(ApiError::Compacted.into())
                }
                _ => Ok(()),
            }
        })
    }

    fn execute(&mut self, request: &pb::TxnRequest, path: &Path) -> Result<pb::TxnResponse> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::new();
        for op in branch(request, path.succeeded) {
            let response = match &op.request {
                Some(Request::RequestRange(range)) => Response::ResponseRange(self.range_inside(range)?),
                Some(Request::RequestPut(put)) => Response::ResponsePut(self.put(put)?),
                Some(Request::RequestDeleteRange(delete)) => {
                    Response::ResponseDeleteRange(self.delete_range(delete)?)
                }
                Some(Request::RequestTxn(txn)) => {
                    let path = nested.next().ok_or_else(unknown_command)?;
                    Response::ResponseTxn(self.execute(txn, path)?)
                }
                // etcd answers an operation of no kind with an empty answer.
                None => {
                    responses.push(pb::ResponseOp::default());
                    continue;
                }
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        let header = Some(pb::ResponseHeader::default());
        Ok(pb::TxnResponse { header, succeeded: path.succeeded, responses })
    }

    /// A range inside a transaction sees the writes before it in the same one.
    fn range_inside(&mut self, request: &pb::RangeRequest) -> Result<pb::RangeResponse> {
        let revision = self.revision();
        let before = std::mem::replace(&mut self.view.state.stored.revision, revision);
        let response = read::range(&self.view, request);
        self.view.state.stored.revision = before;
        response
    }

    fn compact(&mut self, request: &pb::CompactionRequest) -> Result<pb::CompactionResponse> {
        let stored = &mut self.view.state.stored;
        if request.revision <= stored.compact_revision {
            return Err(ApiError::Compacted.into());
        }
        if request.revision > stored.revision {
            return Err(ApiError::FutureRevision.into());
        }
        stored.compact_revision = request.revision;
        Ok(pb::CompactionResponse { header: header(stored.revision) })
    }

    fn lease_grant(&mut self, request: &pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse> {
        if request.id == 0 {
            return Err(ApiError::LeaseNotFound.into());
        }
        if request.ttl > MAX_LEASE_TTL {
            return Err(ApiError::LeaseTtlTooLarge.into());
        }
        if self.view.state.leases.get(&request.id).is_some() {
            return Err(ApiError::LeaseExists.into());
        }
        let stored = StoredLease { id: request.id, ttl: request.ttl, remaining_ttl: 0 };
        self.batch.put(Cf::Leases, keys::lease_key(stored.id), stored.encode_to_vec());
        self.view.state.leases.insert(stored.id, Lease { stored, keys: Tree::new() });
        self.leases.push(LeaseChange::Granted(stored));
        Ok(pb::LeaseGrantResponse {
            header: header(self.revision()),
            id: request.id,
            ttl: request.ttl,
            error: String::new(),
        })
    }

    fn lease_revoke(&mut self, term: u64, request: &LeaseRevoke) -> Result<pb::LeaseRevokeResponse> {
        // An expiry seen by a leader of an earlier term is void: the lease may
        // have been renewed since.
        if request.expired_in_term != 0 && request.expired_in_term != term {
            return Err(ApiError::LeaseNotFound.into());
        }
        let Some(lease) = self.view.state.leases.remove(&request.id) else {
            return Err(ApiError::LeaseNotFound.into());
        };
        for (key, ()) in lease.keys.iter() {
            if let Some(meta) = self.view.state.index.get(&key[..]).copied() {
                self.delete(key.clone(), meta);
            }
        }
        self.batch.delete(Cf::Leases, keys::lease_key(request.id));
        self.leases.push(LeaseChange::Revoked(request.id));
        Ok(pb::LeaseRevokeResponse { header: header(self.revision()) })
    }

    fn lease_checkpoint(&mut self, request: &pb::LeaseCheckpointRequest) -> WriteReply {
        for checkpoint in &request.checkpoints {
            if let Some(lease) = self.view.state.leases.get_mut(&checkpoint.id) {
                lease.stored.remaining_ttl = checkpoint.remaining_ttl;
                self.batch.put(Cf::Leases, keys::lease_key(checkpoint.id), lease.stored.encode_to_vec());
                self.leases.push(LeaseChange::Checkpointed(lease.stored));
            }
        }
        WriteReply::Done(self.revision())
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> pb::AlarmResponse {
        use pb::alarm_request::AlarmAction;
        let alarms = &mut self.view.state.stored.alarms;
        let this = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let answered = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => alarms
                .iter()
                .filter(|alarm| request.alarm == pb::AlarmType::None as i32 || alarm.alarm == request.alarm)
                .cloned()
                .collect(),
            Ok(AlarmAction::Activate) if this.alarm != pb::AlarmType::None as i32 => {
                if !alarms.contains(&this) {
                    alarms.push(this);
                    alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
                }
                vec![this]
            }
            Ok(AlarmAction::Deactivate) => match alarms.iter().position(|alarm| *alarm == this) {
                Some(at) => vec![alarms.remove(at)],
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        pb::AlarmResponse { header: header(self.revision()), alarms: answered }
    }

    fn member_publish(&mut self, member: &pb::Member) -> WriteReply {
        let row = state::member_row(member.id);
        if member.name.is_empty() && member.client_ur_ls.is_empty() {
            Arc::make_mut(&mut self.view.state.members).remove(&member.id);
            self.batch.delete(Cf::Meta, row);
        } else {
            Arc::make_mut(&mut self.view.state.members).insert(member.id, member.clone());
            self.batch.put(Cf::Meta, row, member.encode_to_vec());
        }
        WriteReply::Done(self.revision())
    }
}

/// Which branch a transaction takes, and the same for the nested ones on it.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    /// Calls `check` with every operation on the path, in order.
    fn visit(&self, request: &pb::TxnRequest, check: &mut dyn FnMut(&Request) -> Result<()>) -> Result<()> {
        let mut nested = self.nested.iter();
        for op in branch(request, self.succeeded) {
            match &op.request {
                Some(Request::RequestTxn(txn)) => {
                    nested.next().ok_or_else(unknown_command)?.visit(txn, check)?;
                }
                Some(op) => check(op)?,
                None => {}
            }
        }
        Ok(())
    }
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// True where a branch of the transaction itself writes a key. Nested ones do
/// not count, as in etcd: they pass a space alarm.
pub(crate) fn has_put(request: &pb::TxnRequest) -> bool {
    let is_put = |op: &pb::RequestOp| matches!(op.request, Some(Request::RequestPut(_)));
    request.success.iter().chain(&request.failure).any(is_put)
}

/// Bytes that a change adds to the store: its `kv` and its `ev` row.
pub(crate) fn row_bytes(row: &[u8], version: &[u8], key: &[u8]) -> i64 {
    (row.len() + version.len() + keys::EVENT_KEY_LEN + 1 + key.len()) as i64
}

pub(super) fn unknown_command() -> Error {
    // A log written by a newer version: going on would make members differ.
    Error::Corruption("a log entry holds a command this version does not know".into())
}

/// Answers a transaction that only reads.
pub(crate) fn read_txn(view: View, request: &pb::TxnRequest) -> Result<pb::TxnResponse> {
    let mut evaluator = Evaluator::new(view);
    let response = evaluator.txn(request)?;
    if evaluator.changes > 0 {
        return Err(Error::Other("a transaction with writes was sent as a read".into()));
    }
    Ok(response)
}
