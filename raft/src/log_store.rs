//! openraft's log storage on the [write-ahead log](crate::wal).
//!
//! Order is openraft's own: its core makes one call after the other, and the
//! log keeps that order for what is durable. A truncation or purge returns
//! before it is durable, because whatever is written later becomes durable
//! later; a vote is awaited, as the contract asks.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use openraft::errors::LeaderChanged;
use openraft::storage::{
    IOFlushed, LeaderBoundedStreamError, LeaderBoundedStreamResult, LogState, RaftLogReader, RaftLogStorage,
};
use openraft::type_config::alias::LeaderIdOf;
use openraft::{OptionalSend, RaftTypeConfig};
use parking_lot::Mutex;
use prost::Message;

use crate::codec;
use crate::types::{Entry, LogId, TypeConfig, Vote, log_id};
use crate::wal::{self, LogEntry, Wal};

/// Bytes of entries one replication message or one step of applying takes.
const READ_CHUNK_BYTES: usize = 1 << 20;
/// Recent entries kept decoded; the applier is rarely further behind.
const RECENT_ENTRIES: usize = 4096;
/// Bytes of the entries kept decoded.
const RECENT_BYTES: usize = 8 << 20;

/// Log storage and reader of one member. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
    recent: Arc<Mutex<Recent>>,
}

impl LogStore {
    /// The storage on an opened log.
    pub fn new(wal: Wal) -> Self {
        Self { wal, recent: Arc::default() }
    }

    /// The log itself: its health, its size, its end.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Entries of `range` up to `max_bytes`, at least one where there is one.
    async fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let plan = self.wal.plan_read(range, max_bytes);
        let found = if plan.needs_disk() {
            tokio::task::spawn_blocking(move || plan.run()).await.map_err(io::Error::other)??
        } else {
            plan.run()?
        };
        check_gapless(&found)?;
        let recent = self.recent.lock();
        found.into_iter().map(|entry| recent.find(&entry).map_or_else(|| decode(entry), Ok)).collect()
    }

    /// Entries of `range`, as many as one step takes.
    pub(crate) async fn read_some(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        self.read(range, READ_CHUNK_BYTES).await
    }

    /// Appends an entry and waits until it is durable.
    pub(crate) async fn append_durably(&self, entry: Entry) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| {
            let _ = tx.send(result);
        });
        self.wal.append(vec![encode(&entry)], done).await?;
        rx.await.map_err(io::Error::other)?
    }

    fn stored_vote(&self) -> io::Result<Option<Vote>> {
        let decode = |bytes| crate::pb::skiff::raft::v1::Vote::decode(bytes).map(codec::decode_vote);
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, format!("vote in the log: {e}"));
        self.wal.vote().map(decode).transpose().map_err(invalid)
    }

    /// The next entries of a stream, and where it goes on; `None` at its end.
    async fn chunk(&self, range: Range<u64>) -> Option<(io::Result<Vec<Entry>>, Range<u64>)> {
        if range.is_empty() {
            return None;
        }
        match self.read(range.clone(), READ_CHUNK_BYTES).await {
            Ok(entries) => {
                let next = entries.last()?.log_id.index + 1;
                Some((Ok(entries), next..range.end))
            }
            Err(error) => Some((Err(error), range.end..range.end)),
        }
    }

    /// As [`LogStore::chunk`], as long as the vote is `leader`'s.
    async fn leaders_chunk(&self, leader: &Leader, range: Range<u64>) -> Option<LeadersChunk> {
        if range.is_empty() {
            return None;
        }
        let end = range.end;
        if let Err(error) = self.check_leader(leader) {
            return Some((Err(error), end..end));
        }
        let (entries, rest) = self.chunk(range).await?;
        // Once more: a truncation follows a new vote, so an unchanged vote
        // says that these are the leader's entries.
        match self.check_leader(leader) {
            Ok(()) => Some((entries.map_err(LeaderBoundedStreamError::IoError), rest)),
            Err(error) => Some((Err(error), end..end)),
        }
    }

    fn check_leader(&self, leader: &Leader) -> Result<(), LeaderBoundedStreamError<TypeConfig>> {
        let vote = self.stored_vote()?;
        match &vote {
            Some(vote) if vote.leader_id() == leader && vote.is_committed() => Ok(()),
            _ => Err(LeaderChanged::new(*leader, vote).into()),
        }
    }
}

