//! A network that repeats: every TCP segment with payload that leaves a node follows once more, then its second half, then the
//! segment before it.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::packet_socket::PacketSocket;
use callgate_pptp::wire::{ipv4, tcp};
use socket2::{Domain, Protocol, Socket, Type};

/// TTL of what is repeated, so that it is not repeated again.
const MARK: u8 = 61;

/// Runs until stopped.
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl Echo {
    /// Repeats what leaves by this interface of the node.
    pub(crate) fn start(node: &Node, interface: &str) -> anyhow::Result<Self> {
        let (reader, sender) = node.within(|| -> anyhow::Result<_> {
            let sender = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            sender.set_header_included_v4(true)?;
            Ok((PacketSocket::open(interface)?, sender))
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let own = node.run("ip", &["-4", "-o", "addr", "show", "dev", interface])?;
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut sent, mut before) = (vec![0; 70_000], 0, Vec::new());
            while !end.load(Ordering::Relaxed) {
                let Some(length) = reader.read(&mut buffer)? else { continue };
                let Some(packet) = buffer.get(14..length) else { continue };
                let Ok(ip) = ipv4::Packet::new_checked(packet) else { continue };
                let leaves = own.contains(&format!(" {}/", ip.src()));
                if !leaves || ip.protocol() != ipv4::PROTOCOL_TCP || ip.ttl() == MARK {
                    continue;
                }
                let Ok(segment) = tcp::Packet::new_checked(ip.payload()) else { continue };
                if segment.payload().is_empty() {
                    continue;
                }
                let half = segment.payload().len() / 2;
                let again = [rebuilt(&ip, &segment, 0), rebuilt(&ip, &segment, half), before];
                for copy in again.iter().filter(|copy| !copy.is_empty()) {
                    let to = SocketAddrV4::new(ip.dst(), 0);
                    sent += u64::from(sender.send_to(copy, &to.into()).is_ok());
                }
                before = again.into_iter().next().unwrap_or_default();
            }
            Ok(sent)
        });
        Ok(Self { stop, thread })
    }

    /// Ends it; how many segments were repeated.
    pub(crate) fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("panicked"))?
    }
}

/// The segment without the first `skip` octets of its payload.
fn rebuilt(ip: &ipv4::Packet<&[u8]>, segment: &tcp::Packet<&[u8]>, skip: usize) -> Vec<u8> {
    let header = tcp::Repr { seq: segment.seq() + skip as u32, ..tcp::Repr::parse(segment) };
    let outer = ipv4::Repr {
        src: ip.src(),
        dst: ip.dst(),
        protocol: ipv4::PROTOCOL_TCP,
        tos: 0,
        ttl: MARK,
        id: 0,
        dont_fragment: true,
        payload_len: 0,
    };
    tcp::datagram(&outer, &header, &segment.payload()[skip..]).unwrap()
}
