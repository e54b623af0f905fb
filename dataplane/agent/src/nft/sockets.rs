//! What brings the shared mode's segments to the sockets that end its connections, past everybody's routing.
//!
//! ```text
//!  SYN of a client ─► steered as always ─► the ALG lets it in ─► raw socket, both marks ─► lo ─► the listener (tproxy)
//!  all other segments of such a connection, and of one to a server: the socket is there ─► both marks ─► local delivery
//! ```

use std::net::Ipv4Addr;

use super::chains::{TCP, is, link, masked, protocol, rule};
use super::expr::{Expr, Load, Verdict};
use super::ruleset::Ruleset;
use crate::kernel::Options;

/// Where the listening sockets are: an address of lo that nobody else is likely to use. No packet has it.
pub(crate) const LISTENER: Ipv4Addr = Ipv4Addr::new(127, 67, 71, 1);

/// Adds the rules, before all others of their chains.
pub(super) fn rules(ruleset: &mut Ruleset, options: &Options) {
    let inward = options.inward();
    let marked = rule(&[&[Expr::Load(Load::Mark)], &masked(inward.value, inward.mask)]);
    // Nobody's connection: that of the packet it is a copy of is the client's.
    let untracked = rule(&[&marked, &[Expr::Notrack, Expr::Then(Verdict::Accept)]]);
    let let_in = rule(&[&marked, &[Expr::Then(Verdict::Accept)]]);
    let from_the_alg = rule(&[&link(Load::InName, "lo"), &marked]);
    let opened = rule(&[&from_the_alg, &protocol(TCP), &[Expr::ToListener(LISTENER), Expr::Then(Verdict::Accept)]]);
    let (mask, xor) = ((!inward.mask).to_ne_bytes().to_vec(), inward.value.to_ne_bytes().to_vec());
    let mark = [Expr::Load(Load::Mark), Expr::Bits { mask, xor }, Expr::SetMark, Expr::Then(Verdict::Accept)];
    // Others on the host may have transparent sockets too: theirs have other ports.
    let has_socket = [Expr::Load(Load::TransparentSocket), is(&[1])];
    let port = |offset, set: &str| [Expr::Load(Load::Transport(offset, 2)), Expr::In(set.into())];
    let of_client = rule(&[&protocol(TCP), &port(2, "alg_server_ports"), &has_socket, &mark]);
    let of_server = rule(&[&protocol(TCP), &port(0, "alg_server_ports"), &port(2, "alg_ports"), &has_socket, &mark]);
    for (chain, first) in [
        ("prerouting_raw", vec![rule(&[&link(Load::InName, "lo"), &untracked])]),
        ("output_raw", vec![untracked]),
        ("prerouting", vec![opened, of_client, of_server]),
        ("input", vec![let_in]),
    ] {
        ruleset.first(chain, first);
    }
}
