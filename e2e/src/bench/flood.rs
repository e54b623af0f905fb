//! As many packets as a CPU can send, and the count of those that arrive as they should.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use callgate_pptp::wire::{gre, ipv4};
use socket2::Socket;

use super::site::SERVER_NET;
use crate::lab::node::Node;
use crate::lab::packet_socket;

/// Frames a system call.
pub(super) const BATCH: usize = 64;

/// How long a sender sleeps that has less than a quarter of a batch to send.
const PAUSE: Duration = Duration::from_micros(50);

/// What tells a packet from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Behind the IPv4 header.
    pub inner: Inner,
}

/// What is behind the IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// Enhanced GRE with one number.
    Gre {
        /// The receiver's.
        call_id: u16,
    },
    /// UDP without checksum.
    Udp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
    },
}

/// Packets to be sent in turn: what differs between them, and what follows in each.
#[derive(Debug)]
pub struct Frames {
    heads: Vec<[u8; HEAD]>,
    rest: Vec<u8>,
}

/// Ethernet, IPv4, GRE with one number (of UDP: its header and four octets).
pub const HEAD: usize = 14 + 20 + 12;

impl Frames {
    /// Ethernet frames to this neighbour. IPv4 length `length`.
    pub fn new(mac: &str, packets: impl Iterator<Item = Packet>, length: usize) -> Self {
        let heads = packets.map(|packet| head(mac, packet, length)).collect();
        Self { heads, rest: vec![0; 14 + length - HEAD] }
    }

    /// What differs between them.
    pub(super) fn heads(&self) -> &[[u8; HEAD]] {
        &self.heads
    }

    /// The first of them, whole.
    pub fn first(&self) -> Vec<u8> {
        self.heads.first().map_or_else(Vec::new, |head| [&head[..], &self.rest].concat())
    }
}

fn head(mac: &str, packet: Packet, length: usize) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    for (octet, text) in bytes.iter_mut().zip(mac.split(':')) {
        *octet = u8::from_str_radix(text, 16).unwrap_or_default();
    }
    bytes[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 0x08, 0x00]);
    let protocol = match packet.inner {
        Inner::Gre { .. } => ipv4::PROTOCOL_GRE,
        Inner::Udp { .. } => UDP,
    };
    let ip = ipv4::Repr {
        src: packet.src,
        dst: packet.dst,
        protocol,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: length - ipv4::HEADER_LEN,
    };
    // The codecs write into a whole packet.
    let mut whole = vec![0; length];
    let _ = ip.emit(&mut whole);
    let behind = &mut whole[ipv4::HEADER_LEN..];
    match packet.inner {
        Inner::Gre { call_id } => {
            let payload_len = (behind.len() - 12) as u16;
            let _ = gre::Repr { call_id, seq: Some(1), ack: None, payload_len }.emit(behind);
        }
        Inner::Udp { from, to } => {
            let words = [from, to, behind.len() as u16, 0];
            behind.chunks_exact_mut(2).zip(words).for_each(|(at, word)| at.copy_from_slice(&word.to_be_bytes()));
        }
    }
    bytes[14..].copy_from_slice(&whole[..HEAD - 14]);
    bytes
}

/// Protocol number of UDP.
const UDP: u8 = 17;

/// `first-last` of these numbers, as nft writes it.
fn range(numbers: impl Iterator<Item = u16> + Clone) -> String {
    format!("{}-{}", numbers.clone().min().unwrap_or_default(), numbers.max().unwrap_or_default())
}

/// Call IDs of those that are GRE.
pub(super) fn call_ids(packets: &[Packet]) -> impl Iterator<Item = u16> + Clone {
    packets.iter().filter_map(|packet| match packet.inner {
        Inner::Gre { call_id } => Some(call_id),
        Inner::Udp { .. } => None,
    })
}

/// What nft calls them: numbers of one kind follow each other.
fn matching(wanted: &[Packet]) -> String {
    let ids = call_ids(wanted);
    let ports = wanted.iter().filter_map(|packet| match packet.inner {
        Inner::Udp { from, to } => Some((from, to)),
        Inner::Gre { .. } => None,
    });
    match wanted.first().map(|packet| packet.inner) {
        Some(Inner::Udp { .. }) => {
            format!(
                "udp sport {} udp dport {}",
                range(ports.clone().map(|(from, _)| from)),
                range(ports.map(|(_, to)| to))
            )
        }
        Some(Inner::Gre { .. }) | None => format!("ip protocol gre @th,48,16 {}", range(ids)),
    }
}

/// Counts, where they arrive, packets to this machine with these addresses and one of these Call IDs or ports, which follow each other;
/// everything else is not counted. As early as nftables can, and by a range: what counting costs does not depend on the number of calls.
///
/// # Errors
/// If nft refuses it.
pub fn sink(at: &Node, wanted: &[Packet]) -> anyhow::Result<()> {
    let net = |address: Ipv4Addr| match SERVER_NET.1.contains(&address) {
        true => SERVER_NET.0.to_owned(),
        false => address.to_string(),
    };
    let (src, dst) = wanted.first().map(|packet| (net(packet.src), net(packet.dst))).context("no calls")?;
    let matching = matching(wanted);
    at.nft(&format!(
        "table netdev sink {{ }}
        delete table netdev sink
        table netdev sink {{
            counter good {{ }}
            chain in {{
                type filter hook ingress device eth0 priority 0;
                meta pkttype host ip saddr {src} ip daddr {dst} {matching} counter name good drop
                ip protocol {{ gre, udp }} drop
            }}
        }}"
    ))
}

