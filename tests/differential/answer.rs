//! What a server answered to a step, in a form in which two servers can be compared.

use std::collections::{BTreeMap, HashMap};

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::{Event, KeyValue};
use tonic::Status;

use crate::known;

/// The first of the numbers that stand for leases whose id the server picked.
pub(crate) const PICKED_LEASE: i64 = 0x11EA_5E00_0000;

/// What a watch saw between two barriers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// Events, in the order they came.
    pub(crate) events: Vec<Event>,
    /// Answers that carry no events: created, canceled.
    pub(crate) control: Vec<WatchResponse>,
}

/// What the watches of one stream saw between two barriers, by watch id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StreamSeen {
    /// By watch id; -1 for answers that belong to no watch.
    pub(crate) watches: BTreeMap<i64, Seen>,
    /// Broken rules of the stream itself.
    pub(crate) faults: Vec<String>,
}

/// The answer to a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// An error: its code and text.
    Error(i32, String),
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    Delete(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
    /// To a grant.
    Grant(LeaseGrantResponse),
    /// To a revocation.
    Revoke(LeaseRevokeResponse),
    /// To renewals, one each.
    KeepAlive(Vec<LeaseKeepAliveResponse>),
    /// To a question for the time left.
    TimeToLive(LeaseTimeToLiveResponse),
    /// To a list of leases.
    Leases(LeaseLeasesResponse),
    /// To a watch: that it was created, and that it ended, when that is bound to follow.
    Watch(WatchResponse, Option<WatchResponse>),
    /// To the end of a watch; nothing when there is no such watch.
    Cancel(Option<WatchResponse>),
    /// What all streams saw.
    Barrier(Vec<StreamSeen>),
    /// To a hash.
    HashKv(HashKvResponse),
    /// To a status.
    Status(StatusResponse),
    /// To an alarm.
    Alarm(AlarmResponse),
    /// To a defragmentation.
    Defragment(DefragmentResponse),
    /// To a leader transfer.
    MoveLeader(MoveLeaderResponse),
    /// To a list of members.
    Members(MemberListResponse),
    /// To a login, without the token.
    LogIn(AuthenticateResponse),
    /// The first of a watch.
    Peek(Option<WatchResponse>),
    /// To another call, comparable as it is.
    Plain(String),
}

impl Answer {
    /// An answer or the error instead.
    pub(crate) fn of<T>(result: Result<T, Status>, wrap: impl FnOnce(T) -> Answer) -> Answer {
        match result {
            Ok(value) => wrap(value),
            Err(status) => Answer::Error(i32::from(status.code()), status.message().to_owned()),
        }
    }

