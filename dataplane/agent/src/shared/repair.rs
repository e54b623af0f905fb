//! TCP_REPAIR: takes a living connection out of the kernel and puts it back, without a word to the other end. The only unsafe code of
//! the shared mode.
//!
//! ```text
//!  hush (a filter drops what comes) ─► lift: numbers, queues, window, options ─► the socket is closed, silently
//!  set_down: a new socket with all of it, still hushed ─► release: it acknowledges what it has, and hears again
//! ```

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

use libc::{c_int, c_void};
use serde::{Deserialize, Serialize};
use socket2::{SockFilter, Socket};

use super::pieces::pieces;
use super::socket;

/// linux/tcp.h: what TCP_REPAIR_QUEUE can be.
const RECEIVE: c_int = 1;
const SEND: c_int = 2;
/// linux/tcp.h: TCP_REPAIR's values. With `OFF` a window probe is sent: it acknowledges, and is answered.
const ON: c_int = 1;
const OFF: c_int = 0;
const OFF_SILENTLY: c_int = -1;
/// linux/tcp.h: tcpi_options.
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const SCALES: u8 = 4;
/// TCP_ESTABLISHED of tcpi_state.
const ESTABLISHED: u8 = 1;
/// Option kinds of TCP (RFC 9293, 7323, 2018), as TCP_REPAIR_OPTIONS takes them.
const KIND_MSS: u32 = 2;
const KIND_SCALES: u32 = 3;
const KIND_SACK: u32 = 4;
const KIND_TIMESTAMPS: u32 = 8;
/// What a segment takes of a socket's buffer besides its octets: less than 1 KiB was seen, and some room to spare.
const SEGMENT: usize = 2048;

/// struct tcp_repair_window of linux/tcp.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    snd_wl1: u32,
    snd_wnd: u32,
    max_window: u32,
    rcv_wnd: u32,
    rcv_wup: u32,
}

/// A connection without a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lifted {
    local: SocketAddrV4,
    remote: SocketAddrV4,
    /// The number of the next octet, each way.
    send_next: u32,
    receive_next: u32,
    /// Not acknowledged; its last `unsent` octets were never sent.
    send: Vec<u8>,
    unsent: usize,
    /// Not read.
    receive: Vec<u8>,
    window: Window,
    mss: u32,
    /// Window scales: of what the other end says, and of what we say.
    scales: Option<(u8, u8)>,
    sack: bool,
    timestamp: Option<u32>,
}

/// A connection that has a socket again and says and hears nothing yet.
#[derive(Debug)]
pub(super) struct Hushed {
    socket: Socket,
    unsent: Vec<Vec<u8>>,
}

/// A connection that says and hears again, and what its socket has not taken of what the one before had.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) socket: Socket,
    pub(super) left: Vec<Vec<u8>>,
}

/// From now on the kernel drops what comes for it, without an answer.
pub(super) fn hush(socket: &Socket) -> io::Result<()> {
    // BPF_RET | BPF_K with 0: nothing of the packet.
    socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])
}

/// Takes the connection of a hushed socket out of the kernel. The socket is dead from now on; closing it says nothing.
pub(super) fn lift(socket: &Socket) -> io::Result<Lifted> {
    set(socket, libc::TCP_REPAIR, &ON)?;
    lift_repaired(socket).inspect_err(|_| {
        // So that it ends with a word.
        let _ = set(socket, libc::TCP_REPAIR, &OFF_SILENTLY);
    })
}

/// What `lift` did is taken back, for a socket that could not be handed on.
pub(super) fn unlift(socket: &Socket) {
    let _ = set(socket, libc::TCP_REPAIR, &OFF_SILENTLY);
}

