//! A TCP segment of a control connection, from either side.

use super::Engine;
use super::connection::{Connection, Reset, other};
use super::event::CloseReason;
use super::view::ConnectionState;
use crate::stream::{Next, Outgoing, Received, Stream};
use crate::types::{Admit, Flow, Now, Side, Verdict};
use crate::wire::{Seq, ipv4, tcp};

/// Both headers of a segment.
type Views<'a> = (ipv4::Packet<&'a [u8]>, tcp::Packet<&'a [u8]>);

/// What a segment brings besides its headers.
struct Content<'a> {
    seq: Seq,
    payload: &'a [u8],
    fin: bool,
    /// It acknowledges something that was not acknowledged before.
    acknowledges: bool,
}

/// Octets around the expected numbers within which a segment is taken for real.
const REACH: u32 = 1 << 16;

/// Acknowledgement and nothing else.
const ACK: tcp::Flags = tcp::Flags::ACK;

impl Engine {
    pub(super) fn tcp_from_client(&mut self, packet: &mut [u8], admit: &mut dyn Admit, now: Now) -> Verdict {
        let Some((ip, segment)) = self.sound(packet) else { return Verdict::Consumed };
        let flow = Flow {
            client: ip.src(),
            client_port: segment.src_port(),
            server: ip.dst(),
            server_port: segment.dst_port(),
        };
        let (syn, ack) = (segment.syn(), segment.flags().contains(ACK));
        if syn && !ack && !segment.rst() {
            return self.open(packet, flow, admit, now);
        }
        if let Some(&index) = self.by_flow.get(&flow) {
            return self.segment(Side::Client, index, packet, now);
        }
        // So that it connects again instead of waiting for its own time-out.
        self.counters.tcp_unknown_client += 1;
        self.answer_with_reset(packet);
        Verdict::Consumed
    }

    pub(super) fn tcp_from_server(&mut self, packet: &mut [u8], now: Now) -> Verdict {
        let Some((ip, segment)) = self.sound(packet) else { return Verdict::Consumed };
        let outer = (ip.dst(), segment.dst_port(), ip.src(), segment.src_port());
        match self.by_outer.get(&outer).copied() {
            Some(index) => self.segment(Side::Server, index, packet, now),
            None => {
                self.counters.drop_tcp_unknown_server += 1;
                Verdict::Consumed
            }
        }
    }

