//! Splits large watch responses for clients that take fragments.

use prost::Message;
use skiff_store::pb::etcdserverpb::WatchResponse;

/// Most bytes the fields of a list element take besides the element: a tag of
/// one byte and a length of up to ten.
const ELEMENT_OVERHEAD: usize = 11;

/// Splits a response into ones of less than `limit` bytes, or of one event
/// where an event alone is larger. All but the last say that more follows.
pub(super) fn split(mut response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < limit {
        return vec![response];
    }
    let events = std::mem::take(&mut response.events);
    let base = WatchResponse { fragment: true, ..response };
    let base_len = base.encoded_len();
    let mut parts = Vec::new();
    let mut part = base.clone();
    let mut part_len = base_len;
    for event in events {
        let event_len = event.encoded_len() + ELEMENT_OVERHEAD;
        if !part.events.is_empty() && part_len + event_len >= limit {
            parts.push(std::mem::replace(&mut part, base.clone()));
            part_len = base_len;
        }
        part.events.push(event);
        part_len += event_len;
    }
    part.fragment = false;
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_store::pb::mvccpb::{Event, KeyValue};

    fn event(bytes: usize) -> Event {
        let kv = KeyValue { key: "k".into(), value: vec![0; bytes].into(), ..Default::default() };
        Event { kv: Some(kv), ..Default::default() }
    }

    fn response(sizes: &[usize]) -> WatchResponse {
        WatchResponse { watch_id: 7, events: sizes.iter().map(|s| event(*s)).collect(), ..Default::default() }
    }

    #[test]
    fn small_ones_stay_whole() {
        assert_eq!(split(response(&[10, 10]), 1000), vec![response(&[10, 10])]);
        assert_eq!(split(response(&[5000]), 1000), vec![response(&[5000])]);
    }

    #[test]
    fn large_ones_are_split_in_order() {
        let sizes = [400, 300, 2000, 10, 10, 900];
        let parts = split(response(&sizes), 1000);
        let joined: Vec<Event> = parts.iter().flat_map(|p| p.events.clone()).collect();
        assert_eq!(joined, response(&sizes).events);
        assert!(parts.iter().all(|p| p.watch_id == 7 && !p.events.is_empty()));
        assert!(parts.iter().all(|p| p.events.len() == 1 || p.encoded_len() < 1000));
        let flags: Vec<bool> = parts.iter().map(|p| p.fragment).collect();
        assert_eq!(flags.iter().filter(|f| !**f).count(), 1);
        assert!(!flags[flags.len() - 1]);
    }
}
