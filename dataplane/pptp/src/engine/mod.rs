//! The whole ALG of a node: packets and `now` in, verdicts and commands out.
//!
//! ```text
//!  from_client / from_server ─► TCP  ─► open / segment ─► streams ─► message ─► calls
//!                            ├► GRE  ─► call table (flat) ─► rewritten in place
//!                            └► ICMP ─► inner header translated, or dropped
//!  handle_timeout ─► one deadline a connection, one a call ─► send again, time out, tell both sides
//!  paths          ─► which calls' GRE may pass beside all this
//!  poll_command  ◄─ Persist before Send, Note when somebody wants to know
//! ```
//!
//! After every call the shell drains `poll_command` and only then carries out the `Verdict`.

mod allocator;
pub(crate) mod call;
pub(crate) mod calls;
mod connection;
mod counters;
mod departed;
mod due;
mod event;
pub(crate) mod fragments;
mod gre;
pub(crate) mod hash;
pub(crate) mod icmp;
pub(crate) mod ids;
mod lend;
mod lifecycle;
mod limits;
mod listing;
mod message;
mod open;
mod oversize;
mod paths;
mod patience;
pub(crate) mod policies;
mod pool;
pub(crate) mod random;
mod record;
mod repeated;
mod replay;
mod restore;
mod segment;
pub(crate) mod shares;
pub(crate) mod slab;
pub(crate) mod timers;
mod view;

pub use counters::Counters;
pub use event::{CallEnd, CallIds, CallRefusal, CloseReason, Event, OpenRefusal, Severity};
pub use limits::Limits;
pub use paths::Seen;
pub use record::{Change, ConnectionRecord, ConnectionUpdate, Quarantined, QuarantinedWhat};
pub use replay::Replay;
pub use view::{CallDirection, CallState, CallView, CallsByObject, ConnectionState, ConnectionView, Traffic};

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use allocator::Allocator;
use calls::{Calls, Key};
use connection::Connection;
use fragments::Fragments;
use hash::{FlatMap, Seeded};
use patience::Patience;
use policies::Policies;
use shares::Shares;
use slab::Slab;
use timers::{Timer, Timers};

use crate::types::{Admit, Command, Flow, Now, Side, Verdict};
use crate::wire::ipv4;

/// Time to live of packets the engine makes itself.
const TTL: u8 = 64;

/// The server's view of a connection: external address and port, server address and port.
type Outer = (Ipv4Addr, u16, Ipv4Addr, u16);

/// The PPTP ALG of one node.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    counters: Counters,
    commands: VecDeque<Command>,
    connections: Slab<Connection>,
    /// Those of them that have not ended.
    live_connections: u32,
    by_flow: FlatMap<Flow, u32>,
    by_outer: FlatMap<Outer, u32>,
    next_id: u64,
    calls: Calls,
    allocator: Allocator,
    /// Call IDs of servers that live calls of the shared mode have, with their clients.
    lent_pacs: BTreeMap<(Key, Ipv4Addr), u32>,
    timers: Timers,
    fragments: Fragments,
    /// GRE of the server held for calls whose reply is under way, by the call's serial number.
    held: BTreeMap<u64, Vec<Vec<u8>>>,
    /// One copy of each policy in use, by rule, service and ALG.
    policies: Policies,
    /// Connections by service, calls by ALG: for `maxSessions` and `maxCalls`.
    sessions: Shares,
    calls_of_alg: Shares,
    half_open_clients: BTreeMap<Ipv4Addr, u32>,
    half_open_servers: BTreeMap<(Ipv4Addr, u16), u32>,
    patience: Patience,
    last_drop_note: Option<Now>,
}

