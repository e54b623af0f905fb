//! Expressions of nftables rules, typed (linux/netfilter/nf_tables.h), and their netlink form.

use std::net::Ipv4Addr;

use crate::netlink::attr::Attrs;

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// On to the next base chain.
    Accept,
    /// Away.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into this chain and back.
    Jump(String),
    /// Into this chain and not back.
    Goto(String),
}

/// What register 1 is loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Packet mark, host order.
    Mark,
    /// Name of the incoming link, 16 octets.
    InName,
    /// Name of the outgoing link, 16 octets.
    OutName,
    /// Kind of the incoming link (`bridge`, …), 16 octets; ends the rule for a physical one (Linux 5.6).
    InKind,
    /// Protocol number of the transport header, one octet.
    L4Proto,
    /// Connection mark, host order; ends the rule for a packet without connection.
    CtMark,
    /// Connection state bits, host order; INVALID for a packet without connection.
    CtState,
    /// Direction of the packet in its connection, one octet: 0 original, 1 reply; ends the rule without connection.
    CtDirection,
    /// Type of the destination address by the routing table (RTN_*), host order.
    DestinationType,
    /// Octets of the IPv4 header: offset and length.
    Network(u32, u32),
    /// Octets of the transport header: offset and length; ends the rule where the packet is shorter.
    Transport(u32, u32),
    /// Whether the packet's socket is transparent (IP_TRANSPARENT), one octet; ends the rule for a packet without socket.
    TransparentSocket,
}

/// How a register compares with a value, both as big-endian numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Equal.
    Is = 0,
    /// Different.
    Not = 1,
    /// Not above.
    AtMost = 3,
    /// Not below.
    AtLeast = 5,
}

/// One step of a rule. All work on register 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads the register.
    Load(Load),
    /// Goes on only if the register (its first octets) compares so.
    If(Compare, Vec<u8>),
    /// `register = register & mask ^ xor`, on whole octets.
    Bits { mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on only if the register is in this set.
    In(String),
    /// Goes on only if the register is not in this set.
    NotIn(String),
    /// The verdict this map has for the register; goes on without one.
    VerdictOf(String),
    /// Sets the packet mark from the register.
    SetMark,
    /// Sets the connection mark from the register.
    SetCtMark,
    /// Ends the rule.
    Then(Verdict),
    /// This packet and its answers are not tracked.
    Notrack,
    /// Source NAT to the packet's own source: nobody translates it after that.
    SnatToItself,
    /// Source NAT to this address, and to these ports if given.
    Snat(Ipv4Addr, Option<(u16, u16)>),
    /// Source NAT to the outgoing link's address, and to these ports if given.
    Masquerade(Option<(u16, u16)>),
    /// Gives the packet to the transparent socket that listens at this address and the packet's own port; goes on without one.
    ToListener(Ipv4Addr),
    /// TCP RST.
    RejectReset,
    /// ICMP destination-unreachable with this code.
    RejectIcmp(u8),
    /// Goes on only if more than this many connections have come by here.
    CountOver(u32),
    /// Goes on only so often: this many packets a second, after a burst of so many.
    Limit { per_second: u64, burst: u32 },
    /// Logs with this prefix, at level info.
    Log(String),
    /// Gives a new connection the time-outs of this object.
    Timeouts(String),
    /// Counts packets and bytes.
    Counter,
}

const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG_2: u32 = 2;
const REG_3: u32 = 3;

/// Type of conntrack time-out objects.
pub(super) const TIMEOUT_OBJECT: u32 = 7;

/// A verdict as NFTA_DATA_VERDICT (code, chain).
pub(super) fn verdict_data(verdict: &Verdict) -> Attrs {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    let mut inner = Attrs::new().be32(1, code as u32);
    if let Some(chain) = chain {
        inner = inner.text(2, chain);
    }
    Attrs::new().nest(2, inner)
}

/// Reads NFTA_DATA_VERDICT back.
pub(super) fn read_verdict(data: &[u8]) -> Option<Verdict> {
    use crate::netlink::attr::{find, find_be32, find_text};
    let inner = find(data, 2)?;
    let chain = find_text(inner, 2);
    match (find_be32(inner, 1)?.cast_signed(), chain) {
        (0, _) => Some(Verdict::Drop),
        (1, _) => Some(Verdict::Accept),
        (-3, Some(chain)) => Some(Verdict::Jump(chain)),
        (-4, Some(chain)) => Some(Verdict::Goto(chain)),
        (-5, _) => Some(Verdict::Return),
        (_, _) => None,
    }
}

fn named(name: &str, data: Attrs) -> Attrs {
    Attrs::new().text(1, name).nest(2, data)
}

fn value(bytes: &[u8]) -> Attrs {
    Attrs::new().bytes(1, bytes)
}

fn immediate(register: u32, bytes: &[u8]) -> Attrs {
    named("immediate", Attrs::new().be32(1, register).nest(2, value(bytes)))
}

fn lookup(set: &str, invert: bool) -> Attrs {
    let attrs = Attrs::new().text(1, set).be32(2, REG_1);
    named("lookup", if invert { attrs.be32(5, 1) } else { attrs })
}

