//! Makes random sequences. Keys come from a small pool, so that steps meet; every field takes every kind
//! of value, the senseless ones included.

use bytes::Bytes;
use skiff_test_support::Rng;
use skiff_test_support::pb::etcdserverpb::*;

use crate::op::{self, Op, Step};

/// Number of watch streams of a sequence.
pub(crate) const STREAMS: usize = 2;

/// Tails of the keys of a sequence; some are prefixes of others, some hold bytes that sort at the ends.
const TAILS: &[&[u8]] =
    &[b"", b"a", b"a\x00", b"a\xff", b"ab", b"b", b"c/1", b"c/2", b"\x00", b"\xff\xff", b"z\xff"];

/// Makes the steps of sequence number `number` (distinct per pair of servers).
pub(crate) fn sequence(rng: &mut Rng, number: u64) -> Vec<Step> {
    let length = 20 + rng.below(41) as usize;
    let mut generator = Generator { rng, prefix: format!("s{number:05}/").into_bytes(), number, grants: 0 };
    // Every fourth sequence goes through the gateway in part, step by step.
    let json = if number % 4 == 3 { 50 } else { 0 };
    let step = |_| {
        let op = generator.op();
        let json = generator.rng.chance(json) && named(&op);
        Step { json, ..op.into() }
    };
    (0..length).map(step).collect()
}

struct Generator<'a> {
    rng: &'a mut Rng,
    prefix: Vec<u8>,
    number: u64,
    grants: i64,
}

