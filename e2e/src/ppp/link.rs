//! One PPP link: LCP, then IPCP, then IPv4 packets both ways. Pure: frames and times in, frames and events out.

use std::net::Ipv4Addr;

use super::ipcp::Ipcp;
use super::lcp::Lcp;
use super::negotiate::{Negotiation, State};
use super::packet::{Control, IPCP, IPV4, LCP, code, split_frame};

/// What a link tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Addresses are agreed: IPv4 may flow.
    Up {
        /// Our end.
        local: Ipv4Addr,
        /// The peer's end.
        remote: Ipv4Addr,
    },
    /// An IPv4 packet from the peer.
    Packet(Vec<u8>),
    /// The link has ended, with the reason.
    Down(&'static str),
}

/// A PPP link.
#[derive(Debug)]
pub struct Link {
    lcp: Negotiation<Lcp>,
    ipcp: Negotiation<Ipcp>,
    ended: bool,
    rejects: u8,
}

impl Link {
    /// A link that has not begun. `magic` is any number.
    pub fn new(magic: u32, ipcp: Ipcp) -> Self {
        Self {
            lcp: Negotiation::new(LCP, Lcp::new(magic)),
            ipcp: Negotiation::new(IPCP, ipcp),
            ended: false,
            rejects: 0,
        }
    }

    /// Begins with LCP. Frames to send are appended to `out`, here and below.
    pub fn open(&mut self, now: u64, out: &mut Vec<Vec<u8>>) {
        self.lcp.open(now, out);
    }

    /// Whether IPv4 may flow.
    pub fn is_up(&self) -> bool {
        self.lcp.state() == State::Opened && self.ipcp.state() == State::Opened
    }

    /// Control characters to be escaped in frames sent now; LCP's own always escape all (RFC 1662 section 7.1).
    pub fn accm(&self, frame: &[u8]) -> u32 {
        match split_frame(frame) {
            Some((LCP, _)) | None => u32::MAX,
            Some(_) => self.lcp.options.send_accm,
        }
    }

    /// When `tick` wants to be called, milliseconds.
    pub fn due(&self) -> Option<u64> {
        self.lcp.due().into_iter().chain(self.ipcp.due()).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Vec<u8>>, events: &mut Vec<Event>) {
        self.lcp.tick(now, out);
        self.ipcp.tick(now, out);
        self.check_end("no answer to Configure-Requests", events);
    }

    /// An IPv4 packet for the peer; dropped while the link is not up.
    pub fn send(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.is_up().then(|| [&[0xff, 0x03, 0x00, 0x21], packet].concat())
    }

    /// Ends the link politely.
    pub fn terminate(&mut self, out: &mut Vec<Vec<u8>>) {
        out.push(Control { code: code::TERMINATE_REQUEST, id: 0xff, data: vec![] }.frame(LCP));
    }

    /// A frame from the peer.
    pub fn input(&mut self, frame: &[u8], now: u64, out: &mut Vec<Vec<u8>>, events: &mut Vec<Event>) {
        let Some((protocol, body)) = split_frame(frame) else { return };
        match protocol {
            LCP => self.input_lcp(body, now, out, events),
            _ if self.lcp.state() != State::Opened => {}
            IPCP => self.input_ipcp(body, now, out, events),
            IPV4 if self.is_up() => events.push(Event::Packet(body.to_vec())),
            IPV4 => {}
            _ => {
                let data = [&protocol.to_be_bytes(), body].concat();
                out.push(self.reject(code::PROTOCOL_REJECT, data));
            }
        }
    }

    fn input_lcp(&mut self, body: &[u8], now: u64, out: &mut Vec<Vec<u8>>, events: &mut Vec<Event>) {
        let Some(packet) = Control::parse(body) else { return };
        let before = self.lcp.state();
        if !self.lcp.input(&packet, now, out) {
            match packet.code {
                code::ECHO_REQUEST if before == State::Opened => {
                    let mut data = packet.data.clone();
                    let magic = self.lcp.options.magic().to_be_bytes();
                    data.iter_mut().zip(magic).for_each(|(byte, magic)| *byte = magic);
                    out.push(Control { code: code::ECHO_REPLY, id: packet.id, data }.frame(LCP));
                }
                code::ECHO_REQUEST | code::ECHO_REPLY | code::DISCARD_REQUEST => {}
                code::CODE_REJECT | code::PROTOCOL_REJECT => {}
                _ => out.push(self.reject(code::CODE_REJECT, body.to_vec())),
            }
        }
        // LCP up, or up anew: IPCP starts (over), as it must when the lower layer comes up.
        if before != State::Opened && self.lcp.state() == State::Opened {
            self.lcp.options.opened();
            self.ipcp.open(now, out);
        }
        self.check_end("the peer ended the link", events);
    }

    fn input_ipcp(&mut self, body: &[u8], now: u64, out: &mut Vec<Vec<u8>>, events: &mut Vec<Event>) {
        let Some(packet) = Control::parse(body) else { return };
        let before = self.ipcp.state();
        if !self.ipcp.input(&packet, now, out) {
            let data = Control { code: code::CODE_REJECT, id: self.next_id(), data: body.to_vec() };
            out.push(data.frame(IPCP));
        }
        if before != State::Opened && self.ipcp.state() == State::Opened {
            let Ipcp { local, remote, .. } = self.ipcp.options;
            events.push(Event::Up { local, remote });
        }
        self.check_end("the peer ended IPCP", events);
    }

    fn reject(&mut self, code: u8, data: Vec<u8>) -> Vec<u8> {
        Control { code, id: self.next_id(), data }.frame(LCP)
    }

    fn next_id(&mut self) -> u8 {
        self.rejects = self.rejects.wrapping_add(1);
        self.rejects
    }

    fn check_end(&mut self, why: &'static str, events: &mut Vec<Event>) {
        let failed = self.lcp.state() == State::Failed || self.ipcp.state() == State::Failed;
        if failed && !self.ended {
            self.ended = true;
            events.push(Event::Down(why));
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
