//! Captures of real peers, played through the engine packet by packet: what leaves is what came, under other addresses
//! and with translated Call IDs, and nothing else.

use std::net::Ipv4Addr;

use callgate_pptp::wire::{gre, ipv4, tcp};
use callgate_pptp::{Admission, Admit, Command, Engine, Flow, Limits, Now, Refusal, Side, Verdict};

use super::pair::{EXTERNAL, policy};

struct Yes;

impl Admit for Yes {
    fn admit(&mut self, _: Flow) -> Result<Admission, Refusal> {
        Ok(Admission { external: EXTERNAL, policy: policy() })
    }
}

/// Milliseconds and IPv4 packet of each frame of a classic capture file (Ethernet).
fn frames(capture: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let little = capture[0] == 0xd4;
    let number = |at: usize| {
        let octets: [u8; 4] = capture[at..at + 4].try_into().unwrap();
        u64::from(if little { u32::from_le_bytes(octets) } else { u32::from_be_bytes(octets) })
    };
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < capture.len() {
        let length = number(at + 8) as usize;
        let frame = &capture[at + 16..at + 16 + length];
        if frame[12..14] == [8, 0] {
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            frames.push((number(at) * 1_000 + number(at + 4) / 1_000, frame[14..14 + total].to_vec()));
        }
        at += 16 + length;
    }
    frames
}

/// One session between one client and one server.
struct Session {
    engine: Engine,
    server: Ipv4Addr,
    external_port: u16,
    /// Translated ids by the client's own, as the engine has given them out.
    ids: Vec<(u16, u16)>,
    sent: Vec<(Side, Vec<u8>)>,
}

impl Session {
    fn translated(&self, own: u16) -> u16 {
        self.ids.iter().rev().find(|(client, _)| *client == own).map_or(own, |(_, translated)| *translated)
    }

    /// The packet as the other side of the gateway would have sent it.
    fn outside(&self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let mut ip = ipv4::Packet::new_unchecked(&mut packet[..]);
        ip.set_dst(EXTERNAL);
        ip.fill_checksum();
        let (src, dst, protocol) = (ip.src(), ip.dst(), ip.protocol());
        match protocol {
            ipv4::PROTOCOL_GRE => {
                let mut header = gre::Packet::new_unchecked(ip.payload_mut());
                header.set_call_id(self.translated(header.call_id()));
            }
            ipv4::PROTOCOL_TCP => {
                let bytes = ip.payload_mut();
                tcp::Packet::new_unchecked(&mut *bytes).set_dst_port(self.external_port);
                let start = tcp::Packet::new_unchecked(&*bytes).header_len();
                let message = &mut bytes[start..];
                if message.len() >= 16 {
                    let at = if message[9] == 8 { Some(14) } else { matches!(message[9], 11 | 14 | 15).then_some(12) };
                    if let Some(at) = at {
                        let own = u16::from_be_bytes([message[at], message[at + 1]]);
                        message[at..at + 2].copy_from_slice(&self.translated(own).to_be_bytes());
                    }
                }
                tcp::Packet::new_unchecked(bytes).fill_checksum(src, dst);
            }
            other => panic!("protocol {other} in the capture"),
        }
        packet
    }

    fn play(&mut self, packet: &[u8], now: Now) {
        let from_server = ipv4::Packet::new_unchecked(packet).src() == self.server;
        let mut packet = if from_server { self.outside(packet) } else { packet.to_vec() };
        let verdict = if from_server {
            self.engine.from_server(&mut packet, now)
        } else {
            self.engine.from_client(&mut packet, &mut Yes, now)
        };
        while let Some(command) = self.engine.poll_command() {
            if let Command::Send { to, packet } = command {
                self.sent.push((to, packet));
            }
        }
        if let Verdict::Forward(to) = verdict {
            self.sent.push((to, packet));
        }
        if let Some(connection) = self.engine.connections().first() {
            self.external_port = connection.external_port;
        }
        for call in self.engine.calls() {
            if let (Some(own), Some(translated)) = (call.pns_id, call.translated_id)
                && !self.ids.contains(&(own, translated))
            {
                self.ids.push((own, translated));
            }
        }
    }
}

