//! One engine between many clients and servers, with a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use callgate_pptp::wire::{Seq, ipv4, tcp};
use callgate_pptp::{
    Admission, Admit, CallPath, Change, Command, Engine, Event, Flow, Limits, Now, Policy, Refusal, Side, Verdict,
};

use super::ends::End;
use super::messages;

pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

pub(crate) fn client_addr(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + 2 + number)
}

pub(crate) fn policy() -> Policy {
    Policy {
        rule: "pos/tills".into(),
        service: "pos/pptp".into(),
        alg: "pos/alg".into(),
        echo_timeout_ms: 180_000,
        idle_timeout_ms: 0,
        max_calls: 0,
        max_sessions: 0,
        strict: true,
    }
}

pub(crate) struct Always(pub(crate) Policy);

impl Admit for Always {
    fn admit(&mut self, _: Flow) -> Result<Admission, Refusal> {
        Ok(Admission { external: EXTERNAL, policy: self.0.clone() })
    }
}

/// The engine with what has come out of it.
pub(crate) struct Pair {
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    pub(crate) now: Now,
    pub(crate) journal: Vec<Change>,
    pub(crate) events: Vec<Event>,
    pub(crate) clients: BTreeMap<(Ipv4Addr, u16), End>,
    pub(crate) servers: BTreeMap<(Ipv4Addr, u16), End>,
    /// Paths that are open.
    pub(crate) paths: BTreeSet<CallPath>,
    /// GRE and ICMP that came out, not taken by an end.
    pub(crate) at_client: Vec<Vec<u8>>,
    pub(crate) at_server: Vec<Vec<u8>>,
    /// The process is killed while it carries out what the next packet leads to: after so many commands.
    pub(crate) crash: Option<usize>,
    /// Servers answer each SYN with RST.
    pub(crate) refusing: bool,
    /// The connection that reached a server last.
    newest: Option<(Ipv4Addr, u16)>,
    next_isn: u32,
}

