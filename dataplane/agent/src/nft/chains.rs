//! The chains every configuration has, and one for each distinct list of rules.

use std::net::Ipv4Addr;

use callgate_proto::model::{Action, NodeConfig};

use super::expr::{Expr, Load, Verdict};
use super::rules;
use super::ruleset::{Base, Chain, Ruleset};
use crate::kernel::{Options, SENT_TAG};

/// Connection state bits (linux/netfilter/nf_tables.h).
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
const NEW: u32 = 8;

/// RTN_UNICAST: a destination somewhere else.
const UNICAST: u32 = 1;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const GRE: u8 = 47;

/// The chain of one list of rules.
pub(super) fn source_name(index: usize) -> String {
    format!("s_{index}")
}

/// A link name as the kernel compares it: 16 octets.
fn link(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn masked(value: u32, mask: u32) -> [Expr; 2] {
    [Expr::Bits { mask: mask.to_ne_bytes().to_vec(), xor: vec![0; 4] }, Expr::Equal(value.to_ne_bytes().to_vec())]
}

/// `protocol` is this one.
pub(super) fn protocol(number: u8) -> [Expr; 2] {
    [Expr::Load(Load::L4Proto), Expr::Equal(vec![number])]
}

/// Connection state is one of these bits.
fn state(bits: u32) -> [Expr; 3] {
    [
        Expr::Load(Load::CtState),
        Expr::Bits { mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::NotEqual(vec![0; 4]),
    ]
}

/// Enhanced GRE as PPTP uses it: version 1, protocol 0x880b (RFC 2637 §4.1).
fn pptp_gre() -> Vec<Expr> {
    // The protocol from the IPv4 header, and two steps for two fields: otherwise the nft tool (1.0.6) cannot print the rule.
    let mut exprs = vec![Expr::Load(Load::Network(9, 1)), Expr::Equal(vec![GRE])];
    exprs.push(Expr::Load(Load::Transport(0, 2)));
    exprs.push(Expr::Bits { mask: vec![0x00, 0x07], xor: vec![0; 2] });
    exprs.push(Expr::Equal(vec![0x00, 0x01]));
    exprs.push(Expr::Load(Load::Transport(2, 2)));
    exprs.push(Expr::Equal(vec![0x88, 0x0b]));
    exprs
}

/// The tag of the connection in register 1.
fn tag(options: &Options) -> [Expr; 2] {
    [Expr::Load(Load::CtMark), Expr::Bits { mask: options.tag_mask.to_ne_bytes().to_vec(), xor: vec![0; 4] }]
}

fn rule(parts: &[&[Expr]]) -> Vec<Expr> {
    parts.concat()
}

fn base(name: &str, kind: &'static str, hook: u32, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), base: Some(Base { kind, hook, priority }), rules }
}

/// TCP of the servers, and GRE, to an external address: the ALG's own, read from the device.
fn from_outside(end: &[Expr]) -> Vec<Vec<Expr>> {
    let own = [Expr::Load(Load::Network(16, 4)), Expr::In("own_addresses")];
    let ports = [
        Expr::Load(Load::Transport(0, 2)),
        Expr::In("alg_server_ports"),
        Expr::Load(Load::Transport(2, 2)),
        Expr::In("alg_ports"),
    ];
    vec![rule(&[&own, &protocol(TCP), &ports, end]), rule(&[&own, &pptp_gre(), end])]
}

/// The chains that are always there.
pub(super) fn fixed(ruleset: &mut Ruleset, options: &Options) {
    let mut raw = vec![rule(&[
        &[Expr::Load(Load::InName), Expr::Equal(link(&options.tap_link)), Expr::Counter],
        &[Expr::Then(Verdict::Drop)],
    ])];
    raw.extend(from_outside(&[Expr::Notrack]));
    let sent = rule(&[&[Expr::Load(Load::Mark)], &masked(options.sent.value, options.sent.mask)]);
    let to_servers = rule(&[&sent, &[Expr::Load(Load::Network(12, 4)), Expr::In("own_addresses"), Expr::Notrack]]);
    let first_of_ours = rule(&[&sent, &state(NEW), &set_tag(SENT_TAG, options)]);
    ruleset.chains.extend([
        base("prerouting_raw", "filter", 0, -300, raw),
        base("output_raw", "filter", 3, -300, vec![to_servers]),
        base("output", "filter", 3, -145, vec![first_of_ours]),
        base("prerouting", "filter", 0, -145, prerouting(options)),
        base("forward", "filter", 2, -5, forward(options)),
        base("postrouting", "nat", 4, 90, postrouting(options)),
        base("input", "filter", 1, -300, from_outside(&[Expr::Counter, Expr::Then(Verdict::Drop)])),
        Chain { name: "steer".into(), base: None, rules: vec![steer(options)] },
        Chain { name: "refuse".into(), base: None, rules: refuse() },
    ]);
}

fn prerouting(options: &Options) -> Vec<Vec<Expr>> {
    let source = [Expr::Load(Load::Network(12, 4))];
    let original = [Expr::Load(Load::CtDirection), Expr::Equal(vec![0])];
    let sent = Expr::Equal(options.tag_mark(SENT_TAG).to_ne_bytes().to_vec());
    vec![
        rule(&[&[Expr::Load(Load::Network(16, 4)), Expr::In("cluster_nets"), Expr::Then(Verdict::Return)]]),
        rule(&[&[
            Expr::Load(Load::DestinationType),
            Expr::NotEqual(UNICAST.to_ne_bytes().to_vec()),
            Expr::Then(Verdict::Return),
        ]]),
        // A connection first seen in a packet of ours to the pod (after conntrack -F): what the pod says is for the ALG.
        rule(&[&tag(options), &[sent, Expr::Then(Verdict::Goto("steer".into()))]]),
        rule(&[&original, &tag(options), &[Expr::VerdictOf("by_tag")]]),
        rule(&[&source, &[Expr::VerdictOf("src_hosts")]]),
        rule(&[&source, &[Expr::VerdictOf("src_nets")]]),
    ]
}

/// Reject answers here, where the kernel can still answer; and some rules keep ICMP errors from the client.
fn forward(options: &Options) -> Vec<Vec<Expr>> {
    let is_icmp = protocol(ICMP);
    let type_is = |kind| [Expr::Load(Load::Transport(0, 1)), Expr::Equal(vec![kind])];
    let code_is = |code| [Expr::Load(Load::Transport(1, 1)), Expr::Equal(vec![code])];
    let about_quiet = rule(&[&is_icmp, &state(RELATED), &tag(options), &[Expr::In("quiet_tags")]]);
    vec![
        rule(&[&tag(options), &[Expr::In("rejected_tags"), Expr::Then(Verdict::Goto("refuse".into()))]]),
        // Path MTU discovery needs it whatever the service says.
        rule(&[&about_quiet, &type_is(3), &code_is(4), &[Expr::Then(Verdict::Return)]]),
        rule(&[&about_quiet, &[Expr::Counter, Expr::Then(Verdict::Drop)]]),
    ]
}

fn refuse() -> Vec<Vec<Expr>> {
    vec![
        rule(&[&protocol(TCP), &[Expr::RejectReset]]),
        // 3 port-unreachable, 13 communication administratively prohibited (RFC 792, RFC 1812).
        rule(&[&protocol(UDP), &[Expr::RejectIcmp(3)]]),
        vec![Expr::RejectIcmp(13)],
    ]
}

fn postrouting(options: &Options) -> Vec<Vec<Expr>> {
    vec![
        // To its own address: whoever wants to masquerade later finds the mapping made.
        rule(&[
            &[Expr::Load(Load::OutName), Expr::Equal(link(&options.steer_link))],
            &[Expr::Load(Load::Network(12, 4)), Expr::SnatToRegister],
        ]),
        rule(&[&tag(options), &[Expr::VerdictOf("nat_by_tag")]]),
    ]
}

/// Into the veth pair, past the CNI's FORWARD chain.
fn steer(options: &Options) -> Vec<Expr> {
    vec![
        Expr::Load(Load::Mark),
        Expr::Bits {
            mask: (!options.steer.mask).to_ne_bytes().to_vec(),
            xor: options.steer.value.to_ne_bytes().to_vec(),
        },
        Expr::SetMark,
        Expr::Then(Verdict::Accept),
    ]
}

/// Writes a tag into the connection mark, beside the bits of others.
pub(super) fn set_tag(number: u16, options: &Options) -> [Expr; 3] {
    [
        Expr::Load(Load::CtMark),
        Expr::Bits {
            mask: (!options.tag_mask).to_ne_bytes().to_vec(),
            xor: options.tag_mark(number).to_ne_bytes().to_vec(),
        },
        Expr::SetCtMark,
    ]
}

/// The chain of one list of rules.
pub(super) fn source(ruleset: &mut Ruleset, index: usize, list: &[u32], config: &NodeConfig) {
    let mut rules = Vec::new();
    let of = || list.iter().filter_map(|index| config.rules.get(*index as usize));
    let has_alg = of().any(|rule| {
        let services = rule.services.iter().filter_map(|index| config.services.get(*index as usize));
        rule.action == Action::Nat && services.into_iter().any(|service| service.alg.is_some())
    });
    if has_alg {
        let steer = [Expr::Then(Verdict::Goto("steer".into()))];
        let to_server = [Expr::Load(Load::Network(16, 4)), Expr::In("alg_servers")];
        // Never the CNI's way, call or no call: behind the same address it could hit another client's call.
        rules.push(rule(&[&to_server, &pptp_gre(), &steer]));
        // ICMP errors (types 3, 11, 12) about GRE or about a control connection: the quoted header begins at 8, its
        // protocol is at 17, its source port at 28.
        for kind in [3, 11, 12] {
            let error = rule(&[&protocol(ICMP), &[Expr::Load(Load::Transport(0, 1)), Expr::Equal(vec![kind])]]);
            let about = |number| [Expr::Load(Load::Transport(17, 1)), Expr::Equal(vec![number])];
            let server_port = [Expr::Load(Load::Transport(28, 2)), Expr::In("alg_server_ports")];
            rules.push(rule(&[&error, &about(GRE), &steer]));
            rules.push(rule(&[&error, &about(TCP), &server_port, &steer]));
        }
    }
    // What was let through, or left alone, when it began is not judged again.
    rules.push(rule(&[&state(ESTABLISHED | RELATED), &[Expr::Then(Verdict::Accept)]]));
    rules.extend(list.iter().map(|index| vec![Expr::Then(Verdict::Jump(rules::rule_name(*index as usize)))]));
    ruleset.chains.push(Chain { name: source_name(index), base: None, rules });
}

/// The chain that gives an external address.
pub(super) fn external(ruleset: &mut Ruleset, name: String, address: Option<Ipv4Addr>) {
    let rule = match address {
        None => vec![Expr::Masquerade],
        Some(address) => vec![Expr::Address(address), Expr::SnatToRegister],
    };
    ruleset.chains.push(Chain { name, base: None, rules: vec![rule] });
}
