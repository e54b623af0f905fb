//! One agent a network namespace: a second one would read the connection marks of the first as its own, and hand out the same external
//! ports and Call IDs, whatever its names are.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, bail};

/// Names of abstract sockets belong to the network namespace (unix(7)), and vanish with their socket.
const NAME: &str = "callgate-dataplane";

/// Holds the place until it is dropped, or the process ends in whatever way.
///
/// # Errors
/// If another agent holds it, with what to do.
pub(crate) fn alone() -> Result<UnixDatagram> {
    let address = SocketAddr::from_abstract_name(NAME).with_context(|| format!("socket name {NAME}"))?;
    match UnixDatagram::bind_addr(&address) {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("another callgate-dataplane runs in this network namespace: stop that one")
        }
        Err(error) => Err(error).with_context(|| format!("taking the abstract socket name {NAME}")),
    }
}
