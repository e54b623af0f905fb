//! A capture on one interface: packets can be awaited while it runs, and written as a pcap file at the end.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};

use super::node::Node;
use super::packet::Packet;
use super::packet_socket::PacketSocket;
use crate::wait;

/// A running capture. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    name: String,
    packets: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<anyhow::Result<()>>>,
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

impl Capture {
    /// Starts it; what passes after this returns is seen. Only IPv4 is kept.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn start(node: &Node, interface: &str) -> anyhow::Result<Self> {
        let name = format!("{} on {}", interface, node.name);
        let socket = node.within(|| PacketSocket::open(interface))?.with_context(|| format!("capture {name}"))?;
        let (packets, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, end) = (Arc::clone(&packets), Arc::clone(&stop));
        let reader = std::thread::spawn(move || read(&socket, &kept, &end));
        Ok(Self { name, packets, stop, reader: Some(reader) })
    }

    /// What has been seen so far.
    pub fn packets(&self) -> Vec<Packet> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a packet that `wanted` likes; also one that was seen before.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait(&self, what: &str, limit: Duration, wanted: impl Fn(&Packet) -> bool) -> anyhow::Result<Packet> {
        let mut seen = 0;
        wait::until(&format!("{what} ({})", self.name), limit, || {
            let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
            let found = packets[seen..].iter().find(|packet| wanted(packet)).cloned();
            seen = packets.len();
            Ok(found)
        })
    }

    /// Ends it and gives everything that was seen.
    ///
    /// # Errors
    /// If the kernel had to drop packets: then what is not seen proves nothing.
    pub fn stop(mut self) -> anyhow::Result<Vec<Packet>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("capture {} panicked", self.name))??;
        }
        Ok(std::mem::take(&mut *self.packets.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads until told to stop and nothing more is there.
fn read(socket: &PacketSocket, packets: &Mutex<Vec<Packet>>, stop: &AtomicBool) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        // Asked before reading: what had passed when the stop came is still read.
        let last = stop.load(Ordering::Relaxed);
        match socket.read(&mut buffer).context("read the capture")? {
            Some(length) if length > ETHERNET && buffer[12..ETHERNET] == [0x08, 0x00] => {
                if let Some(packet) = Packet::parse(start.elapsed(), &buffer[ETHERNET..length]) {
                    packets.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
                }
            }
            Some(_) => {}
            None if last => break,
            None => {}
        }
    }
    let dropped = socket.dropped().context("statistics of the capture")?;
    ensure!(dropped == 0, "the capture lost {dropped} packets");
    Ok(())
}

/// Writes packets as a pcap file (link type RAW, 101), times relative to the start of the capture.
///
/// # Errors
/// If the file cannot be written.
pub fn write_pcap(path: &Path, packets: &[Packet]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("{}", path.display()))?);
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101];
    let mut put = |words: &[u32], bytes: &[u8]| -> std::io::Result<()> {
        for word in words {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(bytes)
    };
    put(&header, &[]).context("pcap header")?;
    for packet in packets {
        let length = packet.bytes.len() as u32;
        let words = [packet.at.as_secs() as u32, packet.at.subsec_micros(), length, length];
        put(&words, &packet.bytes).context("pcap record")?;
    }
    file.flush().context("pcap file")
}
