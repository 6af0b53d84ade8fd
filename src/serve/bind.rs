//! Opens listeners.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::config::{Endpoint, Scheme};

/// Connections the kernel may hold for us.
const BACKLOG: u32 = 1024;

/// An open listener.
pub(crate) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixSocket),
}

/// A Unix socket whose file is removed when it closes, unless another's is
/// there by then.
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            // One that stays is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// An accepted connection.
pub(crate) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are small and waited for.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            Listener::Unix(socket) => Ok(Socket::Unix(socket.listener.accept().await?.0)),
        }
    }

    /// The bound address, for tests that bind port 0.
    #[cfg(test)]
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }
}

/// Opens a listener.
///
/// # Errors
/// A sentence naming the URL, and what to do where it is in use.
pub(crate) fn bind(url: &Endpoint, reuse_port: bool) -> Result<Listener, String> {
    let opened = match url.scheme {
        Scheme::Unix | Scheme::Unixs => bind_unix(&url.host).map(Listener::Unix),
        Scheme::Http | Scheme::Https => bind_tcp(url, reuse_port).map(Listener::Tcp),
    };
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {url}: the address is already in use; stop what listens there, or choose another URL"
        ),
        _ => format!("cannot listen on {url}: {error}"),
    })
}

/// The same, where a Unix socket is for this user alone from the first moment.
/// Changes the process's mask for new files meanwhile: only before there are
/// other threads that make some.
///
/// # Errors
/// As [`bind`].
pub(crate) fn bind_private(url: &Endpoint) -> Result<Listener, String> {
    let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let opened = bind(url, false);
    rustix::process::umask(mask);
    opened
}

fn bind_tcp(url: &Endpoint, reuse_port: bool) -> io::Result<TcpListener> {
    let address = SocketAddr::new(address(url)?, url.port);
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Old connections in TIME_WAIT must not keep a restarted member down.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(reuse_port)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn address(url: &Endpoint) -> io::Result<IpAddr> {
    match (url.host.as_str(), url.ip()) {
        (_, Some(ip)) => Ok(ip),
        // As Go does: all addresses, IPv4 included.
        ("", _) => Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ("localhost", _) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the host is not an address")),
    }
}

fn bind_unix(path: &str) -> io::Result<UnixSocket> {
    // The socket a killed process left behind is in the way; one that answers
    // belongs to someone.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok(UnixSocket { listener, path: PathBuf::from(path), inode })
}
