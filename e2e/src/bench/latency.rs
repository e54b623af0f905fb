//! How long a packet is under way when there are few: one way, both wake-ups included, by one clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};

use super::flood::{Frames, HEAD, Inner, Packet, open};
use super::site::{Direction, Site};
use crate::figures::percentile;
use crate::lab::packet_socket::PacketSocket;

/// Packets of one measurement.
const PACKETS: usize = 400;
/// Between two of them, beside what the timer adds.
const PAUSE: Duration = Duration::from_micros(200);

/// One-way times of one measurement, µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    /// Median.
    pub p50: f64,
    /// Of a hundred packets one is slower.
    pub p99: f64,
}

/// Sends the first of `frames` from the server now and then; how long until it is at the client as `wanted`.
///
/// # Errors
/// If most do not arrive, or a socket fails.
pub fn measure(site: &Site, frames: &Frames, wanted: Packet) -> anyhow::Result<Delay> {
    let (from, to) = site.ends(Direction::Down);
    // Nobody else there may answer them; the packet socket sees them before this rule does.
    super::flood::sink(to, &[wanted])?;
    let (epoch, ready, done) = (Instant::now(), AtomicBool::new(false), AtomicBool::new(false));
    let mut times = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| to.within(|| receive(epoch, wanted, &ready, &done))?);
        while !ready.load(Ordering::Acquire) && !receiver.is_finished() {
            std::thread::yield_now();
        }
        let sent = from.within(|| send(epoch, frames.first()));
        done.store(true, Ordering::Release);
        sent??;
        receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
    })?;
    ensure!(times.len() > PACKETS / 2, "{} of {PACKETS} packets arrived", times.len());
    times.sort_unstable();
    let us = |percent| percentile(&times, percent) as f64 / 1_000.0;
    Ok(Delay { p50: us(50), p99: us(99) })
}

/// Each with the time it was sent at behind its headers, ns since `epoch`.
fn send(epoch: Instant, mut frame: Vec<u8>) -> anyhow::Result<()> {
    let socket = open()?;
    for _ in 0..PACKETS {
        std::thread::sleep(PAUSE);
        let now = epoch.elapsed().as_nanos() as u64;
        frame[HEAD..HEAD + 8].copy_from_slice(&now.to_be_bytes());
        socket.send(&frame)?;
    }
    Ok(())
}

/// Times, ns.
fn receive(epoch: Instant, wanted: Packet, ready: &AtomicBool, done: &AtomicBool) -> anyhow::Result<Vec<u64>> {
    let socket = PacketSocket::open("eth0")?;
    ready.store(true, Ordering::Release);
    let (mut times, mut buffer) = (Vec::with_capacity(PACKETS), [0; 2048]);
    loop {
        match socket.read(&mut buffer)? {
            Some(length) => {
                let now = epoch.elapsed().as_nanos() as u64;
                times.extend(sent_at(&buffer[..length], wanted).map(|at| now.saturating_sub(at)));
            }
            // None for 50 ms.
            None if done.load(Ordering::Acquire) => return Ok(times),
            None => {}
        }
    }
}

/// When it was sent, if it is one of ours and translated.
fn sent_at(frame: &[u8], wanted: Packet) -> Option<u64> {
    let Inner::Gre { call_id } = wanted.inner else { return None };
    let ours = frame.get(23) == Some(&47)
        && frame.get(26..30)? == wanted.src.octets()
        && frame.get(30..34)? == wanted.dst.octets()
        && frame.get(40..42)? == call_id.to_be_bytes();
    let at = frame.get(HEAD..HEAD + 8)?;
    ours.then(|| at.iter().fold(0, |at, octet| at << 8 | u64::from(*octet)))
}
