//! As many GRE packets as a CPU can send, and the count of those that arrive as they should.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use callgate_pptp::wire::{gre, ipv4};
use socket2::Socket;

use super::bed::{CLIENT, SERVER};
use super::calls::Id;
use crate::lab::node::Node;
use crate::lab::packet_socket;

/// Frames a system call.
const BATCH: usize = 64;

/// An Ethernet frame with a GRE packet of the server. IPv4 length `length`.
pub fn frame(mac: &str, to: Ipv4Addr, call_id: u16, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    bytes.extend([2, 0, 0, 0, 0, 9, 0x08, 0x00]);
    let payload = length - ipv4::HEADER_LEN - 12;
    let header = gre::Repr { call_id, seq: Some(1), ack: None, payload_len: payload as u16 };
    let ip = ipv4::Repr {
        src: SERVER,
        dst: to,
        protocol: ipv4::PROTOCOL_GRE,
        tos: 0,
        ttl: 64,
        id: 0,
        dont_fragment: true,
        payload_len: length - ipv4::HEADER_LEN,
    };
    let mut packet = vec![0; length];
    // The buffer is as long as both headers and the payload.
    let _ = ip.emit(&mut packet).and_then(|()| header.emit(&mut packet[ipv4::HEADER_LEN..]));
    bytes.extend(packet);
    bytes
}

/// Counts, in the client, packets that have its address and the Call ID of one of these calls; everything else is not counted.
///
/// # Errors
/// If nft refuses it.
pub fn sink(client: &Node, ids: &[Id]) -> anyhow::Result<()> {
    let elements: Vec<String> = ids.iter().map(|id| id.client.to_string()).collect();
    client.nft(&format!(
        "table ip sink {{ }}
        delete table ip sink
        table ip sink {{
            counter good {{ }}
            set ids {{ typeof @th,48,16; elements = {{ {} }}; }}
            chain in {{
                type filter hook prerouting priority -300;
                ip protocol gre ip saddr {SERVER} ip daddr {CLIENT} @th,48,16 @ids counter name good drop
                ip protocol gre drop
            }}
        }}",
        elements.join(", ")
    ))
}

fn counted(client: &Node) -> anyhow::Result<u64> {
    let text = client.run("nft", &["list", "counter", "ip", "sink", "good"])?;
    let number = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.with_context(|| text.clone())
}

/// The count, once it no longer grows.
///
/// # Errors
/// If it cannot be read.
pub fn settled(client: &Node) -> anyhow::Result<u64> {
    let mut before = counted(client)?;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = counted(client)?;
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
pub fn once(server: &Node, frames: Vec<Vec<u8>>) -> anyhow::Result<()> {
    server.within(|| -> anyhow::Result<()> {
        let socket = open()?;
        for batch in frames.chunks(BATCH) {
            send(&socket, batch.iter().map(Vec::as_slice))?;
            // Slowly: nothing of this may be lost.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    })?
}

/// All frames in turn for this long; how many were handed over.
///
/// # Errors
/// If they cannot be sent.
pub fn run(server: &Node, frames: Vec<Vec<u8>>, time: Duration) -> anyhow::Result<u64> {
    server.within(|| -> anyhow::Result<u64> {
        // The gateway's kernel threads have the other CPU.
        let mut cpu = nix::sched::CpuSet::new();
        cpu.set(0)?;
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpu)?;
        let socket = open()?;
        let mut in_turn = frames.iter().map(Vec::as_slice).cycle();
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < time {
            sent += send(&socket, in_turn.by_ref().take(BATCH))? as u64;
        }
        Ok(sent)
    })?
}

/// A packet socket on eth0 that goes past the queueing discipline.
fn open() -> anyhow::Result<Socket> {
    let socket = packet_socket::unbound()?;
    packet_socket::set_int(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1).context("PACKET_QDISC_BYPASS")?;
    packet_socket::bind_to(&socket, "eth0", 0)?;
    Ok(socket)
}

/// Hands over a batch; frames the device has no room for are lost, as on a wire.
fn send<'a>(socket: &Socket, frames: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<usize> {
    let mut parts: Vec<libc::iovec> =
        frames.map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() }).collect();
    // SAFETY: mmsghdr is plain data; all zeroes is a value of it.
    let mut messages: Vec<libc::mmsghdr> = parts.iter().map(|_| unsafe { std::mem::zeroed() }).collect();
    for (message, part) in messages.iter_mut().zip(&mut parts) {
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
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