    /// The revision in the header, when there is one.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(answer) => &answer.header,
            Answer::Put(answer) => &answer.header,
            Answer::Delete(answer) => &answer.header,
            Answer::Txn(answer) => &answer.header,
            Answer::Compact(answer) => &answer.header,
            Answer::Revoke(answer) => &answer.header,
            _ => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// Takes out of answers what two servers may rightly answer differently: ids, terms, sizes, clocks.
#[derive(Debug, Default)]
pub(crate) struct Normalizer {
    /// The server's member id.
    pub(crate) member: u64,
    /// Numbers for the lease ids that the server picked.
    pub(crate) leases: HashMap<i64, i64>,
    /// Over SQL the one member has this name, whatever the other server's is called.
    pub(crate) name: Option<String>,
}

impl Normalizer {
    /// The answer in comparable form.
    pub(crate) fn normalize(&self, mut answer: Answer) -> Answer {
        match &mut answer {
            Answer::Error(_, text) => *text = known::error_text(text),
            Answer::Range(answer) => self.range(answer),
            Answer::Put(answer) => self.put(answer),
            Answer::Delete(answer) => self.delete(answer),
            Answer::Txn(answer) => self.txn(answer),
            Answer::Compact(answer) => header(&mut answer.header),
            Answer::Grant(answer) => {
                header(&mut answer.header);
                self.lease(&mut answer.id);
            }
            Answer::Revoke(answer) => header(&mut answer.header),
            Answer::KeepAlive(answers) => {
                for answer in answers {
                    header(&mut answer.header);
                    self.lease(&mut answer.id);
                }
            }
            Answer::TimeToLive(answer) => self.time_to_live(answer),
            Answer::Leases(answer) => {
                header(&mut answer.header);
                answer.leases.iter_mut().for_each(|lease| self.lease(&mut lease.id));
                // etcd orders by the time of expiry, which depends on when requests arrived.
                answer.leases.sort_by_key(|lease| lease.id);
            }
            Answer::Watch(created, ended) => {
                self.watch(created);
                ended.iter_mut().for_each(|answer| self.watch(answer));
            }
            Answer::Cancel(answer) => answer.iter_mut().for_each(|answer| self.watch(answer)),
            Answer::Barrier(streams) => {
                for seen in streams.iter_mut().flat_map(|stream| stream.watches.values_mut()) {
                    seen.events.iter_mut().for_each(|event| self.event(event));
                    seen.control.iter_mut().for_each(|answer| self.watch(answer));
                }
            }
            Answer::HashKv(answer) => {
                header(&mut answer.header);
                known::hash_kv(answer);
            }
            Answer::Status(answer) => self.status(answer),
            Answer::Alarm(answer) => {
                header(&mut answer.header);
                answer.alarms.iter_mut().for_each(|alarm| self.member(&mut alarm.member_id));
                answer.alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm));
            }
            Answer::Defragment(answer) => known::header_beyond(&mut answer.header),
            Answer::MoveLeader(answer) => known::header_beyond(&mut answer.header),
            Answer::LogIn(answer) => header(&mut answer.header),
            Answer::Peek(answer) => answer.iter_mut().for_each(|answer| self.watch(answer)),
            Answer::Plain(_) => {}
            Answer::Members(answer) => {
                known::header_beyond(&mut answer.header);
                for member in &mut answer.members {
                    if let Some(name) = &self.name {
                        assert_eq!(member.name, "default", "the member of a store over SQL");
                        member.name.clone_from(name);
                    }
                    self.member(&mut member.id);
                    // Ports differ.
                    member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls).for_each(String::clear);
                }
            }
        }
        answer
    }

    fn lease(&self, id: &mut i64) {
        if let Some(number) = self.leases.get(id) {
            *id = *number;
        }
    }

    fn member(&self, id: &mut u64) {
        if *id == self.member {
            *id = 1;
        }
    }

    fn pair(&self, pair: &mut KeyValue) {
        self.lease(&mut pair.lease);
    }

    fn event(&self, event: &mut Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|pair| self.pair(pair));
    }

    fn range(&self, answer: &mut RangeResponse) {
        header(&mut answer.header);
        answer.kvs.iter_mut().for_each(|pair| self.pair(pair));
    }

    fn put(&self, answer: &mut PutResponse) {
        header(&mut answer.header);
        answer.prev_kv.iter_mut().for_each(|pair| self.pair(pair));
    }

    fn delete(&self, answer: &mut DeleteRangeResponse) {
        header(&mut answer.header);
        answer.prev_kvs.iter_mut().for_each(|pair| self.pair(pair));
    }

    fn txn(&self, answer: &mut TxnResponse) {
        use response_op::Response;
        header(&mut answer.header);
        for op in &mut answer.responses {
            match &mut op.response {
                Some(Response::ResponseRange(range)) => self.range(range),
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }

    fn watch(&self, answer: &mut WatchResponse) {
        header(&mut answer.header);
        if answer.canceled && answer.compact_revision != 0 {
            // Sent when the server comes to it, at whatever revision it is then.
            answer.header.iter_mut().for_each(|header| header.revision = 0);
        }
    }

    fn time_to_live(&self, answer: &mut LeaseTimeToLiveResponse) {
        header(&mut answer.header);
        self.lease(&mut answer.id);
        answer.keys.sort();
        // Some of the time may have passed.
        if answer.granted_ttl > 600 && (answer.granted_ttl - 600..=answer.granted_ttl).contains(&answer.ttl) {
            answer.ttl = answer.granted_ttl;
        }
    }

    fn status(&self, answer: &mut StatusResponse) {
        header(&mut answer.header);
        self.member(&mut answer.leader);
        answer.version.clear();
        answer.db_size = answer.db_size.signum();
        answer.db_size_in_use = answer.db_size_in_use.signum();
        answer.raft_index = answer.raft_index.min(1);
        answer.raft_applied_index = answer.raft_applied_index.min(1);
        answer.raft_term = answer.raft_term.min(1);
        let own = self.member.to_string();
        answer.errors.iter_mut().for_each(|error| *error = error.replace(&own, "SELF"));
        answer.errors.sort();
        known::status(answer);
    }
}

/// Leaves of the header the revision, and of the rest whether it is there.
pub(crate) fn header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}
