//! The receive ring of a tap: frames that the kernel writes into memory it shares with us (packet_mmap, TPACKET_V2), read without
//! system calls.
//!
//! Version 2 and not 3: that one holds packets back until a block is full or its time is over (0.7 ms and more, measured).

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::sys::{BATCH, Frame, Offload, VNET_HEADER};
use crate::mapped::Mapped;

/// Bytes of a slot: its header, link layer and an IPv4 packet of the usual MTUs. What is longer (merged by an offload, jumbo) is read
/// from the socket.
const SLOT: usize = 2048;
/// Slots, 8 MiB in all: packets that may wait while the thread is busy elsewhere.
const SLOTS: usize = 4096;
/// Bytes the kernel allocates at once, a multiple of the page size.
const BLOCK: usize = 64 << 10;

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Mapped,
    /// Slot that the kernel fills next as far as we know.
    next: AtomicUsize,
    /// There are `Frames`.
    taken: AtomicBool,
}

// SAFETY: the mapping belongs to the ring alone; beyond the status words, which are atomic, its memory is touched through `Frames`
// only, of which there is one at a time (`taken`).
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Gives the socket a ring, before it is bound.
    ///
    /// # Errors
    /// Without memory (ENOMEM), or on a kernel without packet_mmap.
    pub(super) fn of(fd: &OwnedFd) -> io::Result<Self> {
        super::sys::set_packet_option(fd, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as i32)?;
        // Whole copies of what does not fit a slot, for recvmsg.
        super::sys::set_packet_option(fd, libc::PACKET_COPY_THRESH, 1)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (SLOTS * SLOT / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: SLOTS as u32,
        };
        super::sys::set_packet_option(fd, libc::PACKET_RX_RING, request)?;
        let memory = Mapped::of(fd, SLOTS * SLOT)?;
        Ok(Self { memory, next: AtomicUsize::new(0), taken: AtomicBool::new(false) })
    }

    /// Whether a frame is there; without a system call.
    pub(super) fn waits(&self) -> bool {
        self.status(self.next.load(Ordering::Relaxed)).load(Ordering::Acquire) & USER != 0
    }

    /// The frames that are there, a batch at most; `None` when there is none, or others are still held.
    pub(super) fn take(self: &Arc<Self>) -> Option<Frames> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let first = self.next.load(Ordering::Relaxed);
        let count = (0..BATCH).take_while(|i| self.status(first + i).load(Ordering::Acquire) & USER != 0).count();
        let frames = Frames { ring: Arc::clone(self), first, count };
        // Dropping none of them sets `taken` back.
        (count > 0).then_some(frames)
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the mapping has SLOTS slots.
        unsafe { self.memory.start().add(index % SLOTS * SLOT) }
    }

    /// tp_status, the first word of a slot (linux/if_packet.h).
    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: slots are aligned to 2,048 and live as long as the ring; kernel and we use this word only atomically.
        unsafe { AtomicU32::from_ptr(self.slot(index).as_ptr().cast()) }
    }
}

const USER: u32 = libc::TP_STATUS_USER;
const COPY: u32 = libc::TP_STATUS_COPY;

/// Frames that are ours until dropped.
#[derive(Debug)]
pub(super) struct Frames {
    ring: Arc<Ring>,
    first: usize,
    count: usize,
}

/// What a slot holds.
pub(super) enum Held<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// The beginning of one: all of it is to be read from the socket.
    Beginning,
}

impl Frames {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Slot `i` of them.
    fn slot(&self, i: usize) -> Option<NonNull<u8>> {
        (i < self.count).then(|| self.ring.slot(self.first + i))
    }

    /// What slot `i` of them holds; `None` if its lengths do not fit each other.
    pub(super) fn frame(&mut self, i: usize) -> Option<Held<'_>> {
        let slot = self.slot(i)?;
        // SAFETY: the slot is ours (its status says so), as long as SLOT, and begins with this header. The status word is read
        // by value here; nobody writes it while the slot is ours.
        let header = unsafe { slot.as_ptr().cast::<libc::tpacket2_hdr>().read() };
        if header.tp_status & COPY != 0 {
            return Some(Held::Beginning);
        }
        let (start, network) = (usize::from(header.tp_mac), usize::from(header.tp_net));
        let (length, whole) = (header.tp_snaplen as usize, header.tp_len as usize);
        let network = network.checked_sub(start)?;
        // SAFETY: as above; `&mut self` keeps a second reference away, and `bytes` borrows `self` too. The header's own bytes are
        // not in the part that is used below.
        let slot = unsafe { std::slice::from_raw_parts_mut(slot.as_ptr(), SLOT) };
        let (before, bytes) = slot.get_mut(..start + length)?.split_at_mut_checked(start)?;
        let offload = Offload::read(before.last_chunk::<VNET_HEADER>()?);
        let frame = Frame { offload, network, truncated: length < whole, start, bytes };
        (frame.network <= frame.bytes.len()).then_some(Held::Frame(frame))
    }

    /// `length` bytes from `start` in slot `i` of them.
    pub(super) fn bytes(&self, i: usize, start: usize, length: usize) -> &[u8] {
        let Some(slot) = self.slot(i) else { return &[] };
        // SAFETY: the slot is ours and as long as SLOT; it is changed only through `&mut self`.
        let slot = unsafe { std::slice::from_raw_parts(slot.as_ptr(), SLOT) };
        slot.get(start..start + length).unwrap_or_default()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for i in 0..self.count {
            self.ring.status(self.first + i).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.ring.next.store((self.first + self.count) % SLOTS, Ordering::Relaxed);
        self.ring.taken.store(false, Ordering::Release);
    }
}
