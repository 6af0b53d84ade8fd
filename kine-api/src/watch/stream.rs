//! One watch stream: requests of a client in, responses out.
//!
//! The stream is driven by the connection: it does work only when the client
//! can take an answer, so that a client that does not read costs the bounded
//! queues of its watchers and nothing else. A watcher that falls behind reads
//! history later; it never skips.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use skiff_store::pb::etcdserverpb::watch_create_request::FilterType;
use skiff_store::pb::etcdserverpb::watch_request::RequestUnion;
use skiff_store::pb::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use skiff_store::watch::{WatchItem, WatchSpec, Watcher};
use skiff_store::{Access, ApiError, Caller};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tonic::Status;

use super::fragment;
use super::ready::ReadySet;
use crate::api::Api;
use crate::auth::Identity;
use crate::{metrics, to_status};

/// Id that means the whole stream, or no watch.
const NO_WATCH: i64 = -1;

/// How long to wait before looking again whether every watch has caught up
/// with a progress request.
const PROGRESS_RETRY: Duration = Duration::from_millis(5);

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// What a client asks of a watch stream.
pub(crate) type Requests = Pin<Box<dyn Stream<Item = Result<WatchRequest, Status>> + Send>>;

/// Finds out who asks for a watch.
type Identifying = Pin<Box<dyn Future<Output = Result<Caller, Status>> + Send>>;

/// A watch of the stream.
struct Watch {
    watcher: Watcher,
    start_revision: i64,
    fragment: bool,
    progress_notify: bool,
    /// No events since the last tick of the progress interval.
    quiet: bool,
}

impl Watch {
    /// The revision up to which this watch has reported everything. A watch
    /// that starts in the future has none: a client would resume below its
    /// start.
    fn progress(&self) -> Option<i64> {
        self.watcher.progress().filter(|revision| self.start_revision <= *revision)
    }
}

/// A progress request that waits until every watch has caught up.
struct DeferredProgress {
    /// The watch that was behind when last looked at.
    behind: i64,
    retry: Pin<Box<Sleep>>,
}

/// The responses of one watch stream.
pub(crate) struct WatchStream {
    api: Api,
    from: Identity,
    requests: Requests,
    /// A watch to create once it is known who asks; requests behind it wait.
    identifying: Option<(Identifying, WatchCreateRequest)>,
    watches: ReadySet<Watch>,
    next_id: i64,
    out: VecDeque<WatchResponse>,
    deferred: Option<DeferredProgress>,
    /// Runs once a watch has asked for progress notifications.
    ticks: Option<Interval>,
    ended: bool,
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        metrics::WATCH_STREAMS.dec();
    }
}

impl WatchStream {
    /// A stream without watches.
    pub(super) fn new(api: Api, from: Identity, requests: Requests) -> Self {
        metrics::WATCH_STREAMS.inc();
        Self {
            api,
            from,
            requests,
            identifying: None,
            watches: ReadySet::new(),
            next_id: 0,
            out: VecDeque::new(),
            deferred: None,
            ticks: None,
            ended: false,
        }
    }

