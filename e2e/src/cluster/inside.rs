//! Single packets out of a pod's network, made by hand: no client of a pod's own is needed, and nothing is sent twice.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context as _, anyhow};
use callgate_pptp::wire::checksum;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use super::machine::Machine;

/// Where the CNI's plugins keep the names of pods' networks, in the node's own /run.
const NETWORKS: &str = "/run/netns";

/// The network of one pod.
#[derive(Debug)]
pub struct Inside {
    net: File,
    /// The pod's address.
    pub address: Ipv4Addr,
}

/// What opens a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    /// A TCP SYN.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// A packet of enhanced GRE with this Call ID, as PPTP has it (RFC 2637 section 4.1).
    Gre(u16),
}

impl Opening {
    /// Its IP protocol.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Gre(_) => 47,
        }
    }
}

/// One packet that opens a flow of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// What it is.
    pub opening: Opening,
    /// Where to.
    pub to: SocketAddrV4,
    /// By which it is known again outside whatever its addresses are: the SYN's sequence number, the datagram's payload, or the
    /// sequence number of GRE.
    pub token: u32,
}

impl Inside {
    /// The network of the pod on `machine` that has this address.
    ///
    /// # Errors
    /// If no pod there has it.
    pub fn of(machine: &Machine, address: Ipv4Addr) -> anyhow::Result<Self> {
        let node = &machine.node;
        let names = node.run("ls", &[NETWORKS])?;
        let wanted = format!(" {address}/");
        for name in names.split_whitespace() {
            let path = format!("{NETWORKS}/{name}");
            // One that goes meanwhile is not the one.
            let has = node.run("nsenter", &[&format!("--net={path}"), "ip", "-4", "-o", "addr"]).unwrap_or_default();
            if has.contains(&wanted) {
                let net = node.within(|| File::open(&path))?.with_context(|| path.clone())?;
                return Ok(Self { net, address });
            }
        }
        Err(anyhow!("no pod on {} has {address}", node.name))
    }

    /// Sends it.
    ///
    /// # Errors
    /// If the pod is gone, or its kernel refuses the packet.
    pub fn send(&self, shot: Shot) -> anyhow::Result<()> {
        let packet = packet(self.address, shot);
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| {
                setns(&self.net, CloneFlags::CLONE_NEWNET).context("enter the pod's network")?;
                let raw = Protocol::from(libc::IPPROTO_RAW);
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw)).context("raw socket")?;
                let to: SocketAddr = SocketAddr::V4(shot.to);
                socket.send_to(&packet, &to.into()).with_context(|| format!("send from {}", self.address))?;
                Ok(())
            });
            sent.join().map_err(|_| anyhow!("the thread in the pod panicked"))?
        })
    }
}

/// The whole packet; the kernel writes length and checksum of the IPv4 header.
fn packet(from: Ipv4Addr, shot: Shot) -> Vec<u8> {
    let mut body = Vec::new();
    match shot.opening {
        Opening::Udp => {
            body.extend(ports(shot));
            // Without checksum, as IPv4 allows.
            body.extend([0, 12, 0, 0]);
            body.extend(shot.token.to_be_bytes());
        }
        Opening::Tcp => {
            body.extend(ports(shot));
            body.extend(shot.token.to_be_bytes());
            body.extend([0; 4]);
            // 20 octets of header, SYN, a window.
            body.extend([0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
            let sum = checksum_of(from, *shot.to.ip(), &body);
            body[16..18].copy_from_slice(&sum.to_be_bytes());
        }
        Opening::Gre(call) => {
            // Key and sequence number present, version 1, PPP; a payload of one LCP Discard-Request.
            body.extend([0x30, 0x01, 0x88, 0x0b, 0, 12]);
            body.extend(call.to_be_bytes());
            body.extend(shot.token.to_be_bytes());
            body.extend([0xff, 0x03, 0xc0, 0x21, 11, 1, 0, 8, 0, 0, 0, 0]);
        }
    }
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, shot.opening.protocol(), 0, 0];
    packet.extend(from.octets());
    packet.extend(shot.to.ip().octets());
    packet.extend(body);
    packet
}

/// Source and destination port: a flow of its own has another source port than its neighbours.
fn ports(shot: Shot) -> Vec<u8> {
    let source = 1024 + (shot.token % 60_000) as u16;
    [source.to_be_bytes(), shot.to.port().to_be_bytes()].concat()
}

/// Of a TCP segment.
fn checksum_of(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let sum = checksum::pseudo_header(from, to, Opening::Tcp.protocol(), segment.len() as u16);
    checksum::finish(checksum::add(sum, segment))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::packet::{Body, Packet, Segment};

    #[test]
    fn a_syn_has_its_token_as_sequence_number_and_a_checksum_that_is_right() {
        let to = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 11), 80);
        let from = Ipv4Addr::new(10, 244, 1, 2);
        let mut bytes = packet(from, Shot { opening: Opening::Tcp, to, token: 60_007 });
        assert_eq!(checksum_of(from, *to.ip(), &bytes[20..]), 0, "a segment with its checksum sums up to nothing");
        bytes[3] = 40;
        let segment =
            Segment { source_port: 1031, destination_port: 80, sequence: 60_007, flags: 2, payload: Vec::new() };
        let read = Packet::parse(Duration::ZERO, &bytes).unwrap();
        assert_eq!((read.source, read.destination, read.body), (from, *to.ip(), Body::Tcp(segment)));
    }
}