type Leader = LeaderIdOf<TypeConfig>;
type LeadersChunk = (Result<Vec<Entry>, LeaderBoundedStreamError<TypeConfig>>, Range<u64>);

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(indexes(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_CHUNK_BYTES).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let chunks = stream::unfold((self.clone(), indexes(&range)), |(store, range)| async move {
            let (entries, rest) = store.chunk(range).await?;
            Some((entries, (store, rest)))
        });
        Box::pin(chunks.flat_map(spread))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let chunks = stream::unfold((self.clone(), indexes(&range)), move |(store, range)| async move {
            let (entries, rest) = store.leaders_chunk(&leader, range).await?;
            Some((entries, (store, rest)))
        });
        Box::pin(chunks.flat_map(spread))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.stored_vote()
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        // The last entry of each leader, as openraft's own implementation.
        let ids = self.wal.leaders(range.start().index, range.end().index);
        Ok(ids.into_iter().map(from_wal).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.wal.purged().map(from_wal),
            last_log_id: self.wal.last().map(from_wal),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let bytes = codec::encode_vote(vote).encode_to_vec();
        self.wal.save_vote(
            bytes.into(),
            Box::new(move |result| {
                let _ = tx.send(result);
            }),
        )?;
        rx.await.unwrap_or_else(|_| Err(wal::Error::Closed.into()))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = committed {
            self.wal.save_committed(to_wal(&id))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.committed().map(from_wal))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = <TypeConfig as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let encoded = entries.iter().map(encode).collect();
        self.recent.lock().extend(entries);
        self.wal.append(encoded, Box::new(move |result| callback.io_completed(result))).await?;
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let first_gone = last_log_id.map_or(0, |id| id.index + 1);
        Ok(self.wal.truncate_from(first_gone)?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.wal.purge(to_wal(&log_id))?)
    }
}

/// Recent entries as they came, so that applying them decodes nothing again.
///
/// A term and an index name one entry for ever, so an entry found here by both
/// is the right one, whatever was truncated since.
#[derive(Default)]
struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    fn extend(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if self.entries.back().is_some_and(|(last, _)| last.log_id.index + 1 != entry.log_id.index) {
                self.entries.clear();
                self.bytes = 0;
            }
            let size = codec::encode_payload(&entry.payload).1.len();
            self.bytes += size;
            self.entries.push_back((entry, size));
            while self.entries.len() > RECENT_ENTRIES || self.bytes > RECENT_BYTES {
                let Some((_, size)) = self.entries.pop_front() else { break };
                self.bytes -= size;
            }
        }
    }

    fn find(&self, wanted: &LogEntry) -> Option<Entry> {
        let first = self.entries.front()?.0.log_id.index;
        let (entry, _) = self.entries.get(wanted.id.index.checked_sub(first)? as usize)?;
        (entry.log_id == from_wal(wanted.id)).then(|| entry.clone())
    }
}

fn encode(entry: &Entry) -> LogEntry {
    let (kind, payload) = codec::encode_payload(&entry.payload);
    LogEntry { id: to_wal(&entry.log_id), kind, payload }
}

fn decode(entry: LogEntry) -> io::Result<Entry> {
    let index = entry.id.index;
    codec::decode_entry(from_wal(entry.id), entry.kind, entry.payload)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {e}")))
}

/// openraft's log ids name the leader by the term alone: no leader is noted.
fn to_wal(id: &LogId) -> wal::LogId {
    wal::LogId { term: id.committed_leader_id().term, leader: 0, index: id.index }
}

fn from_wal(id: wal::LogId) -> LogId {
    log_id(id.term, id.index)
}

fn check_gapless(entries: &[LogEntry]) -> io::Result<()> {
    match entries.windows(2).find(|pair| pair[0].id.index + 1 != pair[1].id.index) {
        None => Ok(()),
        Some(pair) => {
            let text = format!("log entry {} follows {}", pair[1].id.index, pair[0].id.index);
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index.saturating_add(1),
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn spread<T, E>(chunk: Result<Vec<T>, E>) -> impl Stream<Item = Result<T, E>> {
    let (items, error) = match chunk {
        Ok(items) => (items, None),
        Err(error) => (Vec::new(), Some(Err(error))),
    };
    stream::iter(items.into_iter().map(Ok).chain(error))
}
