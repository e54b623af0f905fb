//! PPTP that a rule would translate without its ALG: the first thing that goes wrong for who is new to it.

use callgate_proto::model::{Match, PortRange};

use super::Leaf;

/// IP protocol number.
const TCP: u8 = 6;
/// Port of PPTP's control connection (RFC 2637 §3.1.3).
const PPTP: u16 = 1723;

/// What a rule that translates is told where one of its services names PPTP's port and has no ALG, and none before it takes the port
/// through one. Nothing where the port is one among many: then hardly anybody means PPTP.
pub(super) fn note(leaves: &[impl AsRef<Leaf>]) -> Option<String> {
    let first = leaves.iter().map(AsRef::as_ref).find(|leaf| leaf.matches.iter().any(names_pptp))?;
    first.alg.is_none().then(|| {
        format!(
            "Service {} translates PPTP (TCP {PPTP}) without its ALG, and behind one address the second tunnel to a server ends the \
             first: give it an algRef, or name pptp-ctl in its place",
            first.key
        )
    })
}

fn names_pptp(entry: &Match) -> bool {
    let only = PortRange { first: PPTP, last: PPTP };
    entry.protocol == Some(TCP) && entry.destination_ports.contains(&only)
}
