//! Tells of every leader of an election.

use std::collections::VecDeque;

use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::KeyValue;
use skiff_store::pb::mvccpb::event::EventType;
use skiff_store::pb::v3electionpb::LeaderResponse;
use tonic::Status;

use super::caller::{Caller, Events};
use super::prefix::Prefix;

/// Follows an election: its leader, what it proclaims, and the next leader.
///
/// It tells the newest state, not every one: who led for so short a time that
/// it was over before it was seen is not told, as in etcd.
pub(super) struct Observer {
    caller: Caller,
    prefix: Prefix,
    state: State,
    /// Still to be told: at most what one response of a watch held.
    told: VecDeque<LeaderResponse>,
}

enum State {
    /// Who leads is to be asked.
    Looking,
    /// Nobody leads; the first candidate is awaited.
    Vacant(Events),
    /// The leader's key is followed until it is deleted.
    Following(Events),
}

impl Observer {
    pub(super) fn new(caller: Caller, prefix: Prefix) -> Self {
        Self { caller, prefix, state: State::Looking, told: VecDeque::new() }
    }

    /// The next news. `None` when no more can be told: etcd then ends the
    /// stream without an error, and so do we.
    pub(super) async fn next(&mut self) -> Option<LeaderResponse> {
        loop {
            if let Some(leader) = self.told.pop_front() {
                return Some(leader);
            }
            if let Err(status) = self.step().await {
                tracing::debug!(error = status.message(), "an observation of an election ends");
                return None;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Status> {
        match &mut self.state {
            State::Looking => self.look().await,
            State::Vacant(events) => {
                let response = events.next().await?;
                self.first_candidate(response);
                Ok(())
            }
            State::Following(events) => {
                let response = events.next().await?;
                self.follow(response);
                Ok(())
            }
        }
    }

    async fn look(&mut self) -> Result<(), Status> {
        let oldest = self.caller.range(self.prefix.oldest()).await?;
        let header = oldest.header.unwrap_or_default();
        match oldest.kvs.into_iter().next() {
            Some(pair) => self.tell_new(header, pair),
            None => self.state = State::Vacant(self.caller.watch(self.prefix.changes(header.revision))),
        }
        Ok(())
    }

    /// Takes the first candidate out of changes of the whole election.
    fn first_candidate(&mut self, response: pb::WatchResponse) {
        let mut header = response.header.unwrap_or_default();
        let mut puts = response.events.into_iter().filter(|event| event.r#type() == EventType::Put);
        if let Some(pair) = puts.find_map(|event| event.kv) {
            // The response may reach further than this pair.
            header.revision = pair.mod_revision;
            self.tell_new(header, pair);
        }
    }

    /// Tells of a leader and follows its key from then on.
    fn tell_new(&mut self, header: pb::ResponseHeader, pair: KeyValue) {
        self.state = State::Following(self.caller.watch(pb::WatchCreateRequest {
            key: pair.key.clone(),
            start_revision: header.revision + 1,
            ..Default::default()
        }));
        self.told.push_back(LeaderResponse { header: Some(header), kv: Some(pair) });
    }

    /// Takes in changes of the leader's key.
    fn follow(&mut self, response: pb::WatchResponse) {
        for event in response.events {
            if event.r#type() == EventType::Delete {
                self.state = State::Looking;
                return;
            }
            self.told.push_back(LeaderResponse { header: response.header, kv: event.kv });
        }
    }
}
