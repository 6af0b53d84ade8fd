//! Who and where this node is, where the settings do not say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use skiff_control_plane::join::{ServerUrl, check_node_name};
use skiff_control_plane::token::random;
use skiff_control_plane::{files, layout::Layout};

/// An address of nobody: a datagram to it would take the default route. None is
/// sent.
const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The name of this node: as given, or the host's.
///
/// # Errors
/// A sentence: there is none, or it is no DNS name.
pub(crate) fn node_name(given: &str) -> Result<String, String> {
    let name = match given {
        "" => std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
            .map_err(|e| format!("cannot read the host's name ({e}): give --node-name"))?,
        given => given.to_owned(),
    };
    let name = name.trim().to_ascii_lowercase();
    check_node_name(&name).map_err(|problem| format!("--node-name: {problem}"))?;
    Ok(name)
}

/// The name with this machine's fixed random id.
///
/// # Errors
/// A sentence: the id can be neither read nor written.
pub(super) fn with_node_id(name: &str, layout: &Layout) -> Result<String, String> {
    let id = match files::read_line(&layout.node_id())? {
        Some(id) => id,
        None => {
            let id = random::hex::<4>()?;
            files::write(&layout.node_id(), id.as_bytes())?;
            id
        }
    };
    let name = format!("{name}-{id}");
    check_node_name(&name)?;
    Ok(name)
}

/// The address of this node towards a server, or towards the default route.
///
/// # Errors
/// A sentence: there is no such route.
pub(crate) fn own_address(server: Option<&ServerUrl>) -> Result<IpAddr, String> {
    let resolved = server.and_then(|server| (server.host(), server.port()).to_socket_addrs().ok()?.next());
    let towards = resolved.unwrap_or_else(|| SocketAddr::from((FAR_AWAY, 9)));
    let any: SocketAddr = match towards {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    };
    let local = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(towards)?;
        socket.local_addr()
    });
    match local {
        Ok(local) if !local.ip().is_unspecified() => Ok(local.ip()),
        _ => Err("cannot tell which address of this host the others reach it by: give --node-ip".to_owned()),
    }
}
