//! Scripted control connections: as many calls as wanted, each on a connection of its own, one after the other or several at a time.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use callgate_pptp::wire::control::{field12, field14};
use socket2::{Domain, Socket, Type};

use super::site::{CLIENT, SERVERS};
use crate::lab::control::{call_reply, message, start_reply, start_request};
use crate::lab::node::Node;
use crate::lab::packet_socket::set_int;
use crate::lab::signals;

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Whom it is to.
    pub server: Ipv4Addr,
    /// The PNS's Call ID as the client chose it.
    pub client: u16,
    /// As the server knows it.
    pub outside: u16,
    /// The PAC's.
    pub pac: u16,
}

/// Calls of one server: each needs an external port of its own.
const OF_A_SERVER: usize = 20_000;

/// The Call Serial Number of an Outgoing-Call-Request (RFC 2637 section 2.7): nobody on the way changes it.
const SERIAL: usize = 14;

/// Calls (number, translated Call ID) and sockets.
type Answered = (Vec<(u16, u16)>, VecDeque<TcpStream>);

/// Sockets that a server keeps after their calls are up.
const KEPT: usize = 24;

/// The first call may wait until the fast path is on its links.
const LINGER: Duration = Duration::from_millis(100);

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// Closes a socket without a word to its peer: tens of thousands of calls need more sockets than a process may have, and a call
/// lives on as long as nobody sends FIN or RST (see `hush`).
fn vanish(socket: TcpStream) -> anyhow::Result<()> {
    set_int(&socket, libc::SOL_TCP, libc::TCP_REPAIR, 1).context("TCP_REPAIR")
}

/// From now on what is sent to a vanished socket here is not answered. After a pause of a few hundred milliseconds on the way the kernel
/// sends a segment again that has arrived meanwhile, and the RST it would get ends the call.
///
/// # Errors
/// If nft refuses it.
pub fn hush(at: &Node) -> anyhow::Result<()> {
    at.nft(
        "table ip vanished {
            chain out {
                type filter hook output priority 0;
                tcp flags rst drop
            }
        }",
    )
}

/// Sets up the calls with these numbers, `width` of them at a time, and how long that took. Both ends' own Call IDs of each are
/// its number. Both ends are hushed.
///
/// # Errors
/// If one is not answered as it should be.
pub fn set_up(
    client: &Node,
    server: &Node,
    numbers: Range<usize>,
    width: usize,
) -> anyhow::Result<(Vec<Id>, Duration)> {
    let (mut ids, mut took) = (Vec::with_capacity(numbers.len()), Duration::ZERO);
    for (address, first) in SERVERS.into_iter().zip((0..).step_by(OF_A_SERVER)) {
        let part = numbers.start.max(first)..numbers.end.min(first + OF_A_SERVER);
        if part.is_empty() {
            continue;
        }
        let listener = server.within(|| TcpListener::bind((address, 1723)))?.context("listen on 1723")?;
        let begun = Instant::now();
        let (mut answered, last) = at_a_time(client, &listener, address, part, width)?;
        took += begun.elapsed();
        std::thread::sleep(LINGER);
        last.into_iter().try_for_each(vanish)?;
        answered.sort_unstable();
        let id = |(number, outside)| Id { server: address, client: number, outside, pac: number };
        ids.extend(answered.into_iter().map(id));
    }
    Ok((ids, took))
}

/// Number and translated Call ID of each, and the servers' ends of the last ones.
fn at_a_time(
    client: &Node,
    listener: &TcpListener,
    server: Ipv4Addr,
    numbers: Range<usize>,
    width: usize,
) -> anyhow::Result<Answered> {
    let (next, left) = (AtomicUsize::new(numbers.start), AtomicUsize::new(numbers.len()));
    let take = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number < numbers.end && !signals::asked_to_end()).then_some(number as u16)
    };
    let expect = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    std::thread::scope(|scope| {
        let answering: Vec<_> = (0..width).map(|_| scope.spawn(|| answer(listener, &expect))).collect();
        let asking: Vec<_> = (0..width).map(|_| scope.spawn(|| client.within(|| ask(server, &take))?)).collect();
        let mut asked = Ok(());
        for thread in asking {
            asked = asked.and(thread.join().map_err(|_| anyhow!("a scripted client panicked"))?);
        }
        if asked.is_err() || signals::asked_to_end() {
            // Servers wait for clients that do not come any more.
            // SAFETY: shutdown takes two integers; on a listening socket it ends accept(2) with EINVAL.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        let (mut all, mut last, mut answered) = (Vec::new(), VecDeque::new(), Ok(()));
        for thread in answering {
            match thread.join().map_err(|_| anyhow!("a scripted server panicked"))? {
                Ok((ids, sockets)) => {
                    all.extend(ids);
                    last.extend(sockets);
                }
                Err(error) => answered = Err(error),
            }
        }
        asked.and(answered)?;
        ensure!(all.len() == numbers.len(), "{} of {} calls were set up", all.len(), numbers.len());
        Ok((all, last))
    })
}

fn ask(server: Ipv4Addr, take: &dyn Fn() -> Option<u16>) -> anyhow::Result<()> {
    while let Some(number) = take() {
        // A port of its own for each: the kernel takes those of vanished sockets for free.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(CLIENT, 10_000 + number % OF_A_SERVER as u16).into())?;
        socket.connect(&SocketAddrV4::new(server, 1723).into()).with_context(|| format!("call {number}: connect"))?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(&start_request())?;
        let mut reply = [0; 156];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: SCCRP"))?;
        socket.write_all(&message(7, 168, &[(12, &number.to_be_bytes()), (SERIAL, &number.to_be_bytes())]))?;
        // The reply is acknowledged at once: after 300 s with unacknowledged data conntrack gives a connection up, and the kernel's
        // ALG its calls.
        set_int(&socket, libc::SOL_TCP, libc::TCP_QUICKACK, 1).context("TCP_QUICKACK")?;
        let mut reply = [0; 32];
        socket.read_exact(&mut reply).with_context(|| format!("call {number}: OCRP"))?;
        ensure!(field14(&reply) == number && reply[16] == 1, "call {number}: refused, or another's: {reply:?}");
        set_int(&socket, libc::SOL_TCP, libc::TCP_QUICKACK, 1).context("TCP_QUICKACK")?;
        vanish(socket)?;
    }
    Ok(())
}

fn answer(listener: &TcpListener, expect: &dyn Fn() -> bool) -> anyhow::Result<Answered> {
    let (mut ids, mut last) = (Vec::new(), VecDeque::new());
    while expect() {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut request = [0; 156];
        socket.read_exact(&mut request)?;
        socket.write_all(&start_reply())?;
        let mut request = [0; 168];
        socket.read_exact(&mut request)?;
        let (id, number) = (field12(&request), field14(&request));
        socket.write_all(&call_reply(number, id))?;
        ids.push((number, id));
        // What the gateway has not passed on yet is sent again by the socket.
        last.push_back(socket);
        if last.len() > KEPT {
            last.pop_front().map_or(Ok(()), vanish)?;
        }
    }
    Ok((ids, last))
}
