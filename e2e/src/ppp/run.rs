//! Runs one link between fd 0/1 and a TUN device until the line closes, the peer ends it, or SIGTERM.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios;

use super::hdlc;
use super::ipcp::Ipcp;
use super::link::{Event, Link};
use super::tun::Tun;

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other end of fd 0 is gone.
    LineClosed,
    /// The peer ended the link, or never answered.
    Peer(&'static str),
    /// SIGTERM or SIGINT.
    Signal,
}

/// Runs a link. `say` gets one line a state change: `up local L remote R dev pppN`, `down WHY`.
///
/// # Errors
/// If the TUN device cannot be made, or fd 0/1 fail in another way than by closing.
pub fn run(ipcp: Ipcp, magic: u32, say: &mut dyn FnMut(&str)) -> anyhow::Result<End> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    raw(stdin.as_fd())?;
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block().context("block SIGTERM")?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("signalfd")?;

    let start = Instant::now();
    let mut line = Line { out: stdout.as_fd(), link: Link::new(magic, ipcp), decoder: hdlc::Decoder::default() };
    let mut tun = Tun::open()?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut frames, mut events) = (Vec::new(), Vec::new());
    line.link.open(0, &mut frames);
    loop {
        let now = start.elapsed().as_millis() as u64;
        line.link.tick(now, &mut frames, &mut events);
        if line.send(&mut frames)?.is_closed() {
            return Ok(End::LineClosed);
        }
        for event in events.drain(..) {
            match event {
                Event::Up { local, remote } => {
                    tun.configure(local, remote)?;
                    say(&format!("up local {local} remote {remote} dev {}", tun.name));
                }
                // A full or refused TUN queue loses the packet, as any link may.
                Event::Packet(packet) => drop(tun.file.write(&packet)),
                Event::Down(why) => {
                    say(&format!("down {why}"));
                    return Ok(End::Peer(why));
                }
            }
        }

        let timeout = line.link.due().map_or(PollTimeout::NONE, |due| {
            PollTimeout::try_from(due.saturating_sub(now).min(60_000) + 1).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(tun.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = fds.map(|fd| fd.any().unwrap_or(false));
        let now = start.elapsed().as_millis() as u64;
        if ready[0] {
            match nix::unistd::read(stdin.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::EIO | Errno::ECONNRESET) => return Ok(End::LineClosed),
                Ok(length) => line.receive(&buffer[..length], now, &mut frames, &mut events),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error).context("read the line"),
            }
        }
        if ready[1] {
            loop {
                match tun.file.read(&mut buffer) {
                    Ok(length) => frames.extend(line.link.send(&buffer[..length])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("read the TUN device"),
                }
            }
        }
        if ready[2] {
            line.link.terminate(&mut frames);
            line.send(&mut frames)?;
            return Ok(End::Signal);
        }
    }
}

/// The framed side.
struct Line<'a> {
    out: BorrowedFd<'a>,
    link: Link,
    decoder: hdlc::Decoder,
}

/// Whether the line still takes bytes.
#[derive(PartialEq)]
enum Sent {
    All,
    Closed,
}

impl Sent {
    fn is_closed(&self) -> bool {
        *self == Self::Closed
    }
}

impl Line<'_> {
    fn receive(&mut self, bytes: &[u8], now: u64, frames: &mut Vec<Vec<u8>>, events: &mut Vec<Event>) {
        let link = &mut self.link;
        self.decoder.feed(bytes, |frame| link.input(frame, now, frames, events));
    }

    fn send(&self, frames: &mut Vec<Vec<u8>>) -> anyhow::Result<Sent> {
        for frame in frames.drain(..) {
            let bytes = hdlc::encode(&frame, self.link.accm(&frame));
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match nix::unistd::write(self.out, rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(Errno::EINTR) => {}
                    Err(Errno::EIO | Errno::EPIPE | Errno::ECONNRESET) => return Ok(Sent::Closed),
                    Err(error) => return Err(error).context("write to the line"),
                }
            }
        }
        Ok(Sent::All)
    }
}

/// A pty from pptpctrl comes cooked: it would echo and translate our frames.
fn raw(line: BorrowedFd<'_>) -> anyhow::Result<()> {
    if let Ok(mut settings) = termios::tcgetattr(line) {
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(line, termios::SetArg::TCSANOW, &settings).context("set the pty to raw")?;
    }
    Ok(())
}
