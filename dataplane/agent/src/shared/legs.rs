//! The sockets: reads what comes, writes one message after the other, closes behind the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

use callgate_pptp::shared::{ConnectError, Gone, Leg, UpstreamId};
use callgate_pptp::{Flow, Now};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::Socket;

use super::ends::{End, Outer};
use super::handover::Kept;
use super::leaving::Leaving;
use super::outbox::Outbox;
use super::repair::Released;
use super::{repair, socket};
use crate::nft::sockets::LISTENER;

/// Octets read from one leg before the others have their turn: a server speaks for many, a client for itself.
const SERVERS_TURN: usize = 16 * 1024;
const CLIENTS_TURN: usize = 2 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// Descriptors left to everything else in the process.
const RESERVE: u64 = 256;
/// How long a leg that is told to close has to take what was written to it and to close too, ms.
const FAREWELL: u64 = 10_000;

/// What has happened on a socket.
#[derive(Debug)]
pub(super) enum Heard {
    /// A client's connection is there; it has no leg yet.
    Accepted(Flow, Socket),
    /// TCP to a server is up.
    Connected(UpstreamId),
    /// TCP to a server did not come about.
    Failed(UpstreamId, ConnectError),
    /// The server has refused TCP from here: there is no socket any more, and the server has nothing of it.
    Refused(Outer),
    /// Octets.
    Bytes(Leg, Vec<u8>),
    /// The other end has closed or reset it.
    Gone(Leg, Gone),
    /// The kernel has taken so many octets.
    Written(Leg, usize),
    /// There is no socket for it any more.
    Over(End),
}

/// A connection to a server was not begun, and why.
#[derive(Debug)]
pub(super) struct NotBegun {
    pub(super) error: io::Error,
    /// Its SYN may be under way all the same.
    pub(super) sent: bool,
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// The core's, under this name.
    Core(Leg),
    /// Told to close, and forgotten by the core: reset if it is not closed by then. `shut`: FIN is said, behind all that waited.
    Closing { until: Now, shut: bool },
}

/// One connection.
#[derive(Debug)]
struct Line {
    owner: Owner,
    end: End,
    socket: Socket,
    connecting: bool,
    /// The other end has said FIN.
    finished: bool,
    outbox: Outbox,
    /// What the kernel was last told to look for.
    interest: EpollFlags,
}

impl Line {
    /// What the core knows it as, if it still does.
    fn leg(&self) -> Option<Leg> {
        match self.owner {
            Owner::Core(leg) => Some(leg),
            Owner::Closing { .. } => None,
        }
    }
}

/// All sockets.
pub(super) struct Legs {
    epoll: Epoll,
    mark: u32,
    /// Most connections, by the descriptors the process may have.
    room: usize,
    next: u64,
    lines: BTreeMap<u64, Line>,
    by_leg: HashMap<Leg, u64>,
    listeners: BTreeMap<u64, Socket>,
    ports: BTreeSet<u16>,
    leaving: Leaving,
}