fn lift_repaired(socket: &Socket) -> io::Result<Lifted> {
    let info: libc::tcp_info = get(socket, libc::TCP_INFO)?;
    if info.tcpi_state != ESTABLISHED {
        return Err(io::Error::other("one end has closed it"));
    }
    let ends = (socket.local_addr()?.as_socket_ipv4(), socket.peer_addr()?.as_socket_ipv4());
    let (Some(local), Some(remote)) = ends else { return Err(io::Error::other("it is not IPv4")) };
    let has = |bit| info.tcpi_options & bit != 0;
    let (receive_next, receive) = queue(socket, RECEIVE, pending(socket, libc::FIONREAD)?)?;
    let (send_next, send) = queue(socket, SEND, pending(socket, libc::TIOCOUTQ)?)?;
    let lifted = Lifted {
        local,
        remote,
        send_next,
        receive_next,
        unsent: pending(socket, libc::SIOCOUTQNSD)?,
        send,
        receive,
        window: get(socket, libc::TCP_REPAIR_WINDOW)?,
        mss: get(socket, libc::TCP_MAXSEG)?,
        scales: has(SCALES).then_some((info.tcpi_snd_rcv_wscale & 15, info.tcpi_snd_rcv_wscale >> 4)),
        sack: has(SACK),
        timestamp: if has(TIMESTAMPS) { Some(get(socket, libc::TCP_TIMESTAMP)?) } else { None },
    };
    Ok(lifted)
}

/// Gives the connection a socket again. `age`: how long it had none, ms. Where that cannot be the other end hears RST.
pub(super) fn set_down(lifted: &Lifted, mark: u32, age: u64) -> io::Result<Hushed> {
    put(lifted, mark, age).inspect_err(|_| {
        // The socket that failed was closed in silence: with less in its queue than was sent, its RST would be out of place.
        if let Ok(bare) = put(&lifted.without_queues(), mark, age) {
            bare.reset();
        }
    })
}

fn put(lifted: &Lifted, mark: u32, age: u64) -> io::Result<Hushed> {
    let socket = socket::prepared(mark)?;
    hush(&socket)?;
    set(&socket, libc::TCP_REPAIR, &ON)?;
    begin(&socket, RECEIVE, lifted.receive_next, lifted.receive.len())?;
    begin(&socket, SEND, lifted.send_next, lifted.send.len())?;
    socket.bind(&lifted.local.into())?;
    socket.connect(&lifted.remote.into())?;
    options(&socket, lifted)?;
    if let Some(timestamp) = lifted.timestamp {
        set(&socket, libc::TCP_TIMESTAMP, &later(timestamp, age))?;
    }
    let cut = pieces(&lifted.send, lifted.unsent);
    let needed = lifted.send.len() + cut.len() * SEGMENT;
    if needed > socket.send_buffer_size()? {
        // The kernel doubles it.
        set_at(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &c_int::try_from(needed).unwrap_or(c_int::MAX))?;
    }
    set(&socket, libc::TCP_REPAIR_QUEUE, &RECEIVE)?;
    write(&socket, &lifted.receive)?;
    set(&socket, libc::TCP_REPAIR_QUEUE, &SEND)?;
    let border = lifted.send.len().saturating_sub(lifted.unsent);
    let (mut at, mut unsent) = (0, Vec::new());
    for piece in cut {
        // What was never sent is given to the living socket.
        if at < border {
            write(&socket, piece)?
        } else {
            unsent.push(piece.to_vec())
        }
        at += piece.len();
    }
    set(&socket, libc::TCP_REPAIR_WINDOW, &lifted.window)?;
    Ok(Hushed { socket, unsent })
}

impl Lifted {
    /// Ours and the other one.
    pub(super) fn ends(&self) -> (SocketAddrV4, SocketAddrV4) {
        (self.local, self.remote)
    }

    /// Where sending had stopped and reading would go on, and nothing of what is between.
    fn without_queues(&self) -> Self {
        let send_next = self.send_next.wrapping_sub(self.unsent as u32);
        Self { send_next, unsent: 0, send: Vec::new(), receive: Vec::new(), ..self.clone() }
    }
}

impl Hushed {
    /// Says that it is there, and hears again. Where that cannot be the other end hears RST.
    pub(super) fn release(self) -> io::Result<Released> {
        let Self { socket, unsent } = self;
        match speak(&socket, unsent) {
            Ok(left) => Ok(Released { socket, left }),
            Err(error) => {
                unlift(&socket);
                Err(error)
            }
        }
    }

    /// Ends it by RST.
    pub(super) fn reset(self) {
        unlift(&self.socket);
    }
}

