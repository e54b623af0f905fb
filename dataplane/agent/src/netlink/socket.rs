//! One blocking netlink socket: requests, dumps and batches in the network namespace of the thread that opened it.

use netlink_sys::{Socket as Raw, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::Error;
use super::attr;

/// Message flags (linux/netlink.h).
pub(crate) const REQUEST: u16 = 0x1;
/// Wants an acknowledgement.
pub(crate) const ACK: u16 = 0x4;
/// The whole table.
pub(crate) const DUMP: u16 = 0x300;
/// Makes it if it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// At the end.
pub(crate) const APPEND: u16 = 0x800;

/// The table changed while it was dumped: parts may be missing or twice.
const DUMP_INTERRUPTED: u16 = 0x10;
const DUMP_ATTEMPTS: usize = 10;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const ERROR_CAPPED: u16 = 0x100;
const ERROR_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel fills at most 32 KiB of a dump at a time (af_netlink.c); acknowledgements are shorter.
const RECEIVE: usize = 128 << 10;

/// A socket of one netlink protocol.
pub(crate) struct Socket {
    raw: Raw,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What came back: message type and what follows its header.
pub(crate) type Answer = (u16, Vec<u8>);

/// The message of a batch the kernel refused, by its sequence number, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) sequence: u32,
    pub(crate) error: Error,
}

/// One message as it came.
struct Message {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Socket {
    /// Opens one; `protocol` as in linux/netlink.h (12: netfilter).
    pub(crate) fn open(protocol: isize) -> Result<Self, Error> {
        let mut raw = Raw::new(protocol).map_err(Error::socket)?;
        raw.bind_auto().map_err(Error::socket)?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(Error::socket)?;
        // Only for better words: old kernels know neither.
        let _ = raw.set_ext_ack(true);
        let _ = raw.set_cap_ack(true);
        // A batch is one datagram, however long: 1,000 rules for 1,000 sources are a few megabytes.
        // Without CAP_NET_ADMIN the default stays.
        let _ = setsockopt(&raw, sockopt::SndBufForce, &(256 << 20));
        let _ = setsockopt(&raw, sockopt::RcvBufForce, &(256 << 20));
        Ok(Self { raw, sequence: 1, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// One request; all messages of the answer until its acknowledgement or end. A dump that was disturbed is repeated.
    pub(crate) fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Answer>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(answers) = self.attempt(kind, flags, body)? {
                return Ok(answers);
            }
        }
        Err(Error::Protocol("the table changed during each of ten dumps"))
    }

    fn attempt(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Option<Vec<Answer>>, Error> {
        self.sequence += 1;
        let sequence = self.sequence;
        let flags = if flags & DUMP == DUMP { flags } else { flags | ACK };
        self.send(&message(kind, flags | REQUEST, sequence, body))?;
        let (mut answers, mut whole) = (Vec::new(), true);
        loop {
            for message in self.receive(0)? {
                if message.sequence != sequence {
                    continue;
                }
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole.then_some(answers)),
                    NLMSG_ERROR => return verdict(message.flags, &message.body).map(|()| Some(answers)),
                    kind => answers.push((kind, message.body)),
                }
            }
        }
    }

    /// A whole batch of ready messages in one datagram, all or nothing. The kernel works it off before `send` returns, so
    /// every complaint and the acknowledgement of the message numbered `last` wait already.
    pub(crate) fn batch(&mut self, datagram: &[u8], last: u32) -> Result<(), Refused> {
        let whole = |error| Refused { sequence: 0, error };
        self.send(datagram).map_err(whole)?;
        let (mut acknowledged, mut refused) = (false, None);
        loop {
            let messages = match self.receive(libc::MSG_DONTWAIT) {
                Err(Error::Socket(Errno::EAGAIN)) => break,
                received => received.map_err(whole)?,
            };
            for message in messages.into_iter().filter(|message| message.kind == NLMSG_ERROR) {
                match verdict(message.flags, &message.body) {
                    Ok(()) => acknowledged |= message.sequence == last,
                    Err(error) if refused.is_none() => refused = Some(Refused { sequence: message.sequence, error }),
                    Err(_) => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if acknowledged => Ok(()),
            None => Err(whole(Error::Protocol("a batch without acknowledgement"))),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::socket(error)),
            }
        }
    }

    fn receive(&mut self, flags: i32) -> Result<Vec<Message>, Error> {
        self.buffer.clear();
        let length = loop {
            match self.raw.recv(&mut self.buffer, flags | libc::MSG_TRUNC) {
                Ok(length) => break length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::socket(error)),
            }
        };
        if length > self.buffer.len() {
            return Err(Error::Protocol("a datagram longer than any the kernel makes"));
        }
        split(&self.buffer)
    }
}

/// The messages of one datagram.
fn split(mut rest: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(header) = rest.get(..HEADER) {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let body = rest.get(HEADER..length).ok_or(Error::Protocol("a message longer than its datagram"))?;
        messages.push(Message { kind: half(4), flags: half(6), sequence: word(8), body: body.to_vec() });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

/// One message with its header.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len().next_multiple_of(4));
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
        .then(|| attr::find_text(body.get(4 + skip..).unwrap_or_default(), NLMSGERR_ATTR_MSG))
        .flatten();
    Err(Error::Kernel { errno: Errno::from_raw(-code), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attr::Attrs;

    #[test]
    fn a_refusal_is_read_with_the_kernels_own_words() {
        let words = Attrs::new().text(NLMSGERR_ATTR_MSG, "no such chain").into_bytes();
        let request = message(7, 0, 3, &[9; 8]);
        let expected = Err(Error::Kernel { errno: Errno::ENOENT, message: Some("no such chain".into()) });
        let code = (-(Errno::ENOENT as i32)).to_ne_bytes();
        let whole = [&code[..], &request, &words].concat();
        let capped = [&code[..], &request[..HEADER], &words].concat();
        assert_eq!(verdict(ERROR_TLVS, &whole), expected);
        assert_eq!(verdict(ERROR_TLVS | ERROR_CAPPED, &capped), expected);
        assert_eq!(verdict(0, &[0; 20]), Ok(()));
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let datagram = [message(1, 2, 3, b"abc"), message(4, 5, 6, b"")].concat();
        let read: Vec<_> =
            split(&datagram).unwrap().into_iter().map(|m| (m.kind, m.flags, m.sequence, m.body)).collect();
        assert_eq!(read, [(1, 2, 3, b"abc".to_vec()), (4, 5, 6, Vec::new())]);
    }
}