impl Engine {
    /// An engine without any connection. `seed` decides where allocation starts and how tables are hashed.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let hash = Seeded::new(seed);
        Self {
            counters: Counters::default(),
            commands: VecDeque::new(),
            connections: Slab::default(),
            live_connections: 0,
            by_flow: FlatMap::with_hasher(hash),
            by_outer: FlatMap::with_hasher(hash),
            next_id: 1,
            calls: Calls::new(seed),
            allocator: Allocator::new(&limits.port_ranges, seed),
            lent_pacs: BTreeMap::new(),
            timers: Timers::default(),
            fragments: Fragments::default(),
            held: BTreeMap::new(),
            policies: Policies::default(),
            sessions: Shares::default(),
            calls_of_alg: Shares::default(),
            half_open_clients: BTreeMap::new(),
            half_open_servers: BTreeMap::new(),
            patience: Patience::default(),
            last_drop_note: None,
            limits,
        }
    }

    /// An IPv4 packet from the pods' side (TCP to a service with an ALG, GRE, ICMP errors). Rewritten in place when
    /// the verdict is `Forward(Side::Server)`. `packet` is exactly one packet, from its IPv4 header on.
    pub fn from_client(&mut self, packet: &mut [u8], admit: &mut dyn Admit, now: Now) -> Verdict {
        let Some((protocol, is_fragment)) = self.accept(Side::Client, packet) else { return Verdict::Consumed };
        match protocol {
            ipv4::PROTOCOL_GRE => self.gre(Side::Client, packet, now),
            ipv4::PROTOCOL_TCP if !is_fragment => self.tcp_from_client(packet, admit, now),
            ipv4::PROTOCOL_ICMP if !is_fragment => {
                self.icmp_from_client(packet, now);
                Verdict::Consumed
            }
            _ => self.other_protocol(protocol),
        }
    }

    /// An IPv4 packet from outside, addressed to an external address. Rewritten in place when the verdict is
    /// `Forward(Side::Client)`.
    pub fn from_server(&mut self, packet: &mut [u8], now: Now) -> Verdict {
        let Some((protocol, is_fragment)) = self.accept(Side::Server, packet) else { return Verdict::Consumed };
        match protocol {
            ipv4::PROTOCOL_GRE => self.gre(Side::Server, packet, now),
            ipv4::PROTOCOL_TCP if !is_fragment => self.tcp_from_server(packet, now),
            ipv4::PROTOCOL_ICMP if !is_fragment => self.icmp_from_server(packet, now),
            _ => self.other_protocol(protocol),
        }
    }

    /// The next effect, in order; `None` when there is nothing (more) to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When `handle_timeout` has to be called next; may change with every call of another method.
    pub fn poll_timeout(&self) -> Option<Now> {
        self.timers.next()
    }

    /// Totals since the engine was made.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Protocol of a sound packet that may travel on, and whether it is a fragment.
    fn accept(&mut self, from: Side, packet: &[u8]) -> Option<(u8, bool)> {
        // What comes from outside was read before the kernel has looked at it; what comes from a client, the kernel has routed.
        let sound = |ip: &ipv4::Packet<&[u8]>| from == Side::Client || ip.verify_checksum();
        let Some(ip) = ipv4::Packet::new_checked(packet).ok().filter(sound) else {
            self.counters.drop_ip_malformed += 1;
            return None;
        };
        if ip.ttl() <= 1 {
            self.counters.drop_ttl += 1;
            return None;
        }
        Some((ip.protocol(), ip.is_fragment()))
    }

    fn other_protocol(&mut self, protocol: u8) -> Verdict {
        match protocol {
            ipv4::PROTOCOL_TCP => self.counters.drop_fragment_tcp += 1,
            ipv4::PROTOCOL_ICMP => self.counters.drop_icmp_other += 1,
            _ => self.counters.drop_ip_protocol += 1,
        }
        Verdict::Consumed
    }

    fn send(&mut self, to: Side, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            self.commands.push_back(Command::Send { to, packet });
        }
    }

    fn note(&mut self, event: Event) {
        self.commands.push_back(Command::Note(event));
    }

    /// Tells people about a dropped packet, at most once in `note_interval_ms`.
    fn note_dropped(&mut self, from: Side, packet: &[u8], what: &'static str, now: Now) {
        if self.last_drop_note.is_some_and(|last| now.since(last) < self.limits.note_interval_ms) {
            return;
        }
        self.last_drop_note = Some(now);
        let ip = ipv4::Packet::new_unchecked(packet);
        self.note(Event::Dropped { from, source: ip.src(), destination: ip.dst(), what });
    }

    /// Sees to it that a connection is woken when it has to be.
    fn arm(&mut self, index: u32) {
        let Some(at) = self.deadline(index) else { return };
        let Some(connection) = self.connections.get_mut(index) else { return };
        self.timers.no_later(&mut connection.armed, at, Timer::Connection(index, connection.id));
    }
}
