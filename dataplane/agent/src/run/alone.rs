//! One agent a network namespace: two under the same names would take each other's rules away.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, bail};

use crate::kernel::Options;

/// Holds the place until it is dropped, or the process ends in whatever way: abstract socket names belong to the network
/// namespace (unix(7)), and vanish with their socket.
///
/// # Errors
/// If another agent holds it, with what to do.
pub(crate) fn alone(options: &Options) -> Result<UnixDatagram> {
    let name = format!("callgate-dataplane/{}", options.nft_table);
    let address = SocketAddr::from_abstract_name(&name).with_context(|| format!("socket name {name}"))?;
    match UnixDatagram::bind_addr(&address) {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "another callgate-dataplane runs on this host with --nft-table {}: stop that one, or give this one a table, links, \
             marks and a routing table of its own",
            options.nft_table
        ),
        Err(error) => Err(error).with_context(|| format!("taking the abstract socket name {name}")),
    }
}
