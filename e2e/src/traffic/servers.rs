//! TCP and UDP servers that answer every octet with the address they see the client under.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use crate::lab::node::Node;

/// Time between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Running servers; they end when dropped.
#[derive(Debug)]
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts servers on these TCP and UDP ports of all addresses of a node.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn start(node: &Node, tcp: &[u16], udp: &[u16]) -> anyhow::Result<Self> {
        let mut servers = Self { stop: Arc::default(), threads: Vec::new() };
        for port in tcp.iter().copied() {
            let listener =
                node.within(|| TcpListener::bind(("0.0.0.0", port)))?.with_context(|| format!("TCP {port}"))?;
            listener.set_nonblocking(true).context("listener")?;
            let stop = Arc::clone(&servers.stop);
            servers.threads.push(std::thread::spawn(move || accept(&listener, &stop)));
        }
        for port in udp.iter().copied() {
            let socket = node.within(|| UdpSocket::bind(("0.0.0.0", port)))?.with_context(|| format!("UDP {port}"))?;
            socket.set_read_timeout(Some(LOOK)).context("socket")?;
            let stop = Arc::clone(&servers.stop);
            servers.threads.push(std::thread::spawn(move || answer(&socket, &stop)));
        }
        Ok(servers)
    }
}

fn octets(peer: SocketAddr) -> [u8; 4] {
    match peer.ip() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED.octets(),
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stop = Arc::clone(stop);
                std::thread::spawn(move || converse(stream, octets(peer), &stop));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn converse(mut stream: TcpStream, peer: [u8; 4], stop: &AtomicBool) {
    drop(stream.set_nonblocking(false));
    drop(stream.set_read_timeout(Some(LOOK)));
    let mut octet = [0];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut octet) {
            Ok(0) => return,
            Ok(_) if stream.write_all(&peer).is_err() => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut octet = [0];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut octet) {
            drop(socket.send_to(&octets(peer), peer));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