impl Load {
    fn encode(self) -> Attrs {
        let meta = |key| named("meta", Attrs::new().be32(2, key).be32(1, REG_1));
        let ct = |key| named("ct", Attrs::new().be32(2, key).be32(1, REG_1));
        let payload = |base, offset, length| {
            named("payload", Attrs::new().be32(1, REG_1).be32(2, base).be32(3, offset).be32(4, length))
        };
        match self {
            Self::Mark => meta(3),
            Self::InName => meta(6),
            Self::InKind => meta(26),
            Self::OutName => meta(7),
            Self::L4Proto => meta(16),
            Self::CtState => ct(0),
            Self::CtDirection => ct(1),
            Self::CtMark => ct(3),
            // Result 3 is the address type, flag 2 the destination.
            Self::DestinationType => named("fib", Attrs::new().be32(1, REG_1).be32(2, 3).be32(3, 2)),
            Self::Network(offset, length) => payload(1, offset, length),
            Self::Transport(offset, length) => payload(2, offset, length),
            // Key 0 is "transparent".
            Self::TransparentSocket => named("socket", Attrs::new().be32(1, 0).be32(2, REG_1)),
        }
    }
}

/// Two registers with the ends of a range of ports, and the attributes of a NAT expression that name them.
fn nat_ports(ports: Option<(u16, u16)>, kinds: (u16, u16)) -> (Vec<Attrs>, Attrs) {
    match ports {
        None => (Vec::new(), Attrs::new()),
        Some((first, last)) => (
            vec![immediate(REG_2, &first.to_be_bytes()), immediate(REG_3, &last.to_be_bytes())],
            Attrs::new().be32(kinds.0, REG_2).be32(kinds.1, REG_3),
        ),
    }
}

impl Expr {
    /// The expressions as NFTA_LIST_ELEM holds each.
    pub(super) fn encode(&self) -> Vec<Attrs> {
        // NFTA_NAT: type 0 is source NAT, family 2 IPv4.
        let snat = |attrs: Attrs| named("nat", attrs.be32(1, 0).be32(2, 2).be32(3, REG_1));
        let one = match self {
            Self::Load(load) => load.encode(),
            Self::If(compare, bytes) => {
                named("cmp", Attrs::new().be32(1, REG_1).be32(2, *compare as u32).nest(3, value(bytes)))
            }
            Self::Bits { mask, xor } => {
                let data = Attrs::new().be32(1, REG_1).be32(2, REG_1).be32(3, mask.len() as u32);
                named("bitwise", data.nest(4, value(mask)).nest(5, value(xor)))
            }
            Self::In(set) => lookup(set, false),
            Self::NotIn(set) => lookup(set, true),
            Self::VerdictOf(map) => named("lookup", Attrs::new().text(1, map).be32(2, REG_1).be32(3, REG_VERDICT)),
            Self::SetMark => named("meta", Attrs::new().be32(2, 3).be32(3, REG_1)),
            Self::SetCtMark => named("ct", Attrs::new().be32(2, 3).be32(4, REG_1)),
            Self::Then(verdict) => named("immediate", Attrs::new().be32(1, REG_VERDICT).nest(2, verdict_data(verdict))),
            Self::Notrack => named("notrack", Attrs::new()),
            Self::SnatToItself => return vec![Load::Network(12, 4).encode(), snat(Attrs::new())],
            Self::Snat(address, ports) => {
                let (mut list, attrs) = nat_ports(*ports, (5, 6));
                list.insert(0, immediate(REG_1, &address.octets()));
                list.push(snat(attrs));
                return list;
            }
            Self::Masquerade(ports) => {
                let (mut list, mut attrs) = nat_ports(*ports, (2, 3));
                if ports.is_some() {
                    // NF_NAT_RANGE_PROTO_SPECIFIED: without it the kernel takes the range and does not use it.
                    attrs = attrs.be32(1, 2);
                }
                list.push(named("masq", attrs));
                return list;
            }
            Self::ToListener(address) => {
                // NFTA_TPROXY_FAMILY: 2 is IPv4.
                let to = named("tproxy", Attrs::new().be32(1, 2).be32(2, REG_1));
                return vec![immediate(REG_1, &address.octets()), to];
            }
            Self::RejectReset => named("reject", Attrs::new().be32(1, 1)),
            Self::RejectIcmp(code) => named("reject", Attrs::new().be32(1, 0).bytes(2, &[*code])),
            Self::CountOver(limit) => named("connlimit", Attrs::new().be32(1, *limit).be32(2, 1)),
            // NFTA_LIMIT_RATE, _UNIT (seconds), _BURST, _TYPE (packets).
            Self::Limit { per_second, burst } => {
                named("limit", Attrs::new().be64(1, *per_second).be64(2, 1).be32(3, *burst).be32(4, 0))
            }
            Self::Log(prefix) => named("log", Attrs::new().text(2, prefix).be32(5, 6)),
            Self::Timeouts(object) => named("objref", Attrs::new().be32(1, TIMEOUT_OBJECT).text(2, object)),
            Self::Counter => named("counter", Attrs::new().be64(1, 0).be64(2, 0)),
        };
        vec![one]
    }
}