impl Legs {
    /// None yet; `mark` is the packet mark of all.
    ///
    /// # Errors
    /// When the kernel has no descriptor to spare.
    pub(super) fn new(mark: u32) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            mark,
            room: room(),
            next: 1,
            lines: BTreeMap::new(),
            by_leg: HashMap::new(),
            listeners: BTreeMap::new(),
            ports: BTreeSet::new(),
            leaving: Leaving::default(),
        })
    }

    /// Readable when a socket has something to tell.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Accepts connections to servers' port `port` from now on.
    ///
    /// # Errors
    /// EADDRINUSE when somebody on this host listens on that port of all addresses.
    pub(super) fn listen(&mut self, port: u16) -> io::Result<()> {
        if self.ports.contains(&port) {
            return Ok(());
        }
        let listener = socket::listen(SocketAddrV4::new(LISTENER, port), self.mark)?;
        let token = self.token();
        self.epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.listeners.insert(token, listener);
        self.ports.insert(port);
        Ok(())
    }

    /// How many connections there may be, when there is no room for so many more.
    pub(super) fn full(&self, more: usize) -> Option<u32> {
        (self.lines.len() + more > self.room).then(|| u32::try_from(self.room).unwrap_or(u32::MAX))
    }

    /// Begins a connection to a server.
    ///
    /// # Errors
    /// What bind and connect give, or when the kernel cannot look after it.
    pub(super) fn connect(&mut self, upstream: UpstreamId, outer: Outer) -> Result<(), NotBegun> {
        let not = |sent| move |error| NotBegun { error, sent };
        let socket = socket::connect(outer.external, outer.server, self.mark).map_err(not(false))?;
        self.put(Leg::Upstream(upstream), End::Server(outer), socket, true).map_err(not(true))
    }

    /// An accepted connection is this leg's.
    ///
    /// # Errors
    /// When the kernel cannot look after it.
    pub(super) fn adopt(&mut self, leg: Leg, end: End, socket: Socket) -> io::Result<()> {
        self.put(leg, end, socket, false)
    }

    fn put(&mut self, leg: Leg, end: End, socket: Socket, connecting: bool) -> io::Result<()> {
        let token = self.token();
        let interest = if connecting { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        self.epoll.add(&socket, EpollEvent::new(interest, token))?;
        let line = Line {
            owner: Owner::Core(leg),
            end,
            socket,
            connecting,
            finished: false,
            outbox: Outbox::default(),
            interest,
        };
        self.lines.insert(token, line);
        self.by_leg.insert(leg, token);
        Ok(())
    }

    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The server's leg as the server sees it.
    pub(super) fn outer(&self, upstream: UpstreamId) -> Option<Outer> {
        match self.lines.get(self.by_leg.get(&Leg::Upstream(upstream))?)?.end {
            End::Server(outer) => Some(outer),
            End::Client(_) => None,
        }
    }

    /// Writes one message, behind those that wait.
    pub(super) fn write(&mut self, leg: Leg, message: Vec<u8>, heard: &mut Vec<Heard>) {
        let Some(&token) = self.by_leg.get(&leg) else { return };
        if let Some(line) = self.lines.get_mut(&token) {
            line.outbox.push(message);
        }
        self.push(token, heard);
    }

    /// Closes behind what is to be written; the core has forgotten it.
    pub(super) fn close(&mut self, leg: Leg, now: Now, heard: &mut Vec<Heard>) {
        let Some(token) = self.by_leg.remove(&leg) else { return };
        let Some(line) = self.lines.get_mut(&token) else { return };
        let (client, until) = (line.end.client(), now.after(FAREWELL));
        line.owner = Owner::Closing { until, shut: false };
        self.leaving.add(token, client, until);
        self.push(token, heard);
        if let Some(oldest) = client.and_then(|client| self.leaving.too_many(client)) {
            self.drop_line(oldest, heard);
        }
    }

    /// Resets it; the core has forgotten it.
    pub(super) fn reset(&mut self, leg: Leg, heard: &mut Vec<Heard>) {
        if let Some(token) = self.by_leg.remove(&leg) {
            self.drop_line(token, heard);
        }
    }

    /// Accepts what has come, and nothing more from now on.
    pub(super) fn accept_no_more(&mut self, heard: &mut Vec<Heard>) {
        self.listeners.values().for_each(|listener| accept(listener, heard));
        self.listeners.clear();
        self.ports.clear();
    }

    /// From now on the kernel drops what comes for any leg, without an answer: its other end sends it again.
    pub(super) fn hush(&mut self) {
        for line in self.lines.values().filter(|line| line.leg().is_some()) {
            if let Err(error) = repair::hush(&line.socket) {
                tracing::warn!(connection = ?line.end, "what comes for it cannot be held up: {error}");
            }
        }
    }

    /// Takes every leg out of the kernel. The sockets are dead; when they are closed nothing is said. What could not be kept, or is
    /// not the core's any more, is over.
    pub(super) fn lift(&mut self, heard: &mut Vec<Heard>) -> Vec<(Kept, Socket)> {
        let mut kept = Vec::new();
        let tokens: Vec<u64> = self.lines.keys().copied().collect();
        for token in tokens {
            let Some(line) = self.lines.get(&token) else { continue };
            let leg = match line.owner {
                Owner::Core(leg) => leg,
                Owner::Closing { shut, .. } => {
                    // The kernel says the last words by itself, if they are all written.
                    let _ = line.socket.detach_filter();
                    if shut {
                        self.done(token, heard)
                    } else {
                        self.drop_line(token, heard)
                    }
                    continue;
                }
            };
            let lifted = if line.connecting { None } else { Some(repair::lift(&line.socket)) };
            match lifted {
                Some(Ok(tcp)) => {
                    self.by_leg.remove(&leg);
                    if let Some(Line { end, socket, outbox, .. }) = self.lines.remove(&token) {
                        kept.push((Kept { leg, end, tcp, outbox }, socket));
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(connection = ?line.end, "it cannot be handed over and is reset: {error}");
                    self.drop_line(token, heard);
                }
                None => self.drop_line(token, heard),
            }
        }
        kept
    }

    /// A connection that was lifted has a socket again.
    ///
    /// # Errors
    /// When the kernel cannot look after it.
    pub(super) fn put_back(&mut self, mut kept: Kept, released: Released, heard: &mut Vec<Heard>) -> io::Result<()> {
        let Released { socket, left } = released;
        kept.outbox.put_in_front(left);
        self.put(kept.leg, kept.end, socket, false)?;
        let Some(&token) = self.by_leg.get(&kept.leg) else { return Ok(()) };
        if let Some(line) = self.lines.get_mut(&token) {
            line.outbox = kept.outbox;
        }
        self.push(token, heard);
        Ok(())
    }

    /// The next time `expire` has something to do.
    pub(super) fn next(&self) -> Option<Now> {
        self.leaving.next()
    }

    /// Resets what has not closed in time.
    pub(super) fn expire(&mut self, now: Now, heard: &mut Vec<Heard>) {
        for token in self.leaving.late(now) {
            self.drop_line(token, heard);
        }
    }

    /// What the kernel has to tell.
    pub(super) fn hear(&mut self, heard: &mut Vec<Heard>) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::ZERO) else { return };
        for event in events.iter().take(count) {
            let token = event.data();
            if let Some(listener) = self.listeners.get(&token) {
                accept(listener, heard);
                continue;
            }
            let Some(line) = self.lines.get_mut(&token) else { continue };
            if line.connecting {
                self.connected(token, heard);
                continue;
            }
            let flags = event.events();
            if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
                self.read(token, heard);
            }
            if flags.contains(EpollFlags::EPOLLOUT) {
                self.push(token, heard);
            }
        }
    }

    fn connected(&mut self, token: u64, heard: &mut Vec<Heard>) {
        let Some(line) = self.lines.get_mut(&token) else { return };
        let Some(Leg::Upstream(upstream)) = line.leg() else { return self.drop_line(token, heard) };
        match line.socket.take_error() {
            Ok(None) => {
                line.connecting = false;
                heard.push(Heard::Connected(upstream));
                self.look_for(token);
            }
            Ok(Some(error)) | Err(error) => {
                match self.take_line(token) {
                    Some(End::Server(outer)) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                        heard.push(Heard::Refused(outer));
                    }
                    Some(end) => heard.push(Heard::Over(end)),
                    None => {}
                }
                heard.push(Heard::Failed(upstream, socket::connect_error(&error)));
            }
        }
    }

    fn read(&mut self, token: u64, heard: &mut Vec<Heard>) {
        let mut room = [0; 4096];
        let mut bytes = Vec::new();
        let mut end = None;
        let Some(line) = self.lines.get_mut(&token) else { return };
        let turn = match line.end {
            End::Client(_) => CLIENTS_TURN,
            End::Server(_) => SERVERS_TURN,
        };
        while bytes.len() < turn && end.is_none() {
            let most = room.len().min(turn - bytes.len());
            match (&line.socket).read(&mut room[..most]) {
                Ok(0) => end = Some(Gone::Finished),
                Ok(n) => bytes.extend_from_slice(&room[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => end = Some(Gone::Reset),
            }
        }
        let leg = line.leg();
        if let (Some(leg), false) = (leg, bytes.is_empty()) {
            heard.push(Heard::Bytes(leg, bytes));
        }
        let Some(gone) = end else { return };
        if let (Some(leg), false) = (leg, line.finished) {
            heard.push(Heard::Gone(leg, gone));
        }
        line.finished = true;
        match gone {
            Gone::Reset => self.drop_line(token, heard),
            Gone::Finished if matches!(line.owner, Owner::Closing { shut: true, .. }) => self.done(token, heard),
            Gone::Finished => self.look_for(token),
        }
    }

    /// Writes what waits, as far as the kernel takes it; says FIN behind it where the leg is to be closed.
    fn push(&mut self, token: u64, heard: &mut Vec<Heard>) {
        let Some(line) = self.lines.get_mut(&token) else { return };
        let mut taken = 0;
        let mut broken = false;
        while let Some(rest) = line.outbox.next() {
            // MSG_EOR: the kernel joins no later message to this one, not even when it has to send it again.
            match line.socket.send_with_flags(rest, libc::MSG_EOR | libc::MSG_NOSIGNAL) {
                Ok(n) => {
                    taken += n;
                    line.outbox.took(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    broken = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if let (Some(leg), true) = (line.leg(), taken > 0) {
            heard.push(Heard::Written(leg, line.outbox.news(taken)));
        }
        if broken {
            // Reading tells why, and ends it.
            line.outbox.clear();
            return self.read(token, heard);
        }
        if let Owner::Closing { shut: shut @ false, .. } = &mut line.owner
            && line.outbox.is_empty()
        {
            *shut = true;
            if line.socket.shutdown(Shutdown::Write).is_err() || line.finished {
                return self.done(token, heard);
            }
        }
        self.look_for(token);
    }

    /// Both ends have said FIN: the kernel does the rest.
    fn done(&mut self, token: u64, heard: &mut Vec<Heard>) {
        if let Some(line) = self.lines.get(&token) {
            let _ = socket::undress(&line.socket);
        }
        self.drop_line(token, heard);
    }

    fn drop_line(&mut self, token: u64, heard: &mut Vec<Heard>) {
        heard.extend(self.take_line(token).map(Heard::Over));
    }

    fn take_line(&mut self, token: u64) -> Option<End> {
        let line = self.lines.remove(&token)?;
        match line.owner {
            Owner::Core(leg) => {
                self.by_leg.remove(&leg);
            }
            Owner::Closing { until, .. } => self.leaving.remove(token, line.end.client(), until),
        }
        Some(line.end)
    }

    fn look_for(&mut self, token: u64) {
        let Some(line) = self.lines.get_mut(&token) else { return };
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, !line.finished && !line.connecting);
        interest.set(EpollFlags::EPOLLOUT, line.connecting || !line.outbox.is_empty());
        if interest != line.interest && self.epoll.modify(&line.socket, &mut EpollEvent::new(interest, token)).is_ok() {
            line.interest = interest;
        }
    }
}

/// Every connection is a descriptor: asks for as many as the process may have.
fn room() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let got = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(got.saturating_sub(RESERVE)).unwrap_or(usize::MAX)
}

fn accept(listener: &Socket, heard: &mut Vec<Heard>) {
    loop {
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Nobody, or one that is gone already, or no descriptor: the kernel keeps it for the next time.
            Err(_) => return,
        };
        let ends = (peer.as_socket(), socket.local_addr().ok().and_then(|own| own.as_socket()));
        let (Some(SocketAddr::V4(client)), Some(SocketAddr::V4(server))) = ends else { continue };
        if socket.set_nonblocking(true).is_err() || socket::dress(&socket).is_err() {
            continue;
        }
        let flow =
            Flow { client: *client.ip(), client_port: client.port(), server: *server.ip(), server_port: server.port() };
        heard.push(Heard::Accepted(flow, socket));
    }
}

#[cfg(test)]
#[path = "legs_tests.rs"]
mod tests;