/// What it has not taken of `unsent`.
fn speak(socket: &Socket, unsent: Vec<Vec<u8>>) -> io::Result<Vec<Vec<u8>>> {
    socket.detach_filter()?;
    set(socket, libc::TCP_REPAIR, &OFF)?;
    // TCP_REPAIR has forbidden what it had allowed for itself.
    socket.set_reuse_address(true)?;
    let mut left = VecDeque::from(unsent);
    while let Some(piece) = left.front_mut() {
        match send(socket, piece) {
            Ok(taken) if taken == piece.len() => drop(left.pop_front()),
            Ok(taken) => drop(piece.drain(..taken)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(left.into())
}

fn options(socket: &Socket, lifted: &Lifted) -> io::Result<()> {
    let put = |kind: u32, value: u32| set(socket, libc::TCP_REPAIR_OPTIONS, &[kind, value]);
    put(KIND_MSS, lifted.mss)?;
    if let Some((theirs, ours)) = lifted.scales {
        put(KIND_SCALES, u32::from(theirs) | u32::from(ours) << 16)?;
    }
    if lifted.sack {
        put(KIND_SACK, 0)?;
    }
    if lifted.timestamp.is_some() {
        put(KIND_TIMESTAMPS, 0)?;
    }
    Ok(())
}

/// The clock of a connection's timestamps after `age` ms; never behind what was said last. It counts milliseconds, but for the lowest
/// bit: on kernels from 6.7 it says that the clock counts microseconds instead, and the value had been rounded down.
fn later(timestamp: u32, age: u64) -> u32 {
    let (unit, rounded) = if timestamp & 1 == 0 { (1, 2) } else { (1_000, 0) };
    let elapsed = age.saturating_mul(unit).saturating_add(rounded);
    timestamp.wrapping_add(u32::try_from(elapsed).unwrap_or(0) & !1)
}

/// The number behind the last octet of a queue, and its octets.
fn queue(socket: &Socket, which: c_int, length: usize) -> io::Result<(u32, Vec<u8>)> {
    set(socket, libc::TCP_REPAIR_QUEUE, &which)?;
    let next = get(socket, libc::TCP_QUEUE_SEQ)?;
    let mut octets = vec![0; length];
    let read = if length == 0 { 0 } else { peek(socket, &mut octets)? };
    if read != length {
        return Err(io::Error::other(format!("of {length} octets {read} could be read")));
    }
    Ok((next, octets))
}

/// A queue of so many octets that ends before `next` begins here.
fn begin(socket: &Socket, which: c_int, next: u32, length: usize) -> io::Result<()> {
    set(socket, libc::TCP_REPAIR_QUEUE, &which)?;
    set(socket, libc::TCP_QUEUE_SEQ, &next.wrapping_sub(length as u32))
}

fn write(socket: &Socket, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        let taken = send(socket, octets)?;
        octets = octets.get(taken..).unwrap_or_default();
    }
    Ok(())
}

fn send(socket: &Socket, octets: &[u8]) -> io::Result<usize> {
    socket.send_with_flags(octets, libc::MSG_EOR | libc::MSG_NOSIGNAL)
}

fn peek(socket: &Socket, octets: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes no more than that many octets to the buffer, which is ours alone and initialised.
    let read = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            octets.as_mut_ptr().cast::<c_void>(),
            octets.len(),
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Octets in a queue, by an ioctl that answers with an int.
fn pending(socket: &Socket, which: libc::Ioctl) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: the ioctls named above write one int to where they are told.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), which, &raw mut count) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(count).map_err(io::Error::other)
}

fn set<T: Copy>(socket: &Socket, option: c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::IPPROTO_TCP, option, value)
}

fn set_at<T: Copy>(socket: &Socket, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value).cast::<c_void>(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `length` octets, which are those of `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T: Plain>(socket: &Socket, option: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` octets, which is the size of `value`.
    let result = unsafe {
        let to = value.as_mut_ptr().cast::<c_void>();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, to, &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: any octets are a value of a `Plain` type, and those the kernel has not written are zero.
    Ok(unsafe { value.assume_init() })
}

/// What may be read from the kernel octet by octet.
///
/// # Safety
/// Any octets are a value of it.
unsafe trait Plain: Copy {}

// SAFETY: any four octets are one.
unsafe impl Plain for u32 {}
// SAFETY: `repr(C)`, five numbers of four octets and nothing between them.
unsafe impl Plain for Window {}
// SAFETY: `repr(C)`, numbers only; what is between them is never looked at.
unsafe impl Plain for libc::tcp_info {}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
