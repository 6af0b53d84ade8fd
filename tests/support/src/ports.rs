//! Free ports for processes that are killed and started again on the same port.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range the kernel takes ports for outgoing connections from: such a connection must not
/// sit on the port of a process that is down for a moment.
const FIRST: u64 = 11_000;
const LAST: u64 = 31_000;

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of the loopback address that nobody listens on and that this process has not handed out before.
///
/// # Panics
/// When no free port turns up.
pub fn free_port() -> u16 {
    let mut guard = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let taken = guard.get_or_insert_with(HashSet::new);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut rng = crate::Rng::new(now.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32));
    for _ in 0..1000 {
        let port = (FIRST + rng.below(LAST - FIRST)) as u16;
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