fn counted(client: &Node) -> anyhow::Result<u64> {
    let text = client.run("nft", &["list", "counter", "netdev", "sink", "good"])?;
    let number = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.with_context(|| text.clone())
}

/// The count, once it no longer grows.
///
/// # Errors
/// If it cannot be read.
pub fn settled(client: &Node) -> anyhow::Result<u64> {
    settle(|| counted(client))
}

/// A count, once it no longer grows.
pub(super) fn settle(count: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let mut before = count()?;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = count()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

/// Each frame once.
///
/// # Errors
/// If they cannot be sent.
pub fn once(from: &Node, frames: &Frames) -> anyhow::Result<()> {
    from.within(|| -> anyhow::Result<()> {
        let socket = open()?;
        for batch in frames.heads.chunks(BATCH) {
            send(&socket, batch.iter(), &frames.rest)?;
            // Slowly: nothing of this may be lost.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    })?
}

/// All frames in turn for this long, as many as it can or so many a second; how many were handed over.
///
/// # Errors
/// If they cannot be sent.
pub fn run(from: &Node, frames: &Frames, time: Duration, rate: Option<f64>) -> anyhow::Result<u64> {
    from.within(|| -> anyhow::Result<u64> {
        let socket = open()?;
        let mut in_turn = frames.heads.iter().cycle();
        paced(time, rate, BATCH, |batch| send(&socket, in_turn.by_ref().take(batch), &frames.rest))
    })?
}

/// Sends for this long, so many frames a second in batches, or in batches of `most` as fast as it can; how many were handed over.
/// `send` is told how many to send, and says how many it has.
pub(super) fn paced(
    time: Duration,
    rate: Option<f64>,
    most: usize,
    mut send: impl FnMut(usize) -> anyhow::Result<usize>,
) -> anyhow::Result<u64> {
    // The gateway's kernel threads have the other CPU.
    let mut cpu = nix::sched::CpuSet::new();
    cpu.set(0)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpu)?;
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let due = rate.map(|rate| (rate * begun.elapsed().as_secs_f64()) as u64);
        let batch = due.map_or(most, |due| due.saturating_sub(sent).min(BATCH as u64) as usize);
        if batch < BATCH / 4 {
            // The gateway's agent has this CPU too.
            std::thread::sleep(PAUSE);
        } else {
            sent += send(batch)? as u64;
        }
    }
    Ok(sent)
}

/// So many frames each millisecond, in turn, while `meanwhile` does its work; how many were handed over.
///
/// # Errors
/// If they cannot be sent, or what `meanwhile` says.
pub fn steady(
    from: &Node,
    frames: &Frames,
    per_ms: usize,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| steady_until(from, frames, per_ms, &done));
        let worked = meanwhile();
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().map_err(|_| anyhow!("the sender panicked"))?;
        worked.and(sent)
    })
}

fn steady_until(from: &Node, frames: &Frames, per_ms: usize, done: &AtomicBool) -> anyhow::Result<u64> {
    from.within(|| -> anyhow::Result<u64> {
        let socket = open()?;
        let mut in_turn = frames.heads.iter().cycle();
        let (begun, mut sent) = (Instant::now(), 0);
        while !done.load(Ordering::Relaxed) {
            let due = begun.elapsed().as_millis() as u64 * per_ms as u64;
            // After a pause of this thread no more than a batch at once: queues are short.
            let now = due.saturating_sub(sent).min(BATCH as u64) as usize;
            if now == 0 {
                std::thread::sleep(Duration::from_micros(200));
            } else {
                sent += send(&socket, in_turn.by_ref().take(now), &frames.rest)? as u64;
            }
        }
        Ok(sent)
    })?
}

/// A packet socket on eth0 that goes past the queueing discipline.
pub(super) fn open() -> anyhow::Result<Socket> {
    let socket = packet_socket::unbound()?;
    packet_socket::set_int(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1).context("PACKET_QDISC_BYPASS")?;
    packet_socket::bind_to(&socket, "eth0", 0)?;
    Ok(socket)
}

/// Hands over a batch; frames the device has no room for are lost, as on a wire.
fn send<'a>(socket: &Socket, heads: impl Iterator<Item = &'a [u8; HEAD]>, rest: &[u8]) -> anyhow::Result<usize> {
    let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut parts: Vec<[libc::iovec; 2]> = heads.map(|head| [part(head), part(rest)]).collect();
    // SAFETY: mmsghdr is plain data; all zeroes is a value of it.
    let mut messages: Vec<libc::mmsghdr> = parts.iter().map(|_| unsafe { std::mem::zeroed() }).collect();
    for (message, part) in messages.iter_mut().zip(&mut parts) {
        message.msg_hdr.msg_iov = part.as_mut_ptr();
        message.msg_hdr.msg_iovlen = 2;
    }
    // SAFETY: messages and the parts and frames they point to live until the call returns; the kernel only reads the frames.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
    if sent < 0 {
        let error = std::io::Error::last_os_error();
        if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) {
            return Ok(0);
        }
        return Err(error).context("sendmmsg");
    }
    Ok(sent as usize)
}