    /// Takes one request, if there is one.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some((identifying, _)) = &mut self.identifying {
            let caller = ready!(identifying.as_mut().poll(cx));
            if let Some((_, request)) = self.identifying.take() {
                self.create(request, caller);
            }
            return Poll::Ready(Ok(()));
        }
        match ready!(self.requests.as_mut().poll_next(cx)) {
            Some(Ok(request)) => self.handle(request),
            Some(Err(status)) => return Poll::Ready(Err(status)),
            // A client that has nothing more to ask still listens, as in etcd.
            None => self.requests = Box::pin(futures::stream::pending()),
        }
        Poll::Ready(Ok(()))
    }

    fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.identify(request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            None => {}
        }
    }

    /// Creates a watch, as soon as it is known who asks. A token is looked at
    /// anew for every watch: it may have expired since the stream began.
    fn identify(&mut self, request: WatchCreateRequest) {
        if !self.api.store.vitals().auth_enabled {
            return self.create(request, Ok(Caller::default()));
        }
        let (api, from) = (self.api.clone(), self.from.clone());
        let identifying = Box::pin(async move { api.identify(&from).await });
        self.identifying = Some((identifying, request));
    }

    fn create(&mut self, request: WatchCreateRequest, caller: Result<Caller, Status>) {
        // Taken before the watch starts: whatever comes after it is reported.
        let header = Some(self.api.header(0));
        match self.start(request, caller) {
            Ok(watch_id) => {
                self.out.push_back(WatchResponse { header, watch_id, created: true, ..Default::default() })
            }
            Err(reason) => self.out.push_back(WatchResponse {
                header,
                watch_id: NO_WATCH,
                created: true,
                canceled: true,
                cancel_reason: reason.into_owned(),
                ..Default::default()
            }),
        }
    }

    fn start(
        &mut self,
        request: WatchCreateRequest,
        caller: Result<Caller, Status>,
    ) -> Result<i64, Cow<'static, str>> {
        // An empty key stands for the smallest one.
        let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key };
        let range_end = request.range_end;
        let bounded = !range_end.is_empty() && range_end[..] != [0];
        if request.start_revision < 0 {
            return Err(ApiError::Compacted.text().into());
        }
        let permitted = caller.and_then(|caller| {
            let access = Access::Read(&key, &range_end);
            self.api.store.authorize(&caller, access).map_err(to_status)
        });
        permitted.map_err(|status| denied(&status))?;
        if bounded && key >= range_end {
            return Err(EMPTY_RANGE.into());
        }
        let watch_id = self.pick_id(request.watch_id)?;
        let watcher = self.api.store.watch(WatchSpec {
            key,
            range_end,
            start_revision: request.start_revision,
            prev_kv: request.prev_kv,
            no_put: request.filters.contains(&(FilterType::Noput as i32)),
            no_delete: request.filters.contains(&(FilterType::Nodelete as i32)),
        });
        let watch = Watch {
            watcher,
            start_revision: request.start_revision,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
        };
        self.watches.insert(watch_id, watch);
        if request.progress_notify && self.ticks.is_none() {
            self.ticks = Some(progress_ticks(self.api.config.progress_interval));
        }
        Ok(watch_id)
    }

    fn pick_id(&mut self, asked: i64) -> Result<i64, Cow<'static, str>> {
        if asked != 0 {
            return if self.watches.contains(asked) { Err(DUPLICATE_ID.into()) } else { Ok(asked) };
        }
        while self.watches.contains(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Ends a watch; one that is not there is not answered, as in etcd.
    fn cancel(&mut self, watch_id: i64) {
        if self.watches.remove(watch_id).is_some() {
            let header = Some(self.api.header(0));
            self.out.push_back(WatchResponse { header, watch_id, canceled: true, ..Default::default() });
        }
    }

    fn request_progress(&mut self) {
        if self.deferred.is_none() {
            // The watches are looked at once those that are ready have been
            // emptied; until then no particular one is known to be behind.
            let retry = Box::pin(tokio::time::sleep(PROGRESS_RETRY));
            self.deferred = Some(DeferredProgress { behind: NO_WATCH, retry });
        }
    }

    /// Answers a waiting progress request if every watch has caught up, with
    /// the lowest of their revisions. Ready when it is worth looking again.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deferred) = &mut self.deferred else { return Poll::Pending };
        let still_behind = self.watches.get(deferred.behind).is_some_and(|w| w.progress().is_none());
        if !still_behind {
            match lowest_progress(&self.watches) {
                Ok(revision) => {
                    let header = Some(self.api.header(revision.unwrap_or(0)));
                    self.deferred = None;
                    self.out.push_back(WatchResponse { header, watch_id: NO_WATCH, ..Default::default() });
                    return Poll::Ready(());
                }
                Err(behind) => deferred.behind = behind,
            }
        }
        ready!(deferred.retry.as_mut().poll(cx));
        deferred.retry.as_mut().reset(Instant::now() + PROGRESS_RETRY);
        Poll::Ready(())
    }

    /// Sends progress notifications when their interval is over.
    fn poll_ticks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ticks) = &mut self.ticks else { return Poll::Pending };
        ready!(ticks.poll_tick(cx));
        for (watch_id, watch) in self.watches.iter_mut() {
            if !watch.progress_notify {
                continue;
            }
            if std::mem::replace(&mut watch.quiet, true)
                && let Some(revision) = watch.progress()
            {
                let header = Some(self.api.header(revision));
                self.out.push_back(WatchResponse { header, watch_id, ..Default::default() });
            }
        }
        Poll::Ready(())
    }

    fn poll_watches(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let (id, item) = ready!(self.watches.poll_next(cx, |watch, cx| watch.watcher.poll_next(cx)));
        match item {
            Some(WatchItem::Events { revision, events }) if !events.is_empty() => {
                self.report(id, revision, events)
            }
            Some(WatchItem::Events { .. }) => {}
            Some(WatchItem::Compacted { compact_revision }) => self.end_compacted(id, compact_revision),
            Some(WatchItem::Closed(error)) => return Poll::Ready(Err(to_status(error))),
            None => drop(self.watches.remove(id)),
        }
        Poll::Ready(Ok(()))
    }

    fn report(&mut self, watch_id: i64, revision: i64, events: Vec<skiff_store::pb::mvccpb::Event>) {
        let header = Some(self.api.header(revision));
        let response = WatchResponse { header, watch_id, events, ..Default::default() };
        let fragment = self.watches.get(watch_id).is_some_and(|watch| watch.fragment);
        if fragment {
            self.out.extend(fragment::split(response, self.api.config.max_message_bytes()));
        } else {
            self.out.push_back(response);
        }
        if let Some(watch) = self.watches.get_mut(watch_id) {
            watch.quiet = false;
        }
    }

    fn end_compacted(&mut self, watch_id: i64, compact_revision: i64) {
        self.watches.remove(watch_id);
        self.out.push_back(WatchResponse {
            header: Some(self.api.header(0)),
            watch_id,
            canceled: true,
            compact_revision,
            // Clients go by `compact_revision`; etcd gives no reason here.
            ..Default::default()
        });
    }

    /// Does one round of work: a request, a watch, a tick, in turn, so that
    /// none of them starves the others. Pending when there is none.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let mut worked = false;
        if let Poll::Ready(result) = self.poll_request(cx) {
            result?;
            worked = true;
        }
        if let Poll::Ready(result) = self.poll_watches(cx) {
            result?;
            worked = true;
        }
        worked |= self.poll_ticks(cx).is_ready();
        // Only after the ready watches have been emptied: the answer must not
        // overtake events.
        if !worked {
            worked = self.poll_progress(cx).is_ready();
        }
        if worked { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(response) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            if let Err(status) = ready!(self.poll_work(cx)) {
                self.ended = true;
                return Poll::Ready(Some(Err(status)));
            }
        }
    }
}

/// Why a watch is not permitted, as etcd writes it: a whole status as text.
/// Whatever cannot be told is a lack of permission.
fn denied(status: &Status) -> Cow<'static, str> {
    let known = [ApiError::InvalidAuthToken, ApiError::AuthOldRevision, ApiError::UserEmpty];
    let reason = known.into_iter().find(|error| error.text() == status.message());
    let status = to_status(reason.unwrap_or(ApiError::PermissionDenied));
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message()).into()
}

/// The lowest progress of all watches, `None` without watches; the id of one
/// that is behind as error.
fn lowest_progress(watches: &ReadySet<Watch>) -> Result<Option<i64>, i64> {
    let mut lowest = None;
    for (id, watch) in watches.iter() {
        let revision = watch.progress().ok_or(id)?;
        lowest = Some(lowest.map_or(revision, |l: i64| l.min(revision)));
    }
    Ok(lowest)
}

/// Ticks every `interval` and up to a tenth more, so that the streams of a
/// server do not tick together.
fn progress_ticks(interval: Duration) -> Interval {
    let jitter = RandomState::new().hash_one(0) % 1000;
    let period = interval + interval.mul_f64(jitter as f64 / 10_000.0);
    let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