/// What is the same on both sides of the gateway: flags, numbers and payload of TCP with the translated Call IDs put back,
/// payload and numbers of GRE.
fn essence(packet: &[u8], ids: &[(u16, u16)], to: Side) -> (u8, Vec<u32>, Vec<u8>) {
    let ip = ipv4::Packet::new_checked(packet).unwrap();
    assert!(ip.verify_checksum());
    let own = |id: u16| ids.iter().find(|(_, translated)| *translated == id).map_or(id, |(own, _)| *own);
    if ip.protocol() == ipv4::PROTOCOL_GRE {
        let header = gre::Packet::new_checked(ip.payload()).unwrap();
        let id = if to == Side::Client { own(header.call_id()) } else { header.call_id() };
        return (47, vec![id.into(), header.seq().unwrap_or(0), header.ack().unwrap_or(0)], header.payload().to_vec());
    }
    let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
    assert!(segment.verify_checksum(ip.src(), ip.dst()));
    let mut payload = segment.payload().to_vec();
    if payload.len() >= 16 && matches!(payload[9], 7 | 10 | 12) {
        let id = own(u16::from_be_bytes([payload[12], payload[13]]));
        payload[12..14].copy_from_slice(&id.to_be_bytes());
    }
    let flags = segment.flags();
    let kept = flags.without(tcp::Flags::PSH).without(tcp::Flags::URG);
    if segment.rst() {
        // Made anew, so it acknowledges too.
        return (tcp::Flags::RST.0, vec![segment.seq().0], payload);
    }
    let (value, echo) = tcp::options::timestamps(segment.options()).unwrap_or_default();
    (kept.0, vec![segment.seq().0, segment.ack().0, value, echo], payload)
}

/// Plays a capture; `(engine, what came, what left)`, both without repetitions of what the other side had.
fn replay(capture: &[u8], server: Ipv4Addr) -> Session {
    let engine = Engine::new(Limits::default(), 5);
    let mut session = Session { engine, server, external_port: 0, ids: Vec::new(), sent: Vec::new() };
    let mut came = Vec::new();
    for (ms, packet) in frames(capture) {
        session.play(&packet, Now(ms));
        let to = if ipv4::Packet::new_unchecked(&packet[..]).src() == server { Side::Client } else { Side::Server };
        came.push((to, essence(&packet, &[], to)));
    }
    let left: Vec<_> = session.sent.iter().map(|(to, packet)| (*to, essence(packet, &session.ids, *to))).collect();
    for (n, (left, came)) in left.iter().zip(&came).enumerate() {
        assert_eq!(left, came, "packet {n}");
    }
    assert_eq!(left.len(), came.len());
    session
}

#[test]
fn the_session_of_a_windows_client_leaves_as_it_came() {
    let capture = include_bytes!("../data/tcpdump-pptp.pcap");
    let mut session = replay(capture, Ipv4Addr::new(10, 1, 1, 10));
    // Both sides closed: nothing is left.
    assert_eq!(session.engine.calls(), []);
    assert_eq!(session.engine.counters().calls_up, 1);
    assert_eq!(session.engine.counters().messages_malformed, 0);
    while let Some(at) = session.engine.poll_timeout() {
        session.engine.handle_timeout(at);
    }
    assert_eq!(session.engine.connections(), []);
}

/// The server in the captures of pptp-linux 1.10.0 and pptpd 1.4.0 (tests/data/README).
const PPTPD: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);

#[test]
fn one_call_of_pptp_linux_to_pptpd_leaves_as_it_came() {
    let session = replay(include_bytes!("../data/pptp-linux-one-call.pcap"), PPTPD);
    assert_eq!(session.engine.calls(), []);
}

#[test]
fn two_calls_of_one_call_manager_leave_as_they_came() {
    let session = replay(include_bytes!("../data/pptp-linux-two-calls.pcap"), PPTPD);
    assert_eq!(session.engine.counters().calls_up, 2);
}

#[test]
fn a_minute_of_echoes_and_a_killed_client_leave_as_they_came() {
    let session = replay(include_bytes!("../data/pptp-linux-echo-and-kill.pcap"), PPTPD);
    assert_eq!(session.engine.calls(), []);
}

#[test]
fn a_session_of_pptp_linux_with_pptpd_leaves_as_it_came() {
    let capture = include_bytes!("../data/lab-pptp-linux-pptpd.pcap");
    let mut session = replay(capture, Ipv4Addr::new(10, 20, 0, 9));
    assert_eq!(session.engine.calls(), []);
    assert_eq!(session.engine.counters().calls_up, 1);
    assert_eq!(session.engine.counters().messages_malformed, 0);
    while let Some(at) = session.engine.poll_timeout() {
        session.engine.handle_timeout(at);
    }
    assert_eq!(session.engine.connections(), []);
}
