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

/// What a register is loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Packet mark, host order.
    Mark,
    /// Name of the incoming link, 16 octets.
    InName,
    /// Name of the outgoing link, 16 octets.
    OutName,
    /// Protocol number of the transport header, one octet.
    L4Proto,
    /// Connection mark, host order.
    CtMark,
    /// Connection state bits, host order.
    CtState,
    /// Direction of the packet in its connection, one octet: 0 original, 1 reply.
    CtDirection,
    /// Type of the destination address by the routing table (RTN_*), host order.
    DestinationType,
    /// Octets of the IPv4 header: offset and length.
    Network(u32, u32),
    /// Octets of the transport header: offset and length.
    Transport(u32, u32),
}

/// One step of a rule. All work on register 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads the register.
    Load(Load),
    /// Goes on only if the register (its first octets) equals this.
    Equal(Vec<u8>),
    /// Goes on only if it does not.
    NotEqual(Vec<u8>),
    /// `register = register & mask ^ xor`, on whole octets.
    Bits { mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on only if the register is in this set.
    In(&'static str),
    /// As `In`, for a set that belongs to one rule.
    InOwn(String),
    /// The verdict this map has for the register; goes on without one.
    VerdictOf(&'static str),
    /// Sets the packet mark from the register.
    SetMark,
    /// Sets the connection mark from the register.
    SetCtMark,
    /// Ends the rule.
    Then(Verdict),
    /// This packet and its answers are not tracked.
    Notrack,
    /// Source NAT to the address in the register.
    SnatToRegister,
    /// Loads an address.
    Address(Ipv4Addr),
    /// Source NAT to the outgoing link's address.
    Masquerade,
    /// TCP RST.
    RejectReset,
    /// ICMP destination-unreachable with this code.
    RejectIcmp(u8),
    /// Goes on only if more than this many connections have come by here.
    CountOver(u32),
    /// Logs with this prefix.
    Log(String),
    /// Gives the connection the time-outs of this object.
    Timeouts(String),
    /// Counts packets and bytes.
    Counter,
}

const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;

/// A value in NFTA_DATA_VALUE.
fn value(kind: u16, bytes: &[u8]) -> impl FnOnce(Attrs) -> Attrs {
    let inner = Attrs::new().bytes(1, bytes);
    move |attrs| attrs.nest(kind, inner)
}

/// A verdict in NFTA_DATA_VERDICT (code, chain).
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

fn named(name: &str, data: Attrs) -> Attrs {
    Attrs::new().text(1, name).nest(2, data)
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
            Self::OutName => meta(7),
            Self::L4Proto => meta(16),
            Self::CtState => ct(0),
            Self::CtDirection => ct(1),
            Self::CtMark => ct(3),
            // Result 3 is the address type, flag 2 the destination.
            Self::DestinationType => named("fib", Attrs::new().be32(1, REG_1).be32(2, 3).be32(3, 2)),
            Self::Network(offset, length) => payload(1, offset, length),
            Self::Transport(offset, length) => payload(2, offset, length),
        }
    }
}

impl Expr {
    /// The expression as NFTA_LIST_ELEM holds it.
    pub(super) fn encode(&self) -> Attrs {
        match self {
            Self::Load(load) => load.encode(),
            Self::Equal(bytes) => named("cmp", value(3, bytes)(Attrs::new().be32(1, REG_1).be32(2, 0))),
            Self::NotEqual(bytes) => named("cmp", value(3, bytes)(Attrs::new().be32(1, REG_1).be32(2, 1))),
            Self::Bits { mask, xor } => {
                let data = Attrs::new().be32(1, REG_1).be32(2, REG_1).be32(3, mask.len() as u32);
                named("bitwise", value(5, xor)(value(4, mask)(data)))
            }
            Self::In(set) => named("lookup", Attrs::new().text(1, set).be32(2, REG_1)),
            Self::InOwn(set) => named("lookup", Attrs::new().text(1, set).be32(2, REG_1)),
            Self::VerdictOf(map) => named("lookup", Attrs::new().text(1, map).be32(2, REG_1).be32(3, REG_VERDICT)),
            Self::SetMark => named("meta", Attrs::new().be32(2, 3).be32(3, REG_1)),
            Self::SetCtMark => named("ct", Attrs::new().be32(2, 3).be32(4, REG_1)),
            Self::Then(verdict) => named("immediate", Attrs::new().be32(1, REG_VERDICT).nest(2, verdict_data(verdict))),
            Self::Notrack => named("notrack", Attrs::new()),
            Self::Address(address) => named("immediate", value(2, &address.octets())(Attrs::new().be32(1, REG_1))),
            // Type 0 is source NAT, family 2 IPv4.
            Self::SnatToRegister => named("nat", Attrs::new().be32(1, 0).be32(2, 2).be32(3, REG_1)),
            Self::Masquerade => named("masq", Attrs::new()),
            Self::RejectReset => named("reject", Attrs::new().be32(1, 1)),
            Self::RejectIcmp(code) => named("reject", Attrs::new().be32(1, 0).bytes(2, &[*code])),
            Self::CountOver(limit) => named("connlimit", Attrs::new().be32(1, *limit).be32(2, 1)),
            Self::Log(prefix) => named("log", Attrs::new().text(2, prefix).be32(5, 6)),
            // Type 7 is a conntrack time-out object.
            Self::Timeouts(object) => named("objref", Attrs::new().be32(1, 7).text(2, object)),
            Self::Counter => named("counter", Attrs::new().be64(1, 0).be64(2, 0)),
        }
    }
}
