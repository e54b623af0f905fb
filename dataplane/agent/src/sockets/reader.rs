//! Reads a tap in batches and hands over whole IPv4 packets, offloads undone, each with where it lies.

use std::io;
use std::sync::Arc;

use super::ring::{Frames, Held, Ring};
use super::segment::{self, Shape};
use super::sys::{BATCH, Frame, RxBatch};
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
    /// In the tap's ring.
    Ring {
        /// Which of the frames that were read.
        slot: usize,
        /// Offset of the IPv4 header.
        start: usize,
        /// Bytes.
        length: usize,
    },
    /// In the batch that was read from the socket.
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
    /// Frames of a ring that were read last.
    frames: Option<Frames>,
    /// What could not be read so far.
    pub unreadable: Unreadable,
}

impl Default for Reader {
    fn default() -> Self {
        Self { batch: RxBatch::new(), frames: None, unreadable: Unreadable::default() }
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
        self.release();
        match tap.ring() {
            Some(ring) => self.read_ring(tap, ring, kept, &mut each),
            None => self.read_socket(tap, kept, &mut each),
        }
    }

    fn read_ring<T>(
        &mut self,
        tap: &Tap,
        ring: &Arc<Ring>,
        kept: &mut Vec<(Place, T)>,
        each: &mut impl FnMut(&mut [u8], &mut Vec<(Place, T)>) -> Option<T>,
    ) -> io::Result<usize> {
        let Some(mut frames) = ring.take() else {
            return tap.take_error().map(|()| 0);
        };
        let Self { batch, unreadable, .. } = self;
        // Frames that are too long for the ring.
        let mut long = 0;
        for slot in 0..frames.count() {
            match frames.frame(slot) {
                Some(Held::Frame(frame)) => {
                    unreadable.whole(frame, |start, length| Place::Ring { slot, start, length }, kept, each);
                }
                Some(Held::Beginning) => match batch.receive(tap.socket(), long..long + 1) {
                    Ok(1) => {
                        let place = |start, length| Place::Slot { slot: long, start, length };
                        match batch.frame(long) {
                            Some(frame) => unreadable.whole(frame, place, kept, each),
                            None => unreadable.truncated += 1,
                        }
                        long += 1;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => unreadable.offload += 1,
                    Ok(_) | Err(_) => unreadable.truncated += 1,
                },
                None => unreadable.truncated += 1,
            }
        }
        let count = frames.count();
        self.frames = Some(frames);
        Ok(count)
    }

    fn read_socket<T>(
        &mut self,
        tap: &Tap,
        kept: &mut Vec<(Place, T)>,
        each: &mut impl FnMut(&mut [u8], &mut Vec<(Place, T)>) -> Option<T>,
    ) -> io::Result<usize> {
        let n = match self.batch.receive(tap.socket(), 0..BATCH) {
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
            match self.batch.frame(slot) {
                Some(frame) => {
                    self.unreadable.whole(frame, |start, length| Place::Slot { slot, start, length }, kept, each);
                }
                None => self.unreadable.truncated += 1,
            }
        }
        Ok(n)
    }

    /// Gives the ring's frames of the last read back to the kernel: their bytes are gone.
    pub fn release(&mut self) {
        self.frames = None;
    }

    /// The bytes of a packet that was kept, until the next `read` or `release`.
    #[must_use]
    pub fn bytes<'a>(&'a self, place: &'a Place) -> &'a [u8] {
        match place {
            Place::Ring { slot, start, length } => {
                self.frames.as_ref().map(|frames| frames.bytes(*slot, *start, *length)).unwrap_or_default()
            }
            Place::Slot { slot, start, length } => self.batch.bytes(*slot, *start, *length),
            Place::Own(bytes) => bytes,
        }
    }
}

impl Unreadable {
    /// The packets of one frame, whole, or one count more.
    fn whole<T>(
        &mut self,
        frame: Frame<'_>,
        place: impl Fn(usize, usize) -> Place,
        kept: &mut Vec<(Place, T)>,
        each: &mut impl FnMut(&mut [u8], &mut Vec<(Place, T)>) -> Option<T>,
    ) {
        if frame.truncated {
            self.truncated += 1;
            return;
        }
        let start = frame.start + frame.network;
        let packet = &mut frame.bytes[frame.network..];
        match segment::complete(packet, frame.network, frame.offload) {
            Shape::Whole => {
                // Ethernet pads short frames; the packet ends where its header says. (A wrong header is the ALG's to see.)
                let said = packet.get(2..4).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                let length = if (20..=packet.len()).contains(&said) { said } else { packet.len() };
                if let Some(t) = each(&mut packet[..length], kept) {
                    kept.push((place(start, length), t));
                }
            }
            Shape::Merged(mss) => {
                let Some(segments) = segment::cut(packet, mss) else {
                    self.offload += 1;
                    return;
                };
                for mut segment in segments {
                    if let Some(t) = each(&mut segment, kept) {
                        kept.push((Place::Own(segment), t));
                    }
                }
            }
            Shape::Unusable => self.offload += 1,
        }
    }
}
