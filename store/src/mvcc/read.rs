//! Answers to reads, from one [`View`].

use bytes::Bytes;

use crate::auth::AuthState;
use crate::error::{ApiError, Result};
use crate::mvcc::range::{self, KeyRange, Order};
use crate::mvcc::state::{Key, Meta};
use crate::mvcc::view::{Fetcher, Picked, View};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::range_request::SortOrder;
use crate::pb::mvccpb::KeyValue;

/// A header that holds the revision only; the server fills in the ids.
pub(crate) fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

/// Answers a Range.
///
/// # Errors
/// The revision is compacted or in the future; faults of the engine.
pub(crate) fn range(view: &View, request: &pb::RangeRequest) -> Result<pb::RangeResponse> {
    let revision = view.resolve_revision(request.revision)?;
    let keys = KeyRange::new(&request.key, &request.range_end);
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let mut response = pb::RangeResponse { header: header(view.state.stored.revision), ..Default::default() };
    if request.count_only {
        response.count = view.pick(&keys, revision, 0)?.count as i64;
        return Ok(response);
    }
    let order = Order::of(request);
    let filtered = range::has_filters(request);
    // With an order or a filter the whole range has to be looked at; without,
    // no more keys than are returned. A target without an order sorts only
    // what a limit lets through, and one more: so does etcd.
    let whole = filtered || (order.is_some() && request.sort_order != SortOrder::None as i32);
    let look_at = match limit {
        Some(limit) if !whole => limit.saturating_add(usize::from(order.is_some())),
        _ => usize::MAX,
    };
    let Picked { mut keys, count } = view.pick(&keys, revision, look_at)?;
    response.count = count as i64;
    if filtered {
        keys.retain(|(_, meta)| range::passes_filters(request, meta));
    }
    let available = if whole { keys.len() } else { count };
    response.more = limit.is_some_and(|limit| available > limit);
    response.kvs = ordered_pairs(view, keys, order, limit.unwrap_or(usize::MAX), request.keys_only)?;
    Ok(response)
}

/// Sorts, cuts and fetches what was picked; values are fetched last wherever
/// the order allows it.
fn ordered_pairs(
    view: &View,
    mut keys: Vec<(Key, Meta)>,
    order: Option<Order>,
    limit: usize,
    keys_only: bool,
) -> Result<Vec<KeyValue>> {
    let Some(order) = order else {
        keys.truncate(limit);
        return fetch(view, &keys, keys_only);
    };
    if order.by_value() {
        let mut pairs = view.fetch_all(&keys)?;
        order.sort(&mut pairs, |kv| Meta::of(kv, 0), |kv| kv.value.clone());
        pairs.truncate(limit);
        if keys_only {
            pairs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        return Ok(pairs);
    }
    order.sort(&mut keys, |(_, meta)| *meta, |_| Bytes::new());
    keys.truncate(limit);
    if keys_only {
        return fetch(view, &keys, true);
    }
    keys.iter().map(|(key, meta)| view.fetch(key, meta)).collect()
}

fn fetch(view: &View, keys: &[(Key, Meta)], keys_only: bool) -> Result<Vec<KeyValue>> {
    if keys_only {
        return Ok(keys.iter().map(|(key, meta)| meta.to_kv(key)).collect());
    }
    view.fetch_all(keys)
}

/// A range answered in pieces, from one state, with memory bounded by a piece.
pub(crate) struct Chunks {
    view: View,
    /// What is still to be answered.
    range: KeyRange,
    left: usize,
    revision: i64,
    keys_only: bool,
    more: bool,
    count: i64,
    chunk_bytes: usize,
    done: bool,
}

/// Keys picked at a time by a stream.
const PAGE_KEYS: usize = 1024;

impl Chunks {
    /// Prepares a stream. Orders other than by ascending key and revision
    /// filters are not streamed: the API refuses them.
    pub(crate) fn new(view: View, request: &pb::RangeRequest, chunk_bytes: usize) -> Result<Self> {
        let revision = view.resolve_revision(request.revision)?;
        if Order::of(request).is_some() || range::has_filters(request) {
            return Err(ApiError::InvalidSortOption.into());
        }
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let range = KeyRange::new(&request.key, &request.range_end);
        let count = view.pick(&range, revision, 0)?.count;
        Ok(Self {
            view,
            range,
            left: if request.count_only { 0 } else { limit.unwrap_or(usize::MAX).min(count) },
            revision,
            keys_only: request.keys_only,
            more: !request.count_only && limit.is_some_and(|limit| count > limit),
            count: count as i64,
            chunk_bytes: chunk_bytes.max(1),
            done: false,
        })
    }

    fn chunk(&mut self) -> Result<pb::RangeResponse> {
        let mut chunk = pb::RangeResponse::default();
        let mut bytes = 0;
        while bytes < self.chunk_bytes && self.left > 0 {
            let Picked { keys, .. } = self.view.pick(&self.range, self.revision, self.left.min(PAGE_KEYS))?;
            let mut fetcher = Fetcher::new(&self.view);
            let mut last = None;
            for (key, meta) in keys {
                if bytes >= self.chunk_bytes {
                    break;
                }
                let kv = if self.keys_only { meta.to_kv(&key) } else { fetcher.fetch(&key, &meta)? };
                bytes += prost::Message::encoded_len(&kv);
                chunk.kvs.push(kv);
                self.left -= 1;
                last = Some(key);
            }
            match last {
                Some(key) => self.range = self.range.after(&key),
                None => self.left = 0,
            }
        }
        if self.left == 0 {
            self.done = true;
            chunk.header = header(self.view.state.stored.revision);
            chunk.more = self.more;
            chunk.count = self.count;
        }
        Ok(chunk)
    }
}

impl Iterator for Chunks {
    type Item = Result<pb::RangeResponse>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let chunk = self.chunk();
        self.done |= chunk.is_err();
        Some(chunk)
    }
}

