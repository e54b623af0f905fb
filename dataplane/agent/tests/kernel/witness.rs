//! Where a single packet came out: beyond the gateway, in the pair of the ALG, or as an answer at the pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use callgate_compile::explain::Packet;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{LinkAddr, recvfrom};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsRawFd as _;

use super::lab::{Lab, Namespace, index, sh};
use super::probes::{checksum, header_socket};

/// An answer of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TCP with RST.
    Reset,
    /// ICMP with this type and code.
    Icmp(u8, u8),
}

/// What became of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It came out beyond the gateway, with this source.
    pub(crate) arrived_from: Option<Ipv4Addr>,
    /// It came out of the ALG's pair, with this source.
    pub(crate) steered_from: Option<Ipv4Addr>,
    /// The pod got this.
    pub(crate) answer: Option<Answer>,
}

/// Sockets at all the places.
pub(crate) struct Witness {
    sender: Socket,
    pod: Socket,
    server: Socket,
    gateway: Socket,
    steered_at: usize,
    serial: u16,
}

/// Goes through untouched (its destination is in the cluster), and so after everything that was sent before it.
const MARKER: Packet = Packet {
    src: Ipv4Addr::new(10, 244, 8, 1),
    src_port: 9,
    dst: Ipv4Addr::new(10, 97, 0, 1),
    dst_port: 9,
    protocol: 17,
};

/// ETH_P_IP; packet(7) wants it in network order.
fn listen() -> Socket {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(0x0800u16.to_be())))).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

impl Witness {
    /// Opens everything. The kernel side has to be started. From now on this thread stays on one CPU: the kernel handles what
    /// it sends there, one packet after the other.
    pub(crate) fn start(lab: &Lab) -> Self {
        // The pod is the way to all sources; no limit on ICMP errors (mask of types that are limited).
        sh("ip route add 10.244.8.0/22 via 10.244.1.2 && echo 0 > /proc/sys/net/ipv4/icmp_ratemask");
        let open = |place: &Namespace| place.run(listen);
        let sender = lab.a.run(header_socket);
        let witness = Self {
            sender,
            pod: open(&lab.a),
            server: open(&lab.server),
            gateway: listen(),
            steered_at: index("callgate1") as usize,
            serial: 0,
        };
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
        witness
    }

    /// Sends one packet and looks where it comes out.
    pub(crate) fn send(&mut self, packet: &Packet) -> Fate {
        self.serial += 1;
        let serial = self.serial;
        self.put(packet, serial);
        self.put(&MARKER, serial);
        let mut fate = Fate::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        let number = |bytes: &[u8]| u16::from_be_bytes([bytes[4], bytes[5]]);
        let source = |bytes: &[u8]| Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]);
        loop {
            let Some((bytes, _)) = take(&self.server) else {
                assert!(Instant::now() < deadline, "the packet that always passes did not: {packet:?}");
                std::thread::yield_now();
                continue;
            };
            let to = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
            match (number(&bytes) == serial, to == MARKER.dst) {
                (true, true) => break,
                (true, false) => fate.arrived_from = Some(source(&bytes)),
                (false, _) => {}
            }
        }
        while let Some((bytes, link)) = take(&self.gateway) {
            if link == self.steered_at && number(&bytes) == serial {
                fate.steered_from = Some(source(&bytes));
            }
        }
        while let Some((bytes, _)) = take(&self.pod) {
            fate.answer = fate.answer.or(answer(&bytes));
        }
        fate
    }

    fn put(&self, packet: &Packet, serial: u16) {
        let to: SocketAddr = (packet.dst, 0).into();
        self.sender.send_to(&bytes(packet, serial), &to.into()).unwrap();
    }
}

/// The next packet, and the index of the link it came in on.
fn take(socket: &Socket) -> Option<(Vec<u8>, usize)> {
    let mut buffer = [0; 2048];
    match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
        Ok((length, from)) => Some((buffer[..length].to_vec(), from.map_or(0, |from| from.ifindex()))),
        Err(nix::errno::Errno::EAGAIN) => None,
        Err(error) => panic!("{error}"),
    }
}

fn answer(bytes: &[u8]) -> Option<Answer> {
    let body = &bytes[usize::from(bytes[0] & 15) * 4..];
    match bytes[9] {
        6 if body[13] & 4 != 0 => Some(Answer::Reset),
        1 if body[0] == 3 => Some(Answer::Icmp(body[0], body[1])),
        _ => None,
    }
}

/// The packet as it goes on the wire: the first of its flow.
fn bytes(packet: &Packet, serial: u16) -> Vec<u8> {
    let ports = [packet.src_port.to_be_bytes(), packet.dst_port.to_be_bytes()].concat();
    let mut body = match packet.protocol {
        // SYN.
        6 => [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]].concat(),
        // Without a checksum, as UDP may be.
        17 => [&ports[..], &[0, 12, 0, 0], b"four"].concat(),
        // An echo request whose identifier is the serial number.
        1 => [&[8, 0, 0, 0][..], &serial.to_be_bytes(), &[0, 1], b"four"].concat(),
        _ => b"whatever it is".to_vec(),
    };
    let (source, destination) = (packet.src.octets(), packet.dst.octets());
    match packet.protocol {
        6 => {
            let length = (body.len() as u16).to_be_bytes();
            let pseudo = [&source[..], &destination, &[0, 6], &length, &body].concat();
            body[16..18].copy_from_slice(&checksum(&pseudo));
        }
        1 => {
            let sum = checksum(&body);
            body[2..4].copy_from_slice(&sum);
        }
        _ => {}
    }
    // The kernel fills in the checksum of the header (raw(7)).
    let length = (20 + body.len() as u16).to_be_bytes();
    let head = [&[0x45, 0][..], &length, &serial.to_be_bytes(), &[0, 0, 64, packet.protocol, 0, 0]].concat();
    [&head[..], &source, &destination, &body].concat()
}
