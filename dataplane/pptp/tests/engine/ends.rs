//! One end of a TCP connection, by hand: numbers, what it sent, what it got.

use std::net::Ipv4Addr;

use callgate_pptp::wire::{Seq, ipv4, tcp};

/// One end.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) addr: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) peer: Ipv4Addr,
    pub(crate) peer_port: u16,
    /// Next number to send.
    pub(crate) next: Seq,
    /// Next number expected.
    pub(crate) expected: Seq,
    /// Octets that came in order.
    pub(crate) got: Vec<u8>,
    /// Length of each segment with payload, as it came.
    pub(crate) segments: Vec<usize>,
    pub(crate) reset: bool,
    pub(crate) finished: bool,
    /// The highest acknowledgement it was given.
    pub(crate) acked: Seq,
    /// Octets it has sent, the first of them with number `first`.
    pub(crate) sent: Vec<u8>,
    pub(crate) first: Seq,
    /// Value and echo of its next segments, where it uses timestamps.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// Whether what the gateway sends may be lost on the way.
    pub(crate) holes: bool,
    /// Others may have spoken in its name, so it may be acknowledged what it does not know of.
    pub(crate) lenient: bool,
    /// Everything that came, as it came.
    pub(crate) packets: Vec<Vec<u8>>,
}

impl End {
    pub(crate) fn new(addr: Ipv4Addr, port: u16, peer: Ipv4Addr, peer_port: u16, isn: u32) -> Self {
        Self {
            addr,
            port,
            peer,
            peer_port,
            next: Seq(isn),
            expected: Seq(0),
            got: Vec::new(),
            segments: Vec::new(),
            reset: false,
            finished: false,
            acked: Seq(isn),
            sent: Vec::new(),
            first: Seq(isn) + 1,
            timestamps: None,
            holes: false,
            lenient: false,
            packets: Vec::new(),
        }
    }

    /// A packet of this end with these numbers.
    pub(crate) fn packet(&self, seq: Seq, flags: tcp::Flags, payload: &[u8]) -> Vec<u8> {
        let header = tcp::Repr {
            src_port: self.port,
            dst_port: self.peer_port,
            seq,
            ack: if flags.contains(tcp::Flags::ACK) { self.expected } else { Seq(0) },
            flags,
            window: 1_000,
            timestamps: self.timestamps,
        };
        let ip = ipv4::Repr {
            src: self.addr,
            dst: self.peer,
            protocol: ipv4::PROTOCOL_TCP,
            tos: 0,
            ttl: 64,
            id: 7,
            dont_fragment: true,
            payload_len: 0,
        };
        tcp::datagram(&ip, &header, payload).unwrap()
    }

    pub(crate) fn syn(&mut self) -> Vec<u8> {
        let packet = self.packet(self.next, tcp::Flags::SYN, &[]);
        self.next += 1;
        packet
    }

    pub(crate) fn ack(&self) -> Vec<u8> {
        self.packet(self.next, tcp::Flags::ACK, &[])
    }

    /// Payload at the end of the stream.
    pub(crate) fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        let packet = self.packet(self.next, tcp::Flags::ACK.with(tcp::Flags::PSH), payload);
        self.next += payload.len() as u32;
        self.sent.extend_from_slice(payload);
        packet
    }

    /// Octets it has sent before, from `from` to `to` of the stream, once more.
    pub(crate) fn again(&self, from: usize, to: usize) -> Vec<u8> {
        let flags = tcp::Flags::ACK.with(tcp::Flags::PSH);
        self.packet(self.first + from as u32, flags, &self.sent[from..to])
    }

    /// How many octets of the stream it was acknowledged.
    pub(crate) fn delivered(&self) -> usize {
        self.acked.distance(self.first).max(0) as usize
    }

    pub(crate) fn fin(&mut self) -> Vec<u8> {
        let packet = self.packet(self.next, tcp::Flags::ACK.with(tcp::Flags::FIN), &[]);
        self.next += 1;
        packet
    }

    /// Takes a packet; gives the acknowledgement a real TCP would send, if any.
    pub(crate) fn take(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let ip = ipv4::Packet::new_checked(packet).unwrap();
        assert!(ip.verify_checksum(), "IPv4 checksum");
        let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
        assert!(segment.verify_checksum(ip.src(), ip.dst()), "TCP checksum");
        assert_eq!((ip.dst(), segment.dst_port()), (self.addr, self.port));
        self.packets.push(packet.to_vec());
        if segment.rst() {
            self.reset = true;
            return None;
        }
        if segment.flags().contains(tcp::Flags::ACK) {
            assert!(self.lenient || !segment.ack().after(self.next), "acknowledges what was never sent");
            self.acked = self.acked.later(segment.ack());
        }
        if segment.syn() {
            self.expected = segment.seq() + 1;
            return None;
        }
        let payload = segment.payload();
        if payload.is_empty() && !segment.fin() {
            // An old number asks for an acknowledgement.
            // (Not of a lenient end: two ends that disagree about numbers would answer one another for ever.)
            return (!self.lenient && segment.seq().before(self.expected)).then(|| self.ack());
        }
        if !payload.is_empty() {
            self.segments.push(payload.len());
        }
        let seen = self.expected.distance(segment.seq());
        if seen < 0 {
            assert!(self.holes, "a hole in what the gateway sends");
            return Some(self.ack());
        }
        if let Some(fresh) = payload.get(seen as usize..) {
            self.got.extend_from_slice(fresh);
            self.expected += fresh.len() as u32;
        }
        if segment.fin() && !self.finished {
            self.finished = true;
            self.expected += 1;
        }
        Some(self.ack())
    }
}
