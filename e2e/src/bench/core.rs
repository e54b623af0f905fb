//! The engine alone: packets in memory, no sockets, one thread.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use callgate_pptp::wire::{Seq, gre, ipv4, tcp};
use callgate_pptp::{Admission, Admit, Command, Engine, Flow, Limits, Now, Policy, Refusal, Side, Verdict};

use super::site::{EXTERNAL, SERVERS};
use crate::lab::control::{call_reply, call_request, start_reply, start_request};

/// What the engine takes, ns; each list is one value a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Core {
    /// A GRE packet from the server, by number of live calls.
    pub gre: Vec<(usize, Vec<f64>)>,
    /// One control message of a call set-up (four messages, their share of the TCP handshake, and the records to be saved).
    pub message: Vec<f64>,
}

struct Always;

impl Admit for Always {
    fn admit(&mut self, _: Flow) -> Result<Admission, Refusal> {
        let name = || "bench/bench".to_owned();
        let policy = Policy {
            rule: name(),
            service: name(),
            alg: name(),
            echo_timeout_ms: 0,
            idle_timeout_ms: 0,
            max_calls: 0,
            max_sessions: 0,
            strict: true,
        };
        Ok(Admission { external: EXTERNAL, policy })
    }
}

/// Runs `rounds` rounds.
pub fn measure(rounds: usize) -> Core {
    let mut core = Core::default();
    for calls in [1, 1_000, 20_000] {
        let (mut engine, ids, per_message) = set_up(calls);
        if calls == 20_000 {
            core.message.push(per_message);
        }
        let packets: Vec<Vec<u8>> = ids.iter().map(|id| gre_packet(*id)).collect();
        let values = (0..rounds).map(|_| gre_ns(&mut engine, &packets)).collect();
        core.gre.push((calls, values));
    }
    core.message.extend((1..rounds).map(|_| set_up(20_000).2));
    core
}

fn gre_ns(engine: &mut Engine, packets: &[Vec<u8>]) -> f64 {
    const PACKETS: usize = 1_000_000;
    let mut buffer = packets[0].clone();
    let begun = Instant::now();
    for packet in packets.iter().cycle().take(PACKETS) {
        buffer.copy_from_slice(packet);
        let verdict = engine.from_server(black_box(&mut buffer), Now(1));
        assert_eq!(verdict, Verdict::Forward(Side::Client));
    }
    begun.elapsed().as_nanos() as f64 / PACKETS as f64
}

fn gre_packet(id: u16) -> Vec<u8> {
    let header = gre::Repr { call_id: id, seq: Some(1), ack: None, payload_len: 48 };
    let ip = ipv4::Repr { protocol: ipv4::PROTOCOL_GRE, payload_len: 60, ..ends(SERVERS[0], EXTERNAL) };
    let mut packet = vec![0; 80];
    let _ = ip.emit(&mut packet).and_then(|()| header.emit(&mut packet[ipv4::HEADER_LEN..]));
    packet
}

fn ends(src: Ipv4Addr, dst: Ipv4Addr) -> ipv4::Repr {
    ipv4::Repr { src, dst, protocol: 6, tos: 0, ttl: 64, id: 0, dont_fragment: true, payload_len: 0 }
}

/// One control connection a call; the engine, the translated ids, ns a message.
fn set_up(calls: usize) -> (Engine, Vec<u16>, f64) {
    let limits = Limits { half_open_per_client: u32::MAX, half_open_per_server: u32::MAX, ..Limits::default() };
    let mut engine = Engine::new(limits, 7);
    let mut ids = Vec::with_capacity(calls);
    let begun = Instant::now();
    for number in 0..calls {
        let client = Ipv4Addr::from_bits(0x0a00_0002 + number as u32);
        let mut script = Script { engine: &mut engine, client, port: 0, up: Seq(1), down: Seq(1) };
        ids.push(script.call(number as u16));
    }
    let ns = begun.elapsed().as_nanos() as f64 / (calls * 4) as f64;
    (engine, ids, ns)
}

struct Script<'a> {
    engine: &'a mut Engine,
    client: Ipv4Addr,
    port: u16,
    up: Seq,
    down: Seq,
}

impl Script<'_> {
    fn call(&mut self, number: u16) -> u16 {
        let ack = tcp::Flags::ACK;
        self.up(tcp::Flags::SYN, &[]);
        self.up += 1;
        self.down(tcp::Flags::SYN.with(ack), &[]);
        self.down += 1;
        self.up(ack, &[]);
        self.up(ack, &start_request());
        self.down(ack, &start_reply());
        let request = self.up(ack, &call_request(number));
        let at = request.len() - 168 + 12;
        let id = u16::from_be_bytes([request[at], request[at + 1]]);
        self.down(ack, &call_reply(number, id));
        id
    }

    /// A segment of the client; the last packet that leaves for the server.
    fn up(&mut self, flags: tcp::Flags, payload: &[u8]) -> Vec<u8> {
        let header = tcp::Repr {
            src_port: 40_000,
            dst_port: 1723,
            seq: self.up,
            ack: self.down,
            flags,
            window: 1_000,
            timestamps: None,
        };
        let mut packet = tcp::datagram(&ends(self.client, SERVERS[0]), &header, payload).unwrap_or_default();
        self.up += payload.len() as u32;
        let verdict = self.engine.from_client(&mut packet, &mut Always, Now(1));
        let sent = self.drain(verdict, packet);
        if flags == tcp::Flags::SYN {
            self.port = u16::from_be_bytes([sent[20], sent[21]]);
        }
        sent
    }

    fn down(&mut self, flags: tcp::Flags, payload: &[u8]) {
        let header = tcp::Repr {
            src_port: 1723,
            dst_port: self.port,
            seq: self.down,
            ack: self.up,
            flags,
            window: 1_000,
            timestamps: None,
        };
        let mut packet = tcp::datagram(&ends(SERVERS[0], EXTERNAL), &header, payload).unwrap_or_default();
        self.down += payload.len() as u32;
        let verdict = self.engine.from_server(&mut packet, Now(1));
        self.drain(verdict, packet);
    }

    /// Takes what the shell would carry out, records as text included.
    fn drain(&mut self, verdict: Verdict, packet: Vec<u8>) -> Vec<u8> {
        let mut last = Vec::new();
        while let Some(command) = self.engine.poll_command() {
            match command {
                Command::Persist(change) => drop(black_box(serde_json::to_vec(&change))),
                Command::Send { packet, .. } => last = packet,
                Command::OpenPath(path) | Command::ClosePath(path) => drop(black_box(path)),
                Command::Note(event) => drop(black_box(event)),
            }
        }
        match verdict {
            Verdict::Forward(_) => packet,
            Verdict::Consumed => last,
        }
    }
}