    /// Views of a segment that is whole and has a right checksum.
    fn sound<'a>(&mut self, packet: &'a [u8]) -> Option<Views<'a>> {
        let ip = ipv4::Packet::new_unchecked(packet);
        let payload = packet.get(ip.header_len()..ip.total_len()).unwrap_or_default();
        match tcp::Packet::new_checked(payload) {
            Ok(segment) if segment.verify_checksum(ip.src(), ip.dst()) => Some((ip, segment)),
            Ok(_) | Err(_) => {
                self.counters.drop_tcp_malformed += 1;
                None
            }
        }
    }

    fn segment(&mut self, from: Side, index: u32, packet: &mut [u8], now: Now) -> Verdict {
        let ip = ipv4::Packet::new_unchecked(&*packet);
        let segment = tcp::Packet::new_unchecked(ip.payload());
        let Some(connection) = self.connections.get_mut(index) else { return Verdict::Consumed };
        if connection.ended.is_some_and(|ended| ended.by_reset) {
            // Its end was told by RST; who did not hear it, is told again.
            let reset = connection.segment_acknowledging(from, segment.ack(), Seq(0), tcp::Flags::RST, &[]);
            if !segment.rst() {
                self.counters.tcp_resets_sent += 1;
                self.send(from, reset);
            }
            return Verdict::Consumed;
        }
        if segment.rst() {
            return self.reset(from, index, &segment, packet, now);
        }
        if segment.syn() {
            return self.syn_ack(from, index, packet, now);
        }
        if connection.data.down.is_none() || !segment.flags().contains(ACK) {
            self.counters.drop_tcp_early += 1;
            return Verdict::Consumed;
        }
        let (seq, ack) = (segment.seq(), segment.ack());
        let to = other(from);
        let near = connection.stream(from).is_some_and(|stream| is_near(seq, stream.in_acked()))
            && connection.stream(to).is_some_and(|stream| is_acknowledgeable(ack, stream.out_next()));
        let Some(out_seq) = connection.stream(from).and_then(|stream| stream.map_empty(seq)).filter(|_| near) else {
            self.counters.drop_tcp_window += 1;
            self.note_dropped(from, packet, "TCP segment outside the window of its connection", now);
            return Verdict::Consumed;
        };
        connection.heard(from, &segment, ip.tos(), now);
        let before = connection.stream(to).map(|stream| stream.in_acked());
        let mapped = connection.stream(to).map_or(ack, |stream| stream.acknowledged(ack, now));
        if connection.data.state == ConnectionState::Opening {
            connection.data.state = ConnectionState::AwaitingStart;
            connection.data.connected = now;
        }
        let fin = segment.fin();
        if segment.payload().is_empty() && !fin {
            pass_empty(connection, to, packet, out_seq, mapped);
            self.finish_if_done(index, now);
            self.arm(index);
            return Verdict::Forward(to);
        }
        let acknowledges = before != Some(mapped);
        let content = Content { seq, payload: segment.payload(), fin, acknowledges };
        self.data(from, index, &content, now);
        self.finish_if_done(index, now);
        self.arm(index);
        Verdict::Consumed
    }

    /// Payload or FIN.
    fn data(&mut self, from: Side, index: u32, content: &Content<'_>, now: Now) {
        let (start, to) = (self.commands.len(), other(from));
        let Some(connection) = self.connections.get_mut(index) else { return };
        // Whoever acknowledges none of our answers is not asked for more: each of its messages may lead to another answer.
        let ignored = connection.stream(to).is_some_and(|stream| stream.is_ignored());
        let Some(stream) = connection.stream(from) else { return };
        match if ignored { Received::Full } else { stream.receive(content.seq, content.payload, content.fin) } {
            Received::New(again) => {
                for segment in &again {
                    self.out(to, index, segment);
                }
                let emitted = self.drain(from, index, now);
                let Some(connection) = self.connections.get_mut(index) else { return };
                if connection.ended.is_some() {
                    return;
                }
                if let Some(stream) = connection.stream(from)
                    && stream.is_holding()
                {
                    stream.take_custody(now);
                    self.acknowledge(from, index);
                }
                if !emitted {
                    self.empty(to, index);
                }
                self.persist_before(start, index);
                return;
            }
            Received::Again(segments) => {
                self.counters.tcp_duplicates += 1;
                for segment in segments {
                    self.out(to, index, &segment);
                }
                return;
            }
            Received::Probe(seq) => {
                self.counters.tcp_duplicates += 1;
                let packet = connection.segment(to, seq, ACK, &[]);
                self.send(to, packet);
                return;
            }
            Received::Acknowledge(_) => {
                self.counters.tcp_duplicates += 1;
                self.acknowledge(from, index);
            }
            Received::Gap => {
                // As a receiver would: the third repetition makes the sender resend at once.
                self.counters.drop_tcp_gap += 1;
                let packet = connection.acknowledgement(from);
                self.send(from, packet);
            }
            Received::Full => self.counters.drop_tcp_full += 1,
            Received::Implausible => self.counters.drop_tcp_window += 1,
        }
        if content.acknowledges {
            self.empty(to, index);
        }
    }

    /// Passes on all whole messages, and FIN behind them. Whether anything was sent.
    fn drain(&mut self, from: Side, index: u32, now: Now) -> bool {
        let (mut emitted, to) = (false, other(from));
        loop {
            let Some(connection) = self.connections.get_mut(index) else { return emitted };
            if connection.ended.is_some() {
                return emitted;
            }
            // Until its first message is right nothing else is let through, strict or not.
            let strict = connection.policy.strict || !connection.data.started;
            let Some(stream) = connection.stream(from) else { return emitted };
            match stream.next_message(strict) {
                Next::Message(bytes) => emitted |= self.message(from, index, bytes, now),
                Next::Malformed(malformed) => {
                    self.malformed(from, index, malformed.label(), now);
                    return emitted;
                }
                Next::Nothing => break,
            }
        }
        let Some(connection) = self.connections.get_mut(index) else { return emitted };
        let Some(fin) = connection.stream(from).and_then(|stream| stream.emit_fin(now)) else { return emitted };
        connection.data.first_fin.get_or_insert(from);
        connection.finished.get_or_insert(now);
        connection.data.state = ConnectionState::Closing;
        self.out(to, index, &fin);
        true
    }

    /// Sends a segment of the other side's stream to `to`.
    pub(super) fn out(&mut self, to: Side, index: u32, segment: &Outgoing) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let mut flags = ACK;
        if !segment.bytes.is_empty() {
            flags = flags.with(tcp::Flags::PSH);
        }
        if segment.fin {
            flags = flags.with(tcp::Flags::FIN);
        }
        let packet = connection.segment(to, segment.seq, flags, &segment.bytes);
        self.send(to, packet);
    }

    /// Gives `side` the acknowledgement its stream stands at, on the other side's behalf.
    pub(super) fn acknowledge(&mut self, side: Side, index: u32) {
        self.counters.tcp_custody_acks += 1;
        let packet = self.connections.get_mut(index).and_then(|connection| connection.acknowledgement(side));
        self.send(side, packet);
    }

    /// An empty segment to `to`: it carries the acknowledgement that `to` is owed.
    fn empty(&mut self, to: Side, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(seq) = connection.stream(other(to)).map(|stream| stream.out_next()) else { return };
        let packet = connection.segment(to, seq, ACK, &[]);
        self.send(to, packet);
    }

    fn syn_ack(&mut self, from: Side, index: u32, packet: &mut [u8], now: Now) -> Verdict {
        let ip = ipv4::Packet::new_unchecked(&*packet);
        let segment = tcp::Packet::new_unchecked(ip.payload());
        let start = self.commands.len();
        let Some(connection) = self.connections.get_mut(index) else { return Verdict::Consumed };
        let right = from == Side::Server
            && segment.flags().contains(ACK)
            && segment.ack() == connection.client_isn + 1
            && segment.payload().is_empty()
            && connection.data.down.as_ref().is_none_or(|down| down.in_next() == segment.seq() + 1)
            && matches!(connection.data.state, ConnectionState::Opening | ConnectionState::AwaitingStart);
        if !right {
            self.counters.drop_tcp_window += 1;
            self.note_dropped(from, packet, "SYN in the middle of a connection", now);
            return Verdict::Consumed;
        }
        connection.heard(from, &segment, ip.tos(), now);
        if connection.data.server.timestamps.is_none() {
            // Offered and not taken (RFC 7323 §3.2): segments of our own have none either.
            connection.data.client.timestamps = None;
        }
        if connection.data.down.is_none() {
            connection.data.down = Some(Stream::new(segment.seq() + 1));
            self.persist_before(start, index);
        }
        self.arm(index);
        self.forward_handshake(index, Side::Client, packet)
    }

    fn reset(&mut self, from: Side, index: u32, segment: &tcp::Packet<&[u8]>, packet: &[u8], now: Now) -> Verdict {
        let Some(connection) = self.connections.get_mut(index) else { return Verdict::Consumed };
        let isn = connection.client_isn;
        let (plausible, exact) = match connection.stream(from) {
            Some(stream) => (stream.is_plausible_reset(segment.seq()), !segment.seq().after(stream.in_next())),
            // A refused SYN.
            None => (segment.flags().contains(ACK) && segment.ack() == isn + 1, true),
        };
        if !plausible || !exact {
            self.counters.drop_tcp_rst_forged += 1;
            // In the window but not at its start: who really has reset it, answers with the right number (RFC 5961 §3).
            let challenge = if plausible { connection.acknowledgement(from) } else { None };
            self.send(from, challenge);
            self.note_dropped(from, packet, "RST with an implausible sequence number", now);
            return Verdict::Consumed;
        }
        self.close(index, CloseReason::Reset(from), Reset::Only(other(from)), now);
        Verdict::Consumed
    }

    /// Both FINs are acknowledged: the connection is over.
    fn finish_if_done(&mut self, index: u32, now: Now) {
        let Some(connection) = self.connections.get(index) else { return };
        let data = &connection.data;
        let done = |stream: &Stream| stream.is_finished() && stream.is_delivered();
        if connection.ended.is_none() && done(&data.up) && data.down.as_ref().is_some_and(done) {
            let first = data.first_fin.unwrap_or(Side::Client);
            self.close(index, CloseReason::Finished(first), Reset::Nobody, now);
        }
    }
}

