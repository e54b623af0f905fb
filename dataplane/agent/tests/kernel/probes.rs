//! Small packets between namespaces, and what became of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::lab::Namespace;

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come.
const SILENCE: Duration = Duration::from_millis(400);

/// What a client saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The server answered, and saw the client as this.
    From(Ipv4Addr),
    /// RST, or ICMP port-unreachable.
    Refused,
    /// Another ICMP unreachable.
    Unreachable,
    /// No answer.
    Nothing,
}

/// Servers of a namespace that tell each client as whom they see it, on these ports of all addresses; they live until dropped.
pub(crate) struct Servers {
    stop: Vec<SocketAddr>,
    threads: Vec<std::thread::JoinHandle<()>>,
    namespace: Namespace,
}

fn address(peer: SocketAddr) -> [u8; 4] {
    match peer.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

impl Servers {
    pub(crate) fn start(namespace: Namespace, tcp: &[u16], udp: &[u16]) -> Self {
        let mut servers = Self { stop: Vec::new(), threads: Vec::new(), namespace };
        for port in tcp.iter().copied() {
            let listener = servers.namespace.run(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
            servers.stop.push(([127, 0, 0, 1], port).into());
            servers.threads.push(std::thread::spawn(move || serve_tcp(&listener)));
        }
        for port in udp.iter().copied() {
            let socket = servers.namespace.run(move || {
                let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true).unwrap();
                socket
            });
            servers.threads.push(std::thread::spawn(move || serve_udp(&socket)));
        }
        servers
    }
}

fn serve_tcp(listener: &TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept() {
        if peer.ip().is_loopback() {
            return;
        }
        std::thread::spawn(move || {
            // One answer for each octet, so that an old connection can be probed again.
            let mut octet = [0];
            while stream.read_exact(&mut octet).is_ok() && stream.write_all(&address(peer)).is_ok() {}
        });
    }
}

/// Answers from the address it was asked at (IP_PKTINFO), as a server with several addresses must.
fn serve_udp(socket: &UdpSocket) {
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg};
    use std::os::fd::AsRawFd;
    loop {
        let mut buffer = [0; 16];
        let mut iov = [std::io::IoSliceMut::new(&mut buffer)];
        let mut space = nix::cmsg_space!(nix::libc::in_pktinfo);
        let Ok(message) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty()) else {
            return;
        };
        let Some(peer) = message.address else { return };
        let info = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        });
        let Some(info) = info else { return };
        let stop = message.bytes == 4;
        let answer = peer.ip().octets();
        let source = nix::libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: info.ipi_addr, ..info };
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let iov = [std::io::IoSlice::new(&answer)];
        let _ = sendmsg(socket.as_raw_fd(), &iov, &control, MsgFlags::empty(), Some(&peer));
        if stop {
            return;
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let stop = std::mem::take(&mut self.stop);
        // A panicking test leaves them to the end of the process.
        if !std::thread::panicking() {
            self.namespace.run(move || stop.iter().for_each(|at| drop(TcpStream::connect(at))));
        }
    }
}

fn seen(error: &std::io::Error) -> Seen {
    match (error.kind(), error.raw_os_error().map(nix::errno::Errno::from_raw)) {
        (ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset, _) => Seen::Refused,
        (_, Some(nix::errno::Errno::EHOSTUNREACH | nix::errno::Errno::ENETUNREACH | nix::errno::Errno::EACCES)) => {
            Seen::Unreachable
        }
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => Seen::Nothing,
        _ => panic!("unexpected: {error}"),
    }
}

/// A TCP connection of a pod.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// Opens one; what was seen instead if that failed.
    pub(crate) fn open(from: &Namespace, to: &str, source_port: Option<u16>) -> Result<Self, Seen> {
        let to: SocketAddr = to.parse().unwrap();
        from.run(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            if let Some(port) = source_port {
                socket.set_reuse_address(true).unwrap();
                socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
            }
            socket.connect_timeout(&to.into(), SILENCE).map_err(|error| seen(&error))?;
            Ok(Self(socket.into()))
        })
    }

    /// Asks the server as whom it sees us.
    pub(crate) fn ask(&mut self, patience: Duration) -> Seen {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut answer = [0; 4];
        match self.0.write_all(b"?").and_then(|()| self.0.read_exact(&mut answer)) {
            Ok(()) => Seen::From(answer.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Seen::Refused,
            Err(error) => seen(&error),
        }
    }

    /// Asks, and the answer has to come.
    pub(crate) fn still(&mut self) -> Seen {
        self.ask(PATIENCE)
    }
}

/// One TCP connection and one question.
pub(crate) fn tcp(from: &Namespace, to: &str) -> Seen {
    match Connection::open(from, to, None) {
        Ok(mut connection) => connection.still(),
        Err(seen) => seen,
    }
}

/// One UDP question.
pub(crate) fn udp(from: &Namespace, to: &str) -> Seen {
    udp_from(from, to, 0)
}

/// One UDP question from this port.
pub(crate) fn udp_from(from: &Namespace, to: &str, port: u16) -> Seen {
    let to = to.to_owned();
    from.run(move || {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        socket.connect(&to).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut answer = [0; 4];
        match socket.send(b"?").and_then(|_| socket.recv(&mut answer)) {
            Ok(_) => Seen::From(answer.into()),
            Err(error) => seen(&error),
        }
    })
}

/// One ICMP echo by the ping tool: `Some` source it names for an answer or an error, with the error's words.
pub(crate) fn ping(from: &Namespace, to: &str) -> String {
    let to = to.to_owned();
    from.run(move || {
        let output = Command::new("ping").args(["-n", "-c1", "-W1", &to]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().nth(1).unwrap_or_default();
        // "64 bytes from X: icmp_seq=1 ..." or "From X icmp_seq=1 Words".
        match line.split_once("icmp_seq=1 ") {
            Some((head, _)) if head.starts_with("64 bytes") => "answered".to_owned(),
            Some((_, words)) => words.trim().to_owned(),
            None => "nothing".to_owned(),
        }
    })
}
