//! A client's SYN: is it admitted, and under which external port.

use super::allocator::Pair;
use super::connection::{Connection, ConnectionData, Peer, Reset};
use super::event::{CloseReason, Event, OpenRefusal};
use super::record::Unsaved;
use super::view::ConnectionState;
use super::{Engine, TTL};
use crate::stream::Stream;
use crate::types::{Admission, Admit, Flow, Now, Side, Verdict};
use crate::wire::{ipv4, tcp};

/// ECE and CWR (RFC 3168).
const ECN: tcp::Flags = tcp::Flags(0xc0);

impl Engine {
    /// A SYN of a flow that is not live, or of one that the client starts anew.
    pub(super) fn open(&mut self, packet: &mut [u8], flow: Flow, admit: &mut dyn Admit, now: Now) -> Verdict {
        let start = self.commands.len();
        let ip = ipv4::Packet::new_unchecked(&*packet);
        let segment = tcp::Packet::new_unchecked(ip.payload());
        let isn = segment.seq();
        if !segment.payload().is_empty() || segment.fin() {
            // Data would reach the server unread. A client that cannot open fast opens in the ordinary way.
            self.counters.drop_tcp_early += 1;
            return Verdict::Consumed;
        }
        if let Some(&index) = self.by_flow.get(&flow) {
            let live = self.connections.get(index).filter(|connection| connection.ended.is_none());
            match live.map(|connection| (connection.data.state, connection.client_isn == isn)) {
                Some((ConnectionState::Opening, true)) => {
                    return self.forward_handshake(index, Side::Server, packet);
                }
                Some((ConnectionState::Opening, false) | (ConnectionState::Closed, _)) | None => {
                    self.close(index, CloseReason::Replaced, Reset::Only(Side::Server), now);
                    self.forget(index);
                }
                Some((ConnectionState::AwaitingStart | ConnectionState::Established | ConnectionState::Closing, _)) => {
                    // Late, forged, or a client that knows nothing of its connection any more. Only the last one answers
                    // this with RST, which ends the old connection; its next SYN opens a new one (RFC 5961 §4).
                    self.counters.drop_tcp_syn_live += 1;
                    self.acknowledge(Side::Client, index);
                    self.note_dropped(Side::Client, packet, "SYN for a live connection", now);
                    return Verdict::Consumed;
                }
            }
        }
        let (admission, port) = match self.admission(flow, admit, now) {
            Ok(admitted) => admitted,
            Err(why) => {
                self.counters.connections_refused += 1;
                self.note(Event::Refused { flow, why });
                self.answer_with_reset(packet);
                return Verdict::Consumed;
            }
        };
        let index = self.insert_opening(packet, flow, admission, port, now);
        self.arm(index);
        self.persist_before(start, index);
        self.forward_handshake(index, Side::Server, packet)
    }

    /// Tells a client by RST that nobody takes its segment; for the shell, whose other mode has refused it.
    pub fn reset_client(&mut self, packet: &[u8]) {
        self.answer_with_reset(packet);
    }

    /// Tells the client by RST that nobody knows its segment.
    pub(super) fn answer_with_reset(&mut self, packet: &[u8]) {
        let reset = reset_for(packet);
        self.counters.tcp_resets_sent += u64::from(reset.is_some());
        self.send(Side::Client, reset);
    }

    fn admission(&mut self, flow: Flow, admit: &mut dyn Admit, now: Now) -> Result<(Admission, u16), OpenRefusal> {
        // First what only looks here: to admit may take questions to the kernel, and nobody who is over a limit gets to ask them.
        let limits = &self.limits;
        if self.live_connections >= limits.max_connections {
            return Err(OpenRefusal::MaxConnections(limits.max_connections));
        }
        if let Some(wait) = self.patience.wait(flow, now) {
            self.counters.silent_clients_refused += 1;
            return Err(OpenRefusal::KeptServerWaiting(wait));
        }
        if self.half_open_clients.get(&flow.client).is_some_and(|&n| n >= limits.half_open_per_client) {
            return Err(OpenRefusal::HalfOpenClient(limits.half_open_per_client));
        }
        let server = (flow.server, flow.server_port);
        if self.half_open_servers.get(&server).is_some_and(|&n| n >= limits.half_open_per_server) {
            return Err(OpenRefusal::HalfOpenServer(limits.half_open_per_server));
        }
        if self.allocator.ports_of(flow.client, now) >= limits.ports_per_client {
            return Err(OpenRefusal::PortsOfClient(limits.ports_per_client));
        }
        let admission = admit.admit(flow).map_err(OpenRefusal::NotAdmitted)?;
        if let Some(why) = self.sessions_are_full(&admission.policy, flow.client) {
            return Err(why);
        }
        let pair = Pair { external: admission.external, server: flow.server };
        let port = self.allocator.port(pair, flow.server_port, now).ok_or(OpenRefusal::NoPort)?;
        self.allocator.count_port(flow.client);
        Ok((admission, port))
    }

