//! Probes of a client, and what it saw.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;

use crate::lab::node::Node;

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come, before it counts as silence.
const SILENCE: Duration = Duration::from_millis(400);

/// What a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The server answered, and saw the client under this address.
    From(Ipv4Addr),
    /// TCP RST, or ICMP port-unreachable.
    Refused,
    /// Another ICMP unreachable: its errno.
    Unreachable(i32),
    /// No answer.
    Nothing,
    /// Something else went wrong.
    Other(ErrorKind),
}

fn seen(error: &Error) -> Seen {
    match (error.kind(), error.raw_os_error()) {
        (
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe,
            _,
        ) => Seen::Refused,
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Seen::Nothing,
        (_, Some(errno @ (libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::EPROTO))) => {
            Seen::Unreachable(errno)
        }
        (kind, _) => Seen::Other(kind),
    }
}

/// A TCP connection of a client.
#[derive(Debug)]
pub struct Flow(TcpStream);

impl Flow {
    /// Opens one; `Err(Seen)` inside is what was seen in place of a connection.
    ///
    /// # Errors
    /// If the node cannot be entered.
    pub fn open(from: &Node, to: SocketAddrV4) -> anyhow::Result<Result<Self, Seen>> {
        let opened = from.within(|| TcpStream::connect_timeout(&SocketAddr::V4(to), SILENCE))?;
        Ok(opened.map(Self).map_err(|error| seen(&error)))
    }

    fn ask(&mut self, patience: Duration) -> Seen {
        let mut answer = [0; 4];
        let asked = self.0.set_read_timeout(Some(patience)).and_then(|()| self.0.write_all(b"?"));
        match asked.and_then(|()| self.0.read_exact(&mut answer)) {
            Ok(()) => Seen::From(answer.into()),
            Err(error) => seen(&error),
        }
    }

    /// Asks, and waits long for the answer.
    pub fn still(&mut self) -> Seen {
        self.ask(PATIENCE)
    }

    /// Asks, and gives up soon.
    pub fn briefly(&mut self) -> Seen {
        self.ask(SILENCE)
    }
}

/// One TCP connection and one question.
///
/// # Errors
/// If the node cannot be entered.
pub fn tcp(from: &Node, to: SocketAddrV4) -> anyhow::Result<Seen> {
    Ok(match Flow::open(from, to)? {
        Ok(mut flow) => flow.still(),
        Err(seen) => seen,
    })
}

/// One UDP question, from this port (0: any).
///
/// # Errors
/// If the node cannot be entered or has no such socket.
pub fn udp(from: &Node, to: SocketAddrV4) -> anyhow::Result<Seen> {
    from.within(|| -> anyhow::Result<Seen> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("socket")?;
        socket.connect(to).context("connect")?;
        socket.set_read_timeout(Some(SILENCE)).context("time-out")?;
        let mut answer = [0; 4];
        Ok(match socket.send(b"?").and_then(|_| socket.recv(&mut answer)) {
            Ok(_) => Seen::From(answer.into()),
            Err(error) => seen(&error),
        })
    })?
}

/// Sends one packet of a protocol without ports.
///
/// # Errors
/// If it cannot be sent.
pub fn raw(from: &Node, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> anyhow::Result<()> {
    from.within(|| -> anyhow::Result<()> {
        let kind = socket2::Protocol::from(i32::from(protocol));
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(kind)).context("raw socket")?;
        let to: SocketAddr = (to, 0).into();
        socket.send_to(payload, &to.into()).with_context(|| format!("send protocol {protocol}"))?;
        Ok(())
    })?
}
