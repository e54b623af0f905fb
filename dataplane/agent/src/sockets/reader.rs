//! Reads a tap in batches and hands over whole IPv4 packets, offloads undone, each with where it lies.

use std::io;

use super::segment::{self, Shape};
use super::sys::RxBatch;
use super::tap::Tap;

/// Frames that were not handed over, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Longer than any IPv4 packet, or cut off.
    pub truncated: u64,
    /// Merged by an offload that is not TCP over IPv4's.
    pub offload: u64,
}

/// Where a packet lies: in its slot of the batch until the next read, or by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the batch.
    Slot {
        /// Which slot.
        slot: usize,
        /// Offset of the IPv4 header.
        start: usize,
        /// Bytes.
        length: usize,
    },
    /// In memory of its own (cut out of a merged one, or made by the ALG).
    Own(Vec<u8>),
}

/// The buffers of the thread that reads taps; one serves all taps in turn.
pub struct Reader {
    batch: RxBatch,
    /// What could not be read so far.
    pub unreadable: Unreadable,
}

impl Default for Reader {
    fn default() -> Self {
        Self { batch: RxBatch::new(), unreadable: Unreadable::default() }
    }
}

impl Reader {
    /// Reads at most one batch from `tap` without waiting and calls `each` for every packet: it may rewrite it in place, and
    /// says with `true` that the packet is kept: then its place is pushed to `kept`. Returns the number of frames, 0 when
    /// none waits.
    ///
    /// # Errors
    /// What recvmmsg gives, apart from EAGAIN and EINTR; ENETDOWN once when the interface goes down.
    pub fn read<T>(
        &mut self,
        tap: &Tap,
        kept: &mut Vec<(Place, T)>,
        mut each: impl FnMut(&mut [u8], &mut Vec<(Place, T)>) -> Option<T>,
    ) -> io::Result<usize> {
        let n = match self.batch.receive(tap.socket()) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(0),
            // The frame's offload has no virtio_net_hdr form; the kernel has dropped it and goes on with the next.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                self.unreadable.offload += 1;
                return Ok(1);
            }
            Err(e) => return Err(e),
        };
        for slot in 0..n {
            let Some(frame) = self.batch.frame(slot) else {
                self.unreadable.truncated += 1;
                continue;
            };
            if frame.truncated {
                self.unreadable.truncated += 1;
                continue;
            }
            let start = frame.start + frame.network;
            let packet = &mut frame.bytes[frame.network..];
            match segment::complete(packet, frame.network, frame.offload) {
                Shape::Whole => {
                    // Ethernet pads short frames; the packet ends where its header says. (A wrong header is the ALG's to see.)
                    let said = packet.get(2..4).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                    let length = if (20..=packet.len()).contains(&said) { said } else { packet.len() };
                    if let Some(t) = each(&mut packet[..length], kept) {
                        kept.push((Place::Slot { slot, start, length }, t));
                    }
                }
                Shape::Merged(mss) => {
                    let Some(segments) = segment::cut(packet, mss) else {
                        self.unreadable.offload += 1;
                        continue;
                    };
                    for mut segment in segments {
                        if let Some(t) = each(&mut segment, kept) {
                            kept.push((Place::Own(segment), t));
                        }
                    }
                }
                Shape::Unusable => self.unreadable.offload += 1,
            }
        }
        Ok(n)
    }

    /// The bytes of a packet that was kept, until the next `read`.
    #[must_use]
    pub fn bytes<'a>(&'a self, place: &'a Place) -> &'a [u8] {
        match place {
            Place::Slot { slot, start, length } => self.batch.bytes(*slot, *start, *length),
            Place::Own(bytes) => bytes,
        }
    }
}