/// Answers a LeaseTimeToLive with the stored time; TTL -1 if the lease is not
/// there.
pub(crate) fn lease_time_to_live(
    view: &View,
    request: &pb::LeaseTimeToLiveRequest,
) -> pb::LeaseTimeToLiveResponse {
    let mut response = pb::LeaseTimeToLiveResponse {
        header: header(view.state.stored.revision),
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    if let Some(lease) = view.state.leases.get(&request.id) {
        response.granted_ttl = lease.stored.ttl;
        response.ttl = remaining(&lease.stored);
        if request.keys {
            response.keys = lease.keys.iter().map(|(key, ())| Bytes::copy_from_slice(key)).collect();
        }
    }
    response
}

/// Seconds a stored lease starts with under a new keeper of time.
pub(crate) fn remaining(lease: &crate::pb::skiff::v1::StoredLease) -> i64 {
    if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl }
}

/// Lists the leases, by id.
pub(crate) fn lease_leases(view: &View) -> pb::LeaseLeasesResponse {
    pb::LeaseLeasesResponse {
        header: header(view.state.stored.revision),
        leases: view.state.leases.iter().map(|(id, _)| pb::LeaseStatus { id: *id }).collect(),
    }
}

/// Lists the alarms of all members.
pub(crate) fn alarms(view: &View) -> pb::AlarmResponse {
    pb::AlarmResponse { header: header(view.state.stored.revision), alarms: view.state.stored.alarms.clone() }
}

/// Tells whether auth is on.
pub(crate) fn auth_status(view: &View) -> pb::AuthStatusResponse {
    let AuthHead { header, auth } = auth_head(view);
    pb::AuthStatusResponse { header, enabled: auth.enabled(), auth_revision: auth.revision() }
}

/// Tells the roles of a user.
pub(crate) fn user_get(view: &View, request: &pb::AuthUserGetRequest) -> Result<pb::AuthUserGetResponse> {
    let AuthHead { header, auth } = auth_head(view);
    Ok(pb::AuthUserGetResponse { header, roles: auth.user(&request.name)?.roles.clone() })
}

/// Lists the users.
pub(crate) fn user_list(view: &View) -> pb::AuthUserListResponse {
    let AuthHead { header, auth } = auth_head(view);
    pb::AuthUserListResponse { header, users: auth.users().map(str::to_owned).collect() }
}

/// Tells the permissions of a role.
pub(crate) fn role_get(view: &View, request: &pb::AuthRoleGetRequest) -> Result<pb::AuthRoleGetResponse> {
    let AuthHead { header, auth } = auth_head(view);
    Ok(pb::AuthRoleGetResponse { header, perm: auth.role(&request.role)?.permissions.clone() })
}

/// Lists the roles.
pub(crate) fn role_list(view: &View) -> pb::AuthRoleListResponse {
    let AuthHead { header, auth } = auth_head(view);
    pb::AuthRoleListResponse { header, roles: auth.roles().map(str::to_owned).collect() }
}

struct AuthHead<'a> {
    header: Option<pb::ResponseHeader>,
    auth: &'a AuthState,
}

fn auth_head(view: &View) -> AuthHead<'_> {
    AuthHead { header: header(view.state.stored.revision), auth: &view.state.auth }
}
