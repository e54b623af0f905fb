//! How the sockets of both legs are made: in names that need not be the host's own, marked, without delay, and reset when the
//! process ends.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use callgate_pptp::shared::ConnectError;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket with everything both legs need.
pub(super) fn prepared(mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // The server's address on the client's leg, and an address of a pool on the server's, are not the host's.
    socket.set_ip_transparent_v4(true)?;
    // As what the ALG sends itself: by the main table, and known to our nftables table.
    socket.set_mark(mark)?;
    dress(&socket)?;
    Ok(socket)
}

/// No delay; and RST at once when it is closed without `undress`: the end of the process is one such case.
pub(super) fn dress(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))
}

/// Closing it says FIN, behind what is still to be sent.
pub(super) fn undress(socket: &Socket) -> io::Result<()> {
    socket.set_linger(None)
}

/// Accepts what nftables gives to this address: connections of clients to servers.
pub(super) fn listen(address: SocketAddrV4, mark: u32) -> io::Result<Socket> {
    let socket = prepared(mark)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Begins a connection from `external` to `server`. The socket becomes writable when it is up or has failed.
pub(super) fn connect(external: SocketAddrV4, server: SocketAddrV4, mark: u32) -> io::Result<Socket> {
    let socket = prepared(mark)?;
    // The same port may serve connections to other servers; those of this server differ (the allocator sees to it).
    socket.set_reuse_address(true)?;
    socket.bind(&external.into())?;
    match socket.connect(&server.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// What the core is told about a connection that did not come about.
pub(super) fn connect_error(error: &io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => ConnectError::Refused,
        Some(libc::ETIMEDOUT) => ConnectError::TimedOut,
        Some(
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EACCES | libc::EPERM,
        ) => ConnectError::Unreachable,
        Some(_) | None => ConnectError::Local,
    }
}
