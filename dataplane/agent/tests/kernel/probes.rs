//! Small packets between namespaces, and what became of them.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::lab::Namespace;

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come.
const SILENCE: Duration = Duration::from_millis(600);

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

/// Pod A, seen as itself.
pub(crate) const POD: Seen = Seen::From(Ipv4Addr::new(10, 244, 1, 2));
/// Seen as the node.
pub(crate) const NODE: Seen = Seen::From(Ipv4Addr::new(192, 0, 2, 1));

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
        let Ok(message) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty())
        else {
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
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if let Some(port) = source_port {
                socket.set_reuse_address(true).unwrap();
                socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
            }
            socket.connect_timeout(&to.into(), SILENCE).map_err(|error| seen(&error))?;
            Ok(Self(socket.into()))
        })
    }

    /// Asks the server as whom it sees us.
    fn ask(&mut self, patience: Duration) -> Seen {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut answer = [0; 4];
        match self.0.write_all(b"?").and_then(|()| self.0.read_exact(&mut answer)) {
            Ok(()) => Seen::From(answer.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Seen::Refused,
            Err(error) => seen(&error),
        }
    }

    /// Asks, and nothing is expected.
    pub(crate) fn ask_briefly(&mut self) -> Seen {
        self.ask(SILENCE)
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

/// A socket for the payload of IPv4 packets of this protocol.
pub(crate) fn raw_socket(protocol: i32) -> Socket {
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol))).unwrap()
}

/// A socket for packets that bring their own IPv4 header (protocol 255 is "raw": nothing is received).
pub(crate) fn header_socket() -> Socket {
    let socket = raw_socket(255);
    socket.set_header_included_v4(true).unwrap();
    socket
}

/// One packet of any protocol to `to`, and as whom its receiver sees the sender (a raw socket there; nothing answers).
pub(crate) fn raw(from: &Namespace, receiver: &Namespace, to: &str, protocol: i32, payload: &'static [u8]) -> Seen {
    let open = move || raw_socket(protocol);
    let inbox = receiver.run(open);
    let to: SocketAddr = format!("{to}:0").parse().unwrap();
    from.run(move || open().send_to(payload, &to.into()).unwrap());
    inbox.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = [0u8; 256];
    match (&inbox).read(&mut buffer) {
        Ok(length) => {
            assert_eq!(&buffer[20..length], payload);
            Seen::From(Ipv4Addr::new(buffer[12], buffer[13], buffer[14], buffer[15]))
        }
        Err(error) => seen(&error),
    }
}

/// Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An ICMP error with what it quotes.
pub(crate) fn icmp_error(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    // Next-hop MTU 1400, for those that read it (RFC 1191).
    let mut error = vec![kind, code, 0, 0, 0, 0, 0x05, 0x78];
    error.extend_from_slice(quoted);
    let sum = checksum(&error);
    error[2..4].copy_from_slice(&sum);
    error
}

/// Sends a UDP packet, lets the receiver's side answer with an ICMP error about it, and says whether the sender gets that.
pub(crate) fn error_reaches(from: &Namespace, server: &Namespace, to: &str, kind: u8, code: u8) -> bool {
    let (seen_there, seen_here) = (server.run(|| raw_socket(17)), from.run(|| raw_socket(1)));
    let to = to.to_owned();
    from.run(move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"long", &to).unwrap());
    seen_there.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = [0u8; 256];
    let length = (&seen_there).read(&mut packet).unwrap();
    let error = icmp_error(kind, code, &packet[..length]);
    let back: SocketAddr = (Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]), 0).into();
    server.run(move || raw_socket(1).send_to(&error, &back.into()).unwrap());
    seen_here.set_read_timeout(Some(SILENCE)).unwrap();
    let mut got = [0u8; 256];
    loop {
        match (&seen_here).read(&mut got) {
            Ok(_) if (got[20], got[21]) == (kind, code) => return true,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(seen(&error), Seen::Nothing);
                return false;
            }
        }
    }
}

/// A tcpdump in a namespace.
pub(crate) struct Capture {
    child: std::process::Child,
    namespace: Option<Namespace>,
}

/// Port of the packet that ends a capture.
const LAST_WORD: u16 = 65_000;

impl Capture {
    /// Begins, and returns when it captures.
    pub(crate) fn start(namespace: &Namespace, filter: &str) -> Self {
        let filter = filter.to_owned();
        let child = namespace.run(move || tcpdump(&filter));
        Self { child, namespace: Some(namespace.clone()) }
    }

    /// The same in the calling thread's namespace.
    pub(crate) fn start_here(filter: &str) -> Self {
        Self { child: tcpdump(filter), namespace: None }
    }

    /// Ends, with everything captured before: a packet of our own over the loopback is the last to be printed. It is repeated,
    /// because a busy machine may lose one.
    pub(crate) fn stop(mut self) -> String {
        let over = Arc::new(AtomicBool::new(false));
        let last_words = {
            let over = Arc::clone(&over);
            move || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                while !over.load(Ordering::Relaxed) {
                    socket.send_to(b"last", ("127.0.0.1", LAST_WORD)).unwrap();
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            }
        };
        let speaker = match &self.namespace {
            Some(namespace) => namespace.spawn(last_words),
            None => std::thread::spawn(last_words),
        };
        let mut captured = String::new();
        for line in std::io::BufReader::new(self.child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains(&format!("127.0.0.1.{LAST_WORD}: UDP")) {
                break;
            }
            captured.push_str(&line);
            captured.push('\n');
        }
        over.store(true, Ordering::Relaxed);
        speaker.thread().unpark();
        speaker.join().unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        captured.trim().to_owned()
    }
}

fn tcpdump(filter: &str) -> std::process::Child {
    let mut command = Command::new("tcpdump");
    let filter = format!("({filter}) or (udp and dst port {LAST_WORD})");
    // Short frames and a large ring: with the defaults the ring has a few dozen places.
    command.args(["-n", "-t", "-l", "--immediate-mode", "-s", "192", "-B", "4096", "-i", "any", &filter]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    let mut octet = [0];
    while !said.contains("listening on") {
        stderr.read_exact(&mut octet).unwrap();
        said.push(char::from(octet[0]));
    }
    child
}

/// Sends one IPv4 payload of this protocol, from a raw socket.
pub(crate) fn send_ip(from: &Namespace, to: Ipv4Addr, protocol: i32, payload: &[u8]) {
    let payload = payload.to_vec();
    from.run(move || {
        raw_socket(protocol).send_to(&payload, &SocketAddr::from((to, 0)).into()).unwrap();
    });
}

/// Sends one IPv4 packet with any source and a mark from the calling thread's namespace, as the ALG does.
pub(crate) fn send_as(source: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8], mark: u32) {
    let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    let socket = header_socket();
    socket.set_mark(mark).unwrap();
    socket.send_to(&packet, &SocketAddr::from((to, 0)).into()).unwrap();
}