impl Generator<'_> {
    fn op(&mut self) -> Op {
        match self.rng.weighted(&[240, 220, 70, 220, 25, 40, 20, 10, 20, 8, 60, 12, 15, 10, 4, 6, 1, 2, 3]) {
            0 => Op::Put(self.put()),
            1 => Op::Range(self.range()),
            2 => Op::Delete(self.delete()),
            3 => {
                let mut txn = self.txn(0);
                if has_delete(&txn) {
                    keep_nothing(&mut txn);
                }
                Op::Txn(txn)
            }
            4 => Op::Compact(self.compaction()),
            5 => Op::Grant(self.grant()),
            6 => Op::Revoke(LeaseRevokeRequest { id: self.lease() }),
            7 => Op::KeepAlive((0..1 + self.rng.below(3)).map(|_| self.lease()).collect()),
            8 => Op::TimeToLive(LeaseTimeToLiveRequest { id: self.lease(), keys: self.rng.chance(70) }),
            9 => Op::Leases,
            10 => {
                let stream = self.rng.below(STREAMS as u64) as usize;
                Op::Watch(stream, self.watch())
            }
            11 => {
                let stream = self.rng.below(STREAMS as u64) as usize;
                Op::CancelWatch(stream, self.rng.between(0, 4))
            }
            12 => Op::Barrier,
            13 => Op::HashKv(HashKvRequest { revision: self.revision(30) }),
            14 => Op::Status,
            15 => Op::Alarm(self.alarm()),
            16 => Op::Defragment,
            17 => {
                let target_id = *self.rng.pick(&[op::SELF, 0, 4242]);
                Op::MoveLeader(MoveLeaderRequest { target_id })
            }
            _ => Op::Members(MemberListRequest { linearizable: self.rng.chance(50) }),
        }
    }

    fn key(&mut self) -> Bytes {
        match self.rng.below(100) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from_static(b"\xff\xff\xff"),
            3 => [&self.prefix[..], &b"long".repeat(50)[..]].concat().into(),
            _ => {
                let tail = *self.rng.pick(TAILS);
                [&self.prefix[..], tail].concat().into()
            }
        }
    }

    fn valid_key(&mut self) -> Bytes {
        let tail = *self.rng.pick(TAILS);
        [&self.prefix[..], tail].concat().into()
    }

    /// The end of a range that starts at `key`.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.rng.below(20) {
            0..=6 => Bytes::new(),
            7..=11 => end_of_prefix(key),
            12..=14 => end_of_prefix(&self.prefix),
            15..=16 => self.valid_key(),
            17 => Bytes::from_static(b"\0"),
            18 => key.clone(),
            _ => [&key[..], b"\0"].concat().into(),
        }
    }

    /// A key and a range end, from one key to everything.
    fn interval(&mut self) -> (Bytes, Bytes) {
        match self.rng.below(40) {
            0 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            1 => (Bytes::new(), Bytes::from_static(b"\0")),
            2..=15 => (self.prefix.clone().into(), end_of_prefix(&self.prefix)),
            _ => {
                let key = self.key();
                let end = self.range_end(&key);
                (key, end)
            }
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.below(40) {
            0..=2 => Bytes::new(),
            3 => b"large".repeat(8000).into(),
            4..=8 => {
                let length = 1 + self.rng.below(40) as usize;
                self.rng.bytes(length).into()
            }
            _ => format!("v{}", self.rng.below(6)).into(),
        }
    }

    /// A revision: zero `100 - percent` times in a hundred, else anything.
    fn revision(&mut self, percent: u64) -> i64 {
        if !self.rng.chance(percent) {
            return 0;
        }
        match self.rng.below(24) {
            0..=9 => op::current(-self.rng.between(0, 12)),
            10..=14 => op::base(self.rng.between(-2, 10)),
            15..=17 => op::compacted(self.rng.between(-2, 2)),
            18..=19 => op::current(self.rng.between(1, 4)),
            20 => op::current(0),
            21 => -self.rng.between(1, 5),
            22 => *self.rng.pick(&[1, 2, 3]),
            _ => *self.rng.pick(&[i64::MAX, i64::MIN, 1 << 40]),
        }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.interval();
        let mut request =
            RangeRequest { key, range_end, revision: self.revision(30), ..RangeRequest::default() };
        if self.rng.chance(30) {
            request.limit = *self.rng.pick(&[1, 1, 2, 3, 5, 100, -1, i64::MAX]);
        }
        if self.rng.chance(40) {
            // Numbers that the enums do not have: etcd 3.5 ignores such an order and crashes on such a
            // target; later versions refuse both, and so do we.
            request.sort_order = self.rng.between(0, 2) as i32;
            request.sort_target = self.rng.between(0, 4) as i32;
        }
        request.serializable = self.rng.chance(20);
        request.keys_only = self.rng.chance(12);
        request.count_only = self.rng.chance(8);
        if self.rng.chance(15) {
            request.min_mod_revision = self.revision(50);
            request.max_mod_revision = self.revision(50);
            request.min_create_revision = self.revision(30);
            request.max_create_revision = self.revision(30);
        }
        request
    }

    /// A number of an enum with `count` values; sometimes one it does not have.
    fn enum_number(&mut self, count: i64) -> i32 {
        if self.rng.chance(3) { *self.rng.pick(&[-1, 5, 99]) } else { self.rng.between(0, count - 1) as i32 }
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.rng.chance(30),
            ..PutRequest::default()
        };
        if self.rng.chance(25) {
            request.lease = self.lease();
        }
        if self.rng.chance(8) {
            request.ignore_value = true;
            if self.rng.chance(80) {
                request.value = Bytes::new();
            }
        }
        if self.rng.chance(8) {
            request.ignore_lease = true;
            if self.rng.chance(80) {
                request.lease = 0;
            }
        }
        request
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = if self.rng.chance(60) { (self.key(), Bytes::new()) } else { self.interval() };
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.chance(50) }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = self.rng.below(4);
        let mut request =
            TxnRequest { compare: (0..compares).map(|_| self.compare()).collect(), ..TxnRequest::default() };
        if self.rng.chance(1) {
            // Just allowed and just too many.
            let count = self.rng.between(127, 130);
            request.success = (0..count).map(|_| self.numbered_put()).collect();
            return request;
        }
        let most = if depth == 0 { 5 } else { 3 };
        let (success, failure) = (self.rng.below(most), self.rng.below(most));
        request.success = (0..success).map(|_| self.request_op(depth)).collect();
        request.failure = (0..failure).map(|_| self.request_op(depth)).collect();
        request
    }

    fn numbered_put(&mut self) -> RequestOp {
        let tail = self.rng.below(1 << 40);
        let key = [&self.prefix[..], format!("n{tail}").as_bytes()].concat().into();
        let put = PutRequest { key, value: Bytes::from_static(b"n"), ..PutRequest::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    }

    fn request_op(&mut self, depth: usize) -> RequestOp {
        use request_op::Request;
        let nested = if depth < 3 { 12 } else { 0 };
        let request = match self.rng.weighted(&[40, 30, 18, nested]) {
            0 => Request::RequestPut(self.put()),
            1 => Request::RequestRange(self.range()),
            2 => Request::RequestDeleteRange(self.delete()),
            _ => Request::RequestTxn(self.txn(depth + 1)),
        };
        RequestOp { request: Some(request) }
    }

    fn compare(&mut self) -> Compare {
        use compare::{CompareTarget, TargetUnion};
        let target = self.enum_number(5);
        let mut result = self.enum_number(4);
        let union = match CompareTarget::try_from(target) {
            Ok(CompareTarget::Version) => TargetUnion::Version(self.rng.between(-1, 4)),
            Ok(CompareTarget::Create) => TargetUnion::CreateRevision(self.revision(70)),
            Ok(CompareTarget::Mod) => TargetUnion::ModRevision(self.revision(70)),
            Ok(CompareTarget::Value) => TargetUnion::Value(self.value()),
            Ok(CompareTarget::Lease) => {
                // Ids picked by the servers differ: only equality means the same on both.
                result = *self.rng.pick(&[0, 3]);
                TargetUnion::Lease(self.lease())
            }
            Err(_) => TargetUnion::Version(0),
        };
        let target_union = match self.rng.below(100) {
            0..=2 => None,
            // The value of another target: the server takes the zero of the right one.
            3..=5 if target != CompareTarget::Lease as i32 => Some(TargetUnion::Version(1)),
            _ => Some(union),
        };
        let (key, range_end) = if self.rng.chance(75) { (self.key(), Bytes::new()) } else { self.interval() };
        Compare { result, target, key, target_union, range_end }
    }

    fn compaction(&mut self) -> CompactionRequest {
        let revision = match self.rng.below(12) {
            0..=5 => op::current(-self.rng.between(0, 10)),
            6..=8 => op::base(self.rng.between(-1, 6)),
            _ => self.revision(95),
        };
        CompactionRequest { revision, physical: self.rng.chance(60) }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let id = match self.rng.below(10) {
            0..=3 => 0,
            4 => -(1 + self.number as i64),
            5 => op::lease(self.rng.between(0, self.grants.max(1) - 1)),
            _ => (self.number as i64 + 1) * 16 + self.rng.between(0, 5),
        };
        let ttl = match self.rng.below(20) {
            0 => 0,
            1 => -self.rng.between(1, 100),
            2 => *self.rng.pick(&[9_000_000_000, 9_000_000_001, i64::MAX]),
            3 => self.rng.between(1, 5),
            _ => self.rng.between(2_000, 100_000),
        };
        self.grants += 1;
        LeaseGrantRequest { id, ttl }
    }

    fn lease(&mut self) -> i64 {
        match self.rng.below(10) {
            0 => *self.rng.pick(&[0, 1, -1, i64::MAX]),
            1..=2 => (self.number as i64 + 1) * 16 + self.rng.between(0, 5),
            _ => op::lease(self.rng.between(0, self.grants.max(1) - 1)),
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let (key, range_end) = if self.rng.chance(50) {
            (self.prefix.clone().into(), end_of_prefix(&self.prefix))
        } else {
            self.interval()
        };
        let mut filters = Vec::new();
        for filter in [0, 1] {
            if self.rng.chance(12) {
                filters.push(filter);
            }
        }
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.revision(60),
            progress_notify: self.rng.chance(20),
            filters,
            prev_kv: self.rng.chance(50),
            watch_id: if self.rng.chance(30) { self.rng.between(0, 5) } else { 0 },
            fragment: self.rng.chance(20),
        }
    }

    fn alarm(&mut self) -> AlarmRequest {
        AlarmRequest {
            action: *self.rng.pick(&[0, 0, 1, 2, 2]),
            member_id: *self.rng.pick(&[op::SELF, op::SELF, 0, 77]),
            // One kind in a sequence: where both are raised, etcd forgets the rules of the first.
            alarm: if self.rng.chance(20) { 0 } else { 1 + i32::from(self.number.is_multiple_of(4)) },
        }
    }
}

/// Whether JSON can say it alike everywhere: numbers that an enum does not have are refused in JSON since 3.6,
/// and so they are here.
fn named(op: &Op) -> bool {
    fn txn(request: &TxnRequest) -> bool {
        let compares = request.compare.iter().all(|compare| {
            compare::CompareTarget::try_from(compare.target).is_ok()
                && compare::CompareResult::try_from(compare.result).is_ok()
        });
        compares
            && request.success.iter().chain(&request.failure).all(|op| match &op.request {
                Some(request_op::Request::RequestTxn(nested)) => txn(nested),
                _ => true,
            })
    }
    !matches!(op, Op::Txn(request) if !txn(request))
}

fn has_delete(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestDeleteRange(_)) => true,
        Some(request_op::Request::RequestTxn(nested)) => has_delete(nested),
        _ => false,
    })
}

/// Turns off `ignore_value` and `ignore_lease`: a put that keeps what the same transaction has just deleted
/// ends the process of etcd 3.5.
fn keep_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(request_op::Request::RequestPut(put)) => {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
            Some(request_op::Request::RequestTxn(nested)) => keep_nothing(nested),
            _ => {}
        }
    }
}

/// The end of the range of all keys that start with `prefix`.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