    fn insert_opening(&mut self, packet: &[u8], flow: Flow, admission: Admission, port: u16, now: Now) -> u32 {
        let ip = ipv4::Packet::new_unchecked(packet);
        let segment = tcp::Packet::new_unchecked(ip.payload());
        let Admission { external, policy } = admission;
        let rule = policy.rule.clone();
        let timestamps = tcp::options::timestamps(segment.options());
        let data = ConnectionData {
            state: ConnectionState::Opening,
            up: Stream::new(segment.seq() + 1),
            down: None,
            client: Peer { window: segment.window(), timestamps, tos: ip.tos() },
            server: Peer::default(),
            started: false,
            one_call: false,
            first_fin: None,
            connected: now,
            seen: (now, now),
            leaving: None,
        };
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection {
            id,
            flow,
            external,
            external_port: port,
            policy: self.policies.intern(policy),
            client_isn: segment.seq(),
            created: now,
            data,
            unsaved: Unsaved::default(),
            next_call: 0,
            grace: Now(0),
            finished: None,
            ended: None,
            armed: None,
            half_open: false,
        };
        let index = self.enter(connection);
        self.counters.connections_opened += 1;
        self.note(Event::Opened { flow, external, external_port: port, rule });
        index
    }

    /// Puts a connection into all tables and counts.
    pub(super) fn enter(&mut self, mut connection: Connection) -> u32 {
        let flow = connection.flow;
        let outer = (connection.external, connection.external_port, flow.server, flow.server_port);
        connection.half_open = !connection.data.started;
        if connection.half_open {
            *self.half_open_clients.entry(flow.client).or_default() += 1;
            *self.half_open_servers.entry((flow.server, flow.server_port)).or_default() += 1;
        }
        self.sessions.add(&connection.policy.service, flow.client);
        self.live_connections += 1;
        let index = self.connections.insert(connection);
        self.by_flow.insert(flow, index);
        self.by_outer.insert(outer, index);
        index
    }

    /// It waits for its first message no longer.
    pub(super) fn leave_half_open(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if !std::mem::take(&mut connection.half_open) {
            return;
        }
        let flow = connection.flow;
        super::ids::one_less(&mut self.half_open_clients, &flow.client);
        super::ids::one_less(&mut self.half_open_servers, &(flow.server, flow.server_port));
    }

    /// A handshake segment keeps its numbers. Of what it offers only that stays which segments of our own, and streams
    /// cut at other places, can keep to: no ECN, no multipath, no fast open, no signatures.
    pub(super) fn forward_handshake(&mut self, index: u32, to: Side, packet: &mut [u8]) -> Verdict {
        let Some(connection) = self.connections.get(index) else { return Verdict::Consumed };
        let mut ip = ipv4::Packet::new_unchecked(&mut *packet);
        let mut segment = tcp::Packet::new_unchecked(ip.payload_mut());
        segment.set_flags(segment.flags().without(ECN));
        let others: Vec<u8> = tcp::options::iter(segment.options())
            .filter_map(|option| match option {
                tcp::options::TcpOption::Other { kind, .. } => Some(kind),
                tcp::options::TcpOption::Mss(_)
                | tcp::options::TcpOption::WindowScale(_)
                | tcp::options::TcpOption::SackPermitted
                | tcp::options::TcpOption::Sack(_)
                | tcp::options::TcpOption::Timestamps { .. } => None,
            })
            .collect();
        for kind in others {
            tcp::options::blank(segment.options_mut(), kind);
        }
        super::segment::readdress(connection, to, packet);
        Verdict::Forward(to)
    }
}

/// The RST that answers a segment nobody knows (RFC 9293 §3.5.2), in the name of its destination.
fn reset_for(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = ipv4::Packet::new_checked(packet).ok()?;
    let segment = tcp::Packet::new_checked(ip.payload()).ok()?;
    if segment.rst() {
        return None;
    }
    let length = segment.payload().len() as u32 + u32::from(segment.syn()) + u32::from(segment.fin());
    let (seq, ack, flags) = if segment.flags().contains(tcp::Flags::ACK) {
        (segment.ack(), crate::wire::Seq(0), tcp::Flags::RST)
    } else {
        (crate::wire::Seq(0), segment.seq() + length, tcp::Flags::RST.with(tcp::Flags::ACK))
    };
    let header = tcp::Repr {
        src_port: segment.dst_port(),
        dst_port: segment.src_port(),
        seq,
        ack,
        flags,
        window: 0,
        timestamps: None,
    };
    let ip = ipv4::Repr {
        src: ip.dst(),
        dst: ip.src(),
        protocol: ipv4::PROTOCOL_TCP,
        tos: 0,
        ttl: TTL,
        id: 0,
        dont_fragment: true,
        payload_len: 0,
    };
    tcp::datagram(&ip, &header, &[]).ok()
}
