//! Which parts of nftables this kernel has: asked in transactions that never commit, so that nothing of them is ever in force.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

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
    /// Counting connections (nft_connlimit).
    Connlimit,
    /// Type of a destination by the routing table (nft_fib_ipv4).
    Fib,
    /// Logging (nft_log).
    Log,
    /// Source NAT and masquerade (nft_nat, nft_masq).
    Nat,
    /// Leaving packets untracked.
    Notrack,
    /// RST and ICMP answers (nft_reject_ipv4).
    Reject,
    /// Packets to sockets in others' names (nft_socket, nft_tproxy).
    Sockets,
    /// Time-outs of single connections (nft_ct, nfnetlink_cttimeout).
    Timeouts,
}

/// All of them.
pub(crate) const PARTS: [Part; 8] =
    [Part::Connlimit, Part::Fib, Part::Log, Part::Nat, Part::Notrack, Part::Reject, Part::Sockets, Part::Timeouts];

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
            Some(name) => {
                match PARTS.into_iter().find(|part| name == chain(*part) || *part == Part::Timeouts && name == TIMEOUTS)
                {
                    Some(part) => drop(missing.insert(part, refused.error.to_string())),
                    None => return Err(refused.error),
                }
            }
            None => return Err(refused.error),
        }
    }
}

/// Name of the object in the sample.
const TIMEOUTS: &str = "sample";

fn chain(part: Part) -> &'static str {
    match part {
        Part::Connlimit => "connlimit",
        Part::Fib => "fib",
        Part::Log => "log",
        Part::Nat => "nat",
        Part::Notrack => "notrack",
        Part::Reject => "reject",
        Part::Sockets => "sockets",
        Part::Timeouts => "timeouts",
    }
}

/// A ruleset that needs these parts.
fn sample(parts: impl Iterator<Item = Part>) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for part in parts {
        let (kind, hook, priority, rules) = match part {
            Part::Connlimit => ("filter", Hook::Forward, -5, vec![vec![Expr::CountOver(1)]]),
            Part::Fib => ("filter", Hook::Prerouting, -145, vec![vec![Expr::Load(Load::DestinationType)]]),
            Part::Log => ("filter", Hook::Forward, -5, vec![vec![LOG_LIMIT, Expr::Log("sample".into())]]),
            Part::Nat => {
                let address = Ipv4Addr::new(192, 0, 2, 1);
                ("nat", Hook::Postrouting, 90, vec![vec![Expr::Snat(address, None)], vec![Expr::Masquerade(None)]])
            }
            Part::Notrack => ("filter", Hook::Prerouting, -300, vec![vec![Expr::Notrack]]),
            Part::Reject => ("filter", Hook::Forward, -5, vec![vec![Expr::RejectIcmp(13)]]),
            Part::Sockets => {
                let listener = Ipv4Addr::LOCALHOST;
                let rules = vec![vec![Expr::Load(Load::TransparentSocket)], vec![Expr::ToListener(listener)]];
                ("filter", Hook::Prerouting, -145, rules)
            }
            Part::Timeouts => {
                ruleset.timeouts.insert(TIMEOUTS.into(), Timeouts { protocol: TCP, states: vec![(3, 60)] });
                continue;
            }
        };
        ruleset.chains.insert(chain(part).into(), Chain { base: Some(Base { kind, hook, priority }), rules });
    }
    ruleset
}
