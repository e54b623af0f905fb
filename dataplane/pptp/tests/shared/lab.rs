//! One shared mode, its in-path engine, clients and a server, with a virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use callgate_pptp::shared::{
    Command, Config, ConnectError, Event, Gone, Leg, SessionId, SessionState, Shared, Sizes, UpstreamId,
};
use callgate_pptp::wire::control::{Sender, validate};
use callgate_pptp::{
    Admission, CallDirection, CallState, Change, Engine, Flow, Limits, Now, Policy, Side, Traffic, Verdict,
};

use super::messages::{self, gre, read_gre};
use super::peer::{Back, Server};

pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// How a leg was taken away from its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Closed,
    Reset,
}

/// What a client does with a call of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rings {
    Ignores,
    Refuses,
    /// Under this Call ID.
    Accepts(u16),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) got: Vec<Vec<u8>>,
    pub(crate) cut: Option<Cut>,
    /// Whether it reads what it is told.
    pub(crate) reads: bool,
    /// Whether it answers Echo-Request.
    pub(crate) answers: bool,
    pub(crate) rings: Rings,
}

/// A call a client has, with the ids it has on each leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallView {
    pub(crate) flow: Flow,
    pub(crate) tunnel: Option<UpstreamId>,
    pub(crate) client_pns: Option<u16>,
    pub(crate) client_pac: Option<u16>,
    pub(crate) server_pns: Option<u16>,
    pub(crate) server_pac: Option<u16>,
    pub(crate) direction: CallDirection,
    pub(crate) is_up: bool,
    pub(crate) up: Traffic,
    pub(crate) down: Traffic,
}

/// Calls clients have, sorted by flow and Call IDs.
fn calls_of(shared: &Shared) -> Vec<CallView> {
    let view = |call: callgate_pptp::CallView| CallView {
        flow: call.flow,
        tunnel: call.tunnel.map(UpstreamId),
        client_pns: call.pns_id,
        client_pac: call.pac_id,
        server_pns: call.translated_id,
        server_pac: call.pac_id_outside,
        direction: call.direction,
        is_up: call.state == CallState::Up,
        up: call.up,
        down: call.down,
    };
    let mut calls: Vec<CallView> = shared.calls(&|_| 0).into_iter().map(view).collect();
    calls.sort_by_key(|call| (call.flow, call.client_pns, call.server_pac));
    calls
}

/// Something on its way to the gateway.
#[derive(Debug)]
enum Input {
    Connected(UpstreamId),
    Failed(UpstreamId),
    Server(UpstreamId, Back),
    Client(SessionId, Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) shared: Shared,
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    /// Of clients that come from now on.
    pub(crate) external: Ipv4Addr,
    /// To whom the port of each connection to the server is counted.
    pub(crate) owners: BTreeMap<UpstreamId, Option<Ipv4Addr>>,
    pub(crate) server: Server,
    pub(crate) now: Now,
    pub(crate) clients: BTreeMap<SessionId, Client>,
    pub(crate) upstreams: BTreeMap<UpstreamId, Option<Cut>>,
    pub(crate) events: Vec<Event>,
    pub(crate) journal: Vec<Change>,
    /// Every command but notes, in order.
    pub(crate) log: Vec<Command>,
    pub(crate) packets: Vec<(Side, Vec<u8>)>,
    /// Whether TCP to the server comes about.
    pub(crate) reachable: bool,
    /// Whether the server reads what it is told.
    pub(crate) server_reads: bool,
    inputs: VecDeque<Input>,
    next_port: u16,
}

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

impl Lab {
    pub(crate) fn new(channels: u16) -> Self {
        Self::with_config(channels, Config::default())
    }

    pub(crate) fn with_config(channels: u16, config: Config) -> Self {
        Self::with_limits(channels, config, Limits::default())
    }

    pub(crate) fn with_limits(channels: u16, config: Config, limits: Limits) -> Self {
        Self {
            shared: Shared::new(config, limits.clone(), 42),
            engine: Engine::new(limits, 42),
            policy: policy(),
            external: EXTERNAL,
            owners: BTreeMap::new(),
            server: Server::new(channels),
            now: Now(1_000_000),
            clients: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            events: Vec::new(),
            journal: Vec::new(),
            log: Vec::new(),
            packets: Vec::new(),
            reachable: true,
            server_reads: true,
            inputs: VecDeque::new(),
            next_port: 40_000,
        }
    }

