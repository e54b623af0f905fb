//! Which parts of nftables this kernel has: asked in transactions that never commit, so that nothing of them is ever in force.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use callgate_proto::Optional;

use super::chains::TCP;
use super::encode::Batch;
use super::expr::{Expr, Load};
use super::rules::LOG_LIMIT;
use super::ruleset::{Base, Chain, Hook, Ruleset, Timeouts};
use crate::netlink::Error;
use crate::netlink::socket::Socket;

/// A part that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Type of a destination by the routing table (nft_fib_ipv4).
    Fib,
    /// Source NAT and masquerade (nft_nat, nft_masq).
    Nat,
    /// Leaving packets untracked.
    Notrack,
    /// What only some objects need.
    Optional(Optional),
    /// RST and ICMP answers (nft_reject_ipv4).
    Reject,
}

/// All of them.
pub(crate) const PARTS: [Part; 8] = [
    Part::Fib,
    Part::Nat,
    Part::Notrack,
    Part::Optional(Optional::ConnectionLimits),
    Part::Optional(Optional::Logging),
    Part::Optional(Optional::Sockets),
    Part::Optional(Optional::Timeouts),
    Part::Reject,
];

/// The parts that are missing, with the kernel's words. `table` is a name that nobody uses.
///
/// # Errors
/// When the kernel has no nftables at all, or does not let us ask.
pub(crate) fn missing(socket: &mut Socket, table: &str) -> Result<BTreeMap<Part, String>, Error> {
    let mut missing = BTreeMap::new();
    loop {
        let mut batch = Batch::new(table);
        batch.replace(&sample(PARTS.into_iter().filter(|part| !missing.contains_key(part))));
        batch.never();
        let batch = batch.finish();
        let Err(refused) = socket.batch(&batch.bytes, batch.last) else {
            return Err(Error::Protocol("a transaction that cannot commit did"));
        };
        let about = batch.about(refused.sequence).map(|(_, name)| name.to_owned());
        match about.as_deref() {
            // Everything before it was understood.
            Some(Batch::NEVER) => return Ok(missing),
            Some(name) => match PARTS.into_iter().find(|part| name == chain(*part)) {
                Some(part) => drop(missing.insert(part, refused.error.to_string())),
                None => return Err(refused.error),
            },
            None => return Err(refused.error),
        }
    }
}

/// Name of the chain, or the object, that stands for a part in the sample.
fn chain(part: Part) -> &'static str {
    match part {
        Part::Fib => "fib",
        Part::Nat => "nat",
        Part::Notrack => "notrack",
        Part::Optional(part) => part.name(),
        Part::Reject => "reject",
    }
}

/// A ruleset that needs these parts.
fn sample(parts: impl Iterator<Item = Part>) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for part in parts {
        let (kind, hook, priority, rules) = match part {
            Part::Optional(Optional::ConnectionLimits) => ("filter", Hook::Forward, -5, vec![vec![Expr::CountOver(1)]]),
            Part::Fib => ("filter", Hook::Prerouting, -145, vec![vec![Expr::Load(Load::DestinationType)]]),
            Part::Optional(Optional::Logging) => {
                ("filter", Hook::Forward, -5, vec![vec![LOG_LIMIT, Expr::Log("sample".into())]])
            }
            Part::Nat => {
                let address = Ipv4Addr::new(192, 0, 2, 1);
                ("nat", Hook::Postrouting, 90, vec![vec![Expr::Snat(address, None)], vec![Expr::Masquerade(None)]])
            }
            Part::Notrack => ("filter", Hook::Prerouting, -300, vec![vec![Expr::Notrack]]),
            Part::Reject => ("filter", Hook::Forward, -5, vec![vec![Expr::RejectIcmp(13)]]),
            Part::Optional(Optional::Sockets) => {
                let listener = Ipv4Addr::LOCALHOST;
                let rules = vec![vec![Expr::Load(Load::TransparentSocket)], vec![Expr::ToListener(listener)]];
                ("filter", Hook::Prerouting, -145, rules)
            }
            Part::Optional(Optional::Timeouts) => {
                ruleset.timeouts.insert(chain(part).into(), Timeouts { protocol: TCP, states: vec![(3, 60)] });
                continue;
            }
        };
        ruleset.chains.insert(chain(part).into(), Chain { base: Some(Base { kind, hook, priority }), rules });
    }
    ruleset
}