/// Whether a segment may begin here: not further from what its sender was acknowledged than an unscaled window, which no
/// control connection fills. A blind forger has to hit this and `is_acknowledgeable`: one try in 10^9.
fn is_near(seq: Seq, acked: Seq) -> bool {
    seq.distance(acked).unsigned_abs() <= REACH
}

/// Whether this can be acknowledged: it was sent, and not long ago (RFC 5961 §5).
fn is_acknowledgeable(ack: Seq, sent: Seq) -> bool {
    let ahead = ack.distance(sent);
    ahead <= 0 && ahead.unsigned_abs() <= REACH
}

/// Rewrites an empty segment in place; its options stay, SACK ranges in the receiver's numbers.
fn pass_empty(connection: &mut Connection, to: Side, packet: &mut [u8], seq: Seq, ack: Seq) {
    let mut ip = ipv4::Packet::new_unchecked(&mut *packet);
    let mut segment = tcp::Packet::new_unchecked(ip.payload_mut());
    segment.set_seq(seq);
    segment.set_ack(ack);
    if let Some(stream) = connection.stream(to) {
        tcp::options::map_sack(segment.options_mut(), |left, right| stream.map_sack(left, right));
    }
    readdress(connection, to, packet);
}

/// Gives a segment the ends it has on the other side, one hop less, and right checksums.
pub(super) fn readdress(connection: &Connection, to: Side, packet: &mut [u8]) {
    let ((src, src_port), (dst, dst_port)) = connection.ends(to);
    let mut ip = ipv4::Packet::new_unchecked(packet);
    ip.readdress(src, dst);
    let mut segment = tcp::Packet::new_unchecked(ip.payload_mut());
    segment.set_src_port(src_port);
    segment.set_dst_port(dst_port);
    segment.fill_checksum(src, dst);
}