    /// Carries out what the gateway wants, until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        loop {
            while let Some(command) = self.shared.poll_command() {
                if !matches!(command, Command::Note(_)) {
                    self.log.push(command.clone());
                }
                self.carry_out(command);
            }
            let Some(input) = self.inputs.pop_front() else { return };
            let (engine, now) = (&mut self.engine, self.now);
            match input {
                Input::Connected(id) => {
                    self.server.connect(id);
                    self.shared.upstream_connected(id, engine, now);
                }
                Input::Failed(id) => {
                    self.upstreams.insert(id, Some(Cut::Closed));
                    self.shared.upstream_failed(id, ConnectError::Refused, engine, now);
                }
                Input::Server(id, Back::Says(bytes)) => self.shared.upstream_bytes(id, &bytes, engine, now),
                Input::Server(id, Back::Ends(gone)) => {
                    self.server.gone(id);
                    if gone == Gone::Reset {
                        self.upstreams.insert(id, Some(Cut::Reset));
                    }
                    self.shared.upstream_closed(id, gone, engine, now);
                }
                Input::Client(id, bytes) => self.shared.client_bytes(id, &bytes, engine, now),
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open { upstream, external, server, server_port, client } => {
                assert_eq!((server, server_port), (SERVER, 1723));
                assert!([EXTERNAL, self.external].contains(&external));
                self.owners.insert(upstream, client);
                assert_eq!(self.upstreams.insert(upstream, None), None, "a name is used twice");
                let input = if self.reachable { Input::Connected(upstream) } else { Input::Failed(upstream) };
                self.inputs.push_back(input);
            }
            Command::Write { leg: Leg::Client(id), message } => {
                // A PAC, but that some send Set-Link-Info too, and that passes.
                let sender = if message[9] == 15 { Sender::Pns } else { Sender::Pac };
                validate(&message, sender, true).expect("exactly one message of a PAC");
                let client = self.clients.get_mut(&id).expect("a client that was accepted");
                assert_eq!(client.cut, None, "nothing is said behind the end");
                client.got.push(message.clone());
                if client.reads {
                    self.shared.written(Leg::Client(id), message.len(), &mut self.engine, self.now);
                }
                let (pac, rings) = (id_at_12(&message), self.clients[&id].rings);
                match rings {
                    Rings::Refuses if message[9] == 9 => {
                        self.inputs.push_back(Input::Client(id, messages::incoming_reply(0, pac, 3)));
                    }
                    Rings::Accepts(pns) if message[9] == 9 => {
                        self.inputs.push_back(Input::Client(id, messages::incoming_reply(pns, pac, 1)));
                    }
                    Rings::Ignores | Rings::Refuses | Rings::Accepts(_) => {}
                }
                if message[9] == 5 && self.clients[&id].answers {
                    let reply = messages::message(6, 20, &[(12, &message[12..16]), (16, &[1])]);
                    self.inputs.push_back(Input::Client(id, reply));
                }
            }
            Command::Write { leg: Leg::Upstream(id), message } => {
                // A PNS, but that it may refuse a call.
                let sender = if message[9] == 8 { Sender::Pac } else { Sender::Pns };
                validate(&message, sender, true).expect("exactly one message of a PNS");
                assert_eq!(self.upstreams[&id], None, "nothing is said behind the end");
                if self.server_reads {
                    self.shared.written(Leg::Upstream(id), message.len(), &mut self.engine, self.now);
                }
                let back = self.server.hear(id, &message);
                self.inputs.extend(back.into_iter().map(|back| Input::Server(id, back)));
            }
            Command::Close { leg } => self.cut(leg, Cut::Closed),
            Command::Reset { leg } => self.cut(leg, Cut::Reset),
            Command::Persist(change) => self.journal.push(change),
            Command::Send { to, packet } => self.packets.push((to, packet)),
            Command::Note(event) => self.events.push(event),
        }
    }

    fn cut(&mut self, leg: Leg, how: Cut) {
        match leg {
            Leg::Client(id) => {
                let client = self.clients.get_mut(&id).unwrap();
                assert_eq!(client.cut.replace(how), None, "cut twice");
            }
            Leg::Upstream(id) => {
                assert_eq!(self.upstreams.insert(id, Some(how)), Some(None), "cut twice");
                self.server.gone(id);
            }
        }
    }

    /// A client's TCP connection.
    pub(crate) fn connect(&mut self, number: u32) -> SessionId {
        self.try_connect(number).expect("admitted")
    }

    pub(crate) fn try_connect(&mut self, number: u32) -> Result<SessionId, callgate_pptp::OpenRefusal> {
        self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        let addr = client_addr(number);
        let flow = Flow { client: addr, client_port: self.next_port, server: SERVER, server_port: 1723 };
        let admission = Admission { external: self.external, policy: self.policy.clone() };
        let id = self.shared.client_connected(flow, admission, &mut self.engine, self.now)?;
        let client = Client { got: Vec::new(), cut: None, reads: true, answers: true, rings: Rings::Ignores };
        self.clients.insert(id, client);
        self.settle();
        Ok(id)
    }

    /// The client says this.
    pub(crate) fn says(&mut self, id: SessionId, bytes: &[u8]) {
        self.shared.client_bytes(id, bytes, &mut self.engine, self.now);
        self.settle();
    }

    /// The client ends its connection.
    pub(crate) fn leaves(&mut self, id: SessionId, gone: Gone) {
        self.shared.client_closed(id, gone, &mut self.engine, self.now);
        self.settle();
    }

    /// The server says this.
    pub(crate) fn server_says(&mut self, id: UpstreamId, bytes: &[u8]) {
        self.inputs.push_back(Input::Server(id, Back::Says(bytes.to_vec())));
        self.settle();
    }

    /// The server does this on its own.
    pub(crate) fn server_does(&mut self, id: UpstreamId, back: Back) {
        self.inputs.push_back(Input::Server(id, back));
        self.settle();
    }

    /// A client that has been answered.
    pub(crate) fn start(&mut self, number: u32) -> SessionId {
        let id = self.connect(number);
        self.says(id, &messages::start_request());
        id
    }

    /// A client with a call of this id.
    pub(crate) fn start_with_call(&mut self, number: u32, pns: u16) -> SessionId {
        let id = self.start(number);
        self.says(id, &messages::outgoing_request(pns));
        id
    }

    /// What this client was told last.
    pub(crate) fn last(&self, id: SessionId) -> Vec<u8> {
        self.clients[&id].got.last().cloned().unwrap_or_default()
    }

    /// The types of all this client was told.
    pub(crate) fn kinds(&self, id: SessionId) -> Vec<u8> {
        self.clients[&id].got.iter().map(|message| message[9]).collect()
    }

    /// The types of all the server was told on this connection.
    pub(crate) fn server_kinds(&self, id: UpstreamId) -> Vec<u8> {
        self.server.heard.get(&id).into_iter().flatten().map(|message| message[9]).collect()
    }

    /// Connections to the server that live.
    pub(crate) fn live_upstreams(&self) -> Vec<UpstreamId> {
        self.upstreams.iter().filter(|(_, cut)| cut.is_none()).map(|(id, _)| *id).collect()
    }

    /// All calls clients have.
    pub(crate) fn calls(&self) -> Vec<CallView> {
        calls_of(&self.shared)
    }

    /// The calls of a session that are up.
    pub(crate) fn calls_of(&self, id: SessionId) -> Vec<CallView> {
        let flow = self.shared.sessions().into_iter().find(|view| view.session == id).map(|view| view.flow);
        self.calls().into_iter().filter(|call| Some(call.flow) == flow && call.is_up).collect()
    }

    /// One GRE packet each way: it arrives under the right addresses and ids, untouched otherwise.
    pub(crate) fn assert_gre_passes(&mut self, call: &CallView) {
        let (client, text) = (call.flow.client, format!("{:?}", call.flow).into_bytes());
        let (pns, pac) = (call.client_pns.unwrap(), call.server_pac.unwrap());
        let mut packet = gre(client, SERVER, call.client_pac.unwrap(), 1, &text);
        assert_eq!(self.shared.from_client(&mut packet, self.now), Some(Verdict::Forward(Side::Server)));
        assert_eq!(read_gre(&packet), (EXTERNAL, SERVER, pac, text.clone()));
        let mut packet = gre(SERVER, EXTERNAL, call.server_pns.unwrap(), 1, &text);
        assert_eq!(self.shared.from_server(&mut packet, self.now), Some(Verdict::Forward(Side::Client)));
        assert_eq!(read_gre(&packet), (SERVER, client, pns, text));
    }

    /// Every call that is up carries GRE both ways, and the server knows just these calls.
    pub(crate) fn assert_all_calls_live(&mut self, expected: usize) {
        let calls: Vec<CallView> = self.calls().into_iter().filter(|call| call.is_up).collect();
        assert_eq!(calls.len(), expected);
        for call in &calls {
            self.assert_gre_passes(call);
            let known = &self.server.calls[&call.tunnel.unwrap()];
            assert_eq!(known.get(&call.server_pac.unwrap()), Some(&call.server_pns.unwrap()));
        }
        assert_eq!(self.server.call_count(), expected);
    }

    /// Another process goes on: what it has to know goes through text, and the engine comes from the journal. It takes `ms`.
    pub(crate) fn restart(&mut self, ms: u64) {
        let frozen = self.shared.freeze(self.now);
        let text = serde_json::to_string(&frozen).unwrap();
        let limits = self.shared_limits();
        let then = self.now.after(ms);
        let mut engine = Engine::restore(limits.clone(), 42, self.journal.clone(), then);
        let mut shared = Shared::new(self.shared.config().clone(), limits, 1);
        let legs = shared.thaw(serde_json::from_str(&text).unwrap(), &mut engine, then).unwrap();
        let (sessions, tunnels) = (self.shared.sessions(), self.shared.tunnels());
        let mut expected: Vec<Leg> = sessions.iter().map(|view| Leg::Client(view.session)).collect();
        expected.extend(tunnels.iter().map(|view| Leg::Upstream(view.tunnel)));
        let sorted = |mut legs: Vec<Leg>| {
            legs.sort();
            legs
        };
        assert_eq!(sorted(legs), sorted(expected));
        assert_eq!((shared.sizes(), engine.counted()), (self.shared.sizes(), self.engine.counted()));
        assert_eq!(engine.held_pacs(), self.engine.held_pacs());
        if ms == 0 {
            assert_eq!(calls_of(&shared), self.calls());
            assert_eq!(shared.freeze(then), frozen, "nothing is lost on the way");
            assert_eq!((shared.sessions(), shared.tunnels()), (sessions, tunnels));
        }
        (self.shared, self.engine, self.now) = (shared, engine, then);
        self.settle();
    }

    /// Sessions and calls are counted to whom they are of, each once.
    pub(crate) fn assert_counts_are_right(&self) {
        let mut counts = [BTreeMap::new(), BTreeMap::new()];
        for view in self.shared.sessions().into_iter().filter(|view| view.state != SessionState::Closing) {
            *counts[0].entry((self.policy.service.clone(), view.flow.client)).or_insert(0) += 1;
        }
        for call in self.shared.calls(&|_| 0) {
            *counts[1].entry((call.alg, call.flow.client)).or_insert(0) += 1;
        }
        let flat = |of: BTreeMap<(String, Ipv4Addr), u32>| {
            of.into_iter().map(|((name, client), count)| (name, client, count)).collect::<Vec<_>>()
        };
        assert_eq!(self.engine.counted(), counts.map(flat));
    }

    pub(crate) fn shared_limits(&self) -> Limits {
        self.engine.limits().clone()
    }

    /// Time passes; what is due is done on the way.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now.after(ms);
        while let Some(at) = self.shared.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.shared.handle_timeout(&mut self.engine, self.now);
            self.settle();
        }
        self.now = end;
    }

    /// After all have gone and all rests are over nothing is left anywhere.
    pub(crate) fn assert_nothing_left(&mut self) {
        self.wait(600_000);
        self.shared.handle_timeout(&mut self.engine, self.now);
        assert_eq!((self.shared.sizes(), self.engine.counted()), (Sizes::default(), [vec![], vec![]]));
        assert_eq!(self.engine.held_pacs(), 0);
        assert_eq!(self.shared.poll_timeout(), None);
        assert_eq!(self.live_upstreams(), []);
    }
}

pub(crate) fn id(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn id_at_12(bytes: &[u8]) -> u16 {
    id(bytes, 12)
}
