//! One blocking netlink socket: requests, dumps and batches in the calling thread's network namespace.

use netlink_sys::{Socket as Raw, SocketAddr};
use nix::errno::Errno;

use super::Error;
use super::attr;

/// Message flags (linux/netlink.h).
pub(crate) const REQUEST: u16 = 0x1;
/// Wants an acknowledgement.
pub(crate) const ACK: u16 = 0x4;
/// The whole table.
pub(crate) const DUMP: u16 = 0x300;
/// Fails if it exists.
pub(crate) const EXCL: u16 = 0x200;
/// Makes it if it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// At the end.
pub(crate) const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const ERROR_CAPPED: u16 = 0x100;
const ERROR_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A socket of one netlink protocol.
pub(crate) struct Socket {
    raw: Raw,
    sequence: u32,
}

/// A received message: type, flags, sequence number, what follows its header.
type Received = (u16, u16, u32, Vec<u8>);

/// What came back: message type and what follows its header.
pub(crate) type Answer = (u16, Vec<u8>);

impl Socket {
    /// Opens one; `protocol` as in linux/netlink.h (0 route, 12 netfilter).
    pub(crate) fn open(protocol: isize) -> Result<Self, Error> {
        let socket = |error: std::io::Error| Error::Socket(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
        let mut raw = Raw::new(protocol).map_err(socket)?;
        raw.bind_auto().map_err(socket)?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(socket)?;
        let _ = raw.set_ext_ack(true);
        // A batch is one datagram, however long: 1,000 rules for 1,000 sources are a few megabytes.
        for option in [nix::libc::SO_SNDBUFFORCE, nix::libc::SO_RCVBUFFORCE] {
            super::sys::set_buffer(&raw, option, 64 << 20);
        }
        Ok(Self { raw, sequence: 1 })
    }

    /// One request; all messages of the answer until its acknowledgement or end.
    pub(crate) fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Answer>, Error> {
        self.sequence += 1;
        let sequence = self.sequence;
        let flags = if flags & DUMP == DUMP { flags } else { flags | ACK };
        self.send(&message(kind, flags | REQUEST, sequence, body))?;
        let mut answers = Vec::new();
        loop {
            for (kind, flags, of, body) in self.receive()? {
                if of != sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => return verdict(flags, &body).map(|()| answers),
                    kind => answers.push((kind, body)),
                }
            }
        }
    }

    /// A whole batch of ready messages in one datagram. `wanted` of them ask for acknowledgement; the first error counts.
    pub(crate) fn batch(&mut self, datagram: &[u8], wanted: usize) -> Result<(), Error> {
        self.send(datagram)?;
        let (mut seen, mut result) = (0, Ok(()));
        while seen < wanted {
            for (kind, flags, _, body) in self.receive()? {
                if kind == NLMSG_ERROR {
                    seen += 1;
                    let this = verdict(flags, &body);
                    let failed = this.is_err();
                    if result.is_ok() {
                        result = this;
                    }
                    // A refused batch acknowledges only what it looked at.
                    if failed {
                        seen = wanted;
                    }
                }
            }
        }
        result
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.raw
            .send(bytes, 0)
            .map(|_| ())
            .map_err(|error| Error::Socket(Errno::from_raw(error.raw_os_error().unwrap_or(0))))
    }

    fn receive(&mut self) -> Result<Vec<Received>, Error> {
        let (datagram, _) = self
            .raw
            .recv_from_full()
            .map_err(|error| Error::Socket(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        let mut messages = Vec::new();
        let mut rest = &datagram[..];
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let body = rest.get(HEADER..length).ok_or(Error::Protocol("a message longer than its datagram"))?;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            let flags = u16::from_ne_bytes([rest[6], rest[7]]);
            let sequence = u32::from_ne_bytes([rest[8], rest[9], rest[10], rest[11]]);
            messages.push((kind, flags, sequence, body.to_vec()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

/// One message with its header.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The result an error message carries: zero is success.
fn verdict(flags: u16, body: &[u8]) -> Result<(), Error> {
    let code = body.get(..4).ok_or(Error::Protocol("an error message without a code"))?;
    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
    if code == 0 {
        return Ok(());
    }
    // The request follows, whole or only its header, then what the kernel has to say about it.
    let request = body.get(4..8).map_or(0, |length| u32::from_ne_bytes([length[0], length[1], length[2], length[3]]));
    let skip = if flags & ERROR_CAPPED != 0 { HEADER } else { (request as usize).next_multiple_of(4) };
    let message = (flags & ERROR_TLVS != 0)
        .then(|| attr::find(body.get(4 + skip..).unwrap_or_default(), NLMSGERR_ATTR_MSG))
        .flatten()
        .map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    Err(Error::Kernel { errno: Errno::from_raw(-code), message })
}