/// A connection by its two ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) client: (Ipv4Addr, u16),
    pub(crate) server: (Ipv4Addr, u16),
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            engine: Engine::new(limits, 42),
            policy: policy(),
            now: Now(1_000_000),
            journal: Vec::new(),
            events: Vec::new(),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            paths: BTreeSet::new(),
            at_client: Vec::new(),
            at_server: Vec::new(),
            crash: None,
            refusing: false,
            newest: None,
            next_isn: 0xffff_ff00,
        }
    }

    /// A packet of a client goes in; everything that follows from it happens.
    pub(crate) fn up(&mut self, mut packet: Vec<u8>) {
        let verdict = self.engine.from_client(&mut packet, &mut Always(self.policy.clone()), self.now);
        self.settle(verdict, packet);
    }

    /// A packet of a server goes in.
    pub(crate) fn down(&mut self, mut packet: Vec<u8>) {
        let verdict = self.engine.from_server(&mut packet, self.now);
        self.settle(verdict, packet);
    }

    pub(crate) fn settle(&mut self, verdict: Verdict, packet: Vec<u8>) {
        let mut out = Vec::new();
        let mut commands: Vec<Command> = std::iter::from_fn(|| self.engine.poll_command()).collect();
        let (mut verdict, crash) = (verdict, self.crash.take());
        if let Some(at) = crash.map(|at| at % (commands.len() + 2)) {
            if at <= commands.len() {
                verdict = Verdict::Consumed;
            }
            commands.truncate(at);
        }
        for command in commands {
            match command {
                Command::Persist(change) => self.journal.push(change),
                Command::Send { to, packet } => out.push((to, packet)),
                Command::OpenPath(path) => drop(self.paths.insert(path)),
                Command::ClosePath(path) => assert!(self.paths.remove(&path), "closed, but not open: {path:?}"),
                Command::Note(event) => self.events.push(event),
            }
        }
        // Of thousands of calls not after every packet.
        if crash.is_none() && self.paths.len() < 100 {
            assert_eq!(self.paths, self.engine.paths().collect(), "paths are those of the calls that are up");
        }
        if let Verdict::Forward(to) = verdict {
            out.push((to, packet));
        }
        if crash.is_some() {
            self.restart();
        }
        for (to, packet) in out {
            self.deliver(to, packet);
        }
    }

    fn deliver(&mut self, to: Side, packet: Vec<u8>) {
        let ip = ipv4::Packet::new_checked(&packet[..]).unwrap();
        if ip.protocol() != ipv4::PROTOCOL_TCP {
            match to {
                Side::Client => self.at_client.push(packet),
                Side::Server => self.at_server.push(packet),
            }
            return;
        }
        let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
        match to {
            Side::Client => {
                let key = (ip.dst(), segment.dst_port());
                let answer = self.clients.get_mut(&key).and_then(|end| end.take(&packet));
                answer.into_iter().for_each(|answer| self.up(answer));
            }
            Side::Server => {
                let key = (ip.src(), segment.src_port());
                if segment.syn() {
                    assert_eq!(ip.src(), EXTERNAL);
                    self.next_isn = self.next_isn.wrapping_add(77_777);
                    let mut end = End::new(ip.dst(), segment.dst_port(), key.0, key.1, self.next_isn);
                    end.take(&packet);
                    if self.refusing {
                        self.down(end.packet(Seq(0), tcp::Flags::RST.with(tcp::Flags::ACK), &[]));
                        return;
                    }
                    let syn_ack = end.packet(end.next, tcp::Flags::SYN.with(tcp::Flags::ACK), &[]);
                    end.next += 1;
                    self.servers.insert(key, end);
                    self.newest = Some(key);
                    self.down(syn_ack);
                    return;
                }
                let answer = self.servers.get_mut(&key).and_then(|end| end.take(&packet));
                answer.into_iter().for_each(|answer| self.down(answer));
            }
        }
    }

    /// TCP handshake of a client's port with SERVER.
    pub(crate) fn connect(&mut self, client: Ipv4Addr, port: u16) -> Link {
        self.connect_to(client, port, SERVER)
    }

    pub(crate) fn connect_to(&mut self, client: Ipv4Addr, port: u16, server: Ipv4Addr) -> Link {
        self.newest = None;
        let mut end = End::new(client, port, server, 1723, u32::MAX - 60);
        let syn = end.syn();
        self.clients.insert((client, port), end);
        self.up(syn);
        let ack = self.clients[&(client, port)].ack();
        self.up(ack);
        Link { client: (client, port), server: self.newest.unwrap_or((EXTERNAL, 0)) }
    }

    /// The client resets its connection.
    pub(crate) fn client_resets(&mut self, link: Link) {
        let client = &self.clients[&link.client];
        let reset = client.packet(client.next, tcp::Flags::RST, &[]);
        self.up(reset);
    }

    /// The client says this.
    pub(crate) fn client_says(&mut self, link: Link, bytes: &[u8]) {
        let packet = self.clients.get_mut(&link.client).unwrap().data(bytes);
        self.up(packet);
    }

    /// The server says this.
    pub(crate) fn server_says(&mut self, link: Link, bytes: &[u8]) {
        let packet = self.servers.get_mut(&link.server).unwrap().data(bytes);
        self.down(packet);
    }

    /// Everything the server has got so far, message by message.
    pub(crate) fn at_server(&self, link: Link) -> Vec<Vec<u8>> {
        messages::split(&self.servers[&link.server].got)
    }

    /// Everything the client has got so far, message by message.
    pub(crate) fn at_client(&self, link: Link) -> Vec<Vec<u8>> {
        messages::split(&self.clients[&link.client].got)
    }

    /// External end of the connection that reached a server last.
    pub(crate) fn newest(&self) -> (Ipv4Addr, u16) {
        self.newest.unwrap()
    }

    /// A connection with SCCRQ and SCCRP done.
    pub(crate) fn start(&mut self, client: Ipv4Addr, port: u16) -> Link {
        let link = self.connect(client, port);
        self.client_says(link, &messages::start_request());
        self.server_says(link, &messages::start_reply());
        link
    }

    /// A call of this client id answered with this PAC id; the id the server knows.
    pub(crate) fn call(&mut self, link: Link, pns: u16, pac: u16) -> u16 {
        self.client_says(link, &messages::outgoing_request(pns));
        let request = self.at_server(link).pop().unwrap();
        let translated = u16::from_be_bytes([request[12], request[13]]);
        self.server_says(link, &messages::outgoing_reply(pac, translated, 1));
        translated
    }

    /// Time passes; what is due is done on the way.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now.after(ms);
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.engine.handle_timeout(self.now);
            self.settle(Verdict::Consumed, Vec::new());
        }
        self.now = end;
    }

    /// The process ends without warning and starts again from its journal, through its text form.
    pub(crate) fn restart(&mut self) {
        let text: Vec<String> = self.journal.iter().map(|change| serde_json::to_string(change).unwrap()).collect();
        let changes = text.iter().map(|line| serde_json::from_str::<Change>(line).unwrap());
        self.engine = Engine::restore(self.engine.limits().clone(), 43, changes, self.now);
        assert_eq!(self.engine.poll_command(), None);
        self.paths = self.engine.paths().collect();
    }
}
