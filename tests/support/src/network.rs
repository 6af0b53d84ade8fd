//! Relays between peers that can be cut, per direction, and healed.
//!
//! Every member advertises the port of a relay instead of its own peer port. All peers share that
//! address (it is part of the cluster's configuration), so the relay finds out who connects: it looks
//! up which registered process owns the other end of the connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Fault;

const BUFFER_BYTES: usize = 64 * 1024;

/// What happens to bytes from one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// They flow.
    Open,
    /// They wait, as if packets were dropped: nobody is told, and they arrive after the link healed.
    Stalled,
    /// Connections are closed, new ones too.
    Closed,
}

type Link = (String, String);

#[derive(Debug, Default)]
struct State {
    links: HashMap<Link, watch::Sender<LinkState>>,
    pids: HashMap<String, u32>,
}

/// The relays of one cluster; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
    relays: Vec<JoinHandle<()>>,
}

impl Network {
    /// A network without relays.
    pub fn new() -> Self {
        Network::default()
    }

    /// Starts a relay in front of `target_port`, where member `to` listens for peers; answers the
    /// relay's port.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn relay(&mut self, to: &str, target_port: u16) -> Result<u16, Fault> {
        let port = crate::ports::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let (state, to) = (self.state.clone(), to.to_owned());
        self.relays.push(tokio::spawn(async move {
            while let Ok((incoming, from)) = listener.accept().await {
                tokio::spawn(connection(state.clone(), incoming, from, to.clone(), target_port));
            }
        }));
        Ok(port)
    }

    /// Says which process member `name` is, after each start.
    pub fn register(&self, name: &str, pid: Option<u32>) {
        if let Some(pid) = pid {
            lock(&self.state).pids.insert(name.to_owned(), pid);
        }
    }

    /// Sets the state of bytes from one member to another.
    pub fn set(&self, from: &str, to: &str, state: LinkState) {
        link(&self.state, from, to).send_replace(state);
    }

    /// Sets both directions between two members.
    pub fn set_both(&self, one: &str, other: &str, state: LinkState) {
        self.set(one, other, state);
        self.set(other, one, state);
    }

    /// Opens every link.
    pub fn heal(&self) {
        for sender in lock(&self.state).links.values() {
            sender.send_replace(LinkState::Open);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn link(state: &Mutex<State>, from: &str, to: &str) -> watch::Sender<LinkState> {
    let key = (from.to_owned(), to.to_owned());
    lock(state).links.entry(key).or_insert_with(|| watch::Sender::new(LinkState::Open)).clone()
}

async fn connection(
    state: Arc<Mutex<State>>,
    incoming: TcpStream,
    address: SocketAddr,
    to: String,
    target_port: u16,
) {
    let pids = lock(&state).pids.clone();
    let from = owner(address, &pids).unwrap_or_else(|| "unknown".to_owned());
    let mut forward = link(&state, &from, &to).subscribe();
    let backward = link(&state, &to, &from).subscribe();
    if !passable(&mut forward).await {
        return;
    }
    let connect = TcpStream::connect(("127.0.0.1", target_port));
    let Ok(Ok(outgoing)) = tokio::time::timeout(Duration::from_secs(5), connect).await else { return };
    // Small messages must not wait for each other.
    let _ = incoming.set_nodelay(true);
    let _ = outgoing.set_nodelay(true);
    let (incoming_read, incoming_write) = incoming.into_split();
    let (outgoing_read, outgoing_write) = outgoing.into_split();
    // Either direction's end closes both, as a broken connection does.
    tokio::select! {
        () = pump(incoming_read, outgoing_write, forward) => {}
        () = pump(outgoing_read, incoming_write, backward) => {}
    }
}

/// Waits while the link is stalled; false when it is closed.
async fn passable(link: &mut watch::Receiver<LinkState>) -> bool {
    loop {
        match *link.borrow_and_update() {
            LinkState::Open => return true,
            LinkState::Closed => return false,
            LinkState::Stalled => {}
        }
        if link.changed().await.is_err() {
            return false;
        }
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut link: watch::Receiver<LinkState>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while passable(&mut link).await {
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    if !passable(&mut link).await || to.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

/// The member whose process holds the socket bound to `address`.
fn owner(address: SocketAddr, pids: &HashMap<String, u32>) -> Option<String> {
    let inode = socket_inode(address.port())?;
    let wanted = format!("socket:[{inode}]");
    pids.iter().find(|(_, pid)| holds(**pid, &wanted)).map(|(name, _)| name.clone())
}

fn socket_inode(local_port: u16) -> Option<String> {
    let wanted = format!(":{local_port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, established, inode) = (fields.get(1)?, *fields.get(3)? == "01", fields.get(9)?);
            (established && local.ends_with(&wanted)).then(|| (*inode).to_owned())
        })
    })
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy() == wanted))
}
