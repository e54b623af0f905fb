//! The chains of ordinary rules: those every configuration has, one for each distinct list of rules, one for each external address.

use std::net::Ipv4Addr;

use callgate_proto::model::NodeConfig;

use super::expr::{Compare, Expr, Load, Verdict};
use super::layout::source_name;
use super::ruleset::{HOSTS, Hook, Ruleset};
use super::{names, steering};
use crate::kernel::{Options, Via};

/// Connection state bits (linux/netfilter/nf_tables.h).
pub(super) const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
/// Priority of our chain of the FORWARD hook: before the CNI's.
pub(super) const FORWARD: i32 = -5;
pub(super) const NEW: u32 = 8;
pub(super) const UNTRACKED: u32 = 64;

/// RTN_UNICAST: a destination somewhere else.
const UNICAST: u32 = 1;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const GRE: u8 = 47;

/// The packet's source and destination address.
pub(super) const SOURCE: Expr = Expr::Load(Load::Network(12, 4));
pub(super) const DESTINATION: Expr = Expr::Load(Load::Network(16, 4));

/// One rule from its parts.
pub(super) fn rule(parts: &[&[Expr]]) -> Vec<Expr> {
    parts.concat()
}

/// Drops and counts.
pub(super) const DROP: [Expr; 2] = [Expr::Counter, Expr::Then(Verdict::Drop)];

pub(super) fn go_to(chain: &str) -> Expr {
    Expr::Then(Verdict::Goto(chain.into()))
}

pub(super) fn jump(chain: &str) -> Expr {
    Expr::Then(Verdict::Jump(chain.into()))
}

pub(super) fn is(bytes: &[u8]) -> Expr {
    Expr::If(Compare::Is, bytes.to_vec())
}

/// Keeps these bits of the register.
pub(super) fn under(mask: &[u8]) -> Expr {
    Expr::Bits { mask: mask.to_vec(), xor: vec![0; mask.len()] }
}

pub(super) fn masked(value: u32, mask: u32) -> [Expr; 2] {
    [under(&mask.to_ne_bytes()), is(&value.to_ne_bytes())]
}

/// The transport protocol is this one.
pub(super) fn protocol(number: u8) -> [Expr; 2] {
    [Expr::Load(Load::L4Proto), is(&[number])]
}

/// Connection state is one of these bits.
pub(super) fn state(bits: u32) -> [Expr; 3] {
    [Expr::Load(Load::CtState), under(&bits.to_ne_bytes()), Expr::If(Compare::Not, vec![0; 4])]
}

/// Lets through what has begun.
fn begun() -> Vec<Expr> {
    rule(&[&state(ESTABLISHED | RELATED), &[Expr::Then(Verdict::Accept)]])
}

/// A link name as the kernel compares it: 16 octets.
pub(super) fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The link is this one.
pub(super) fn link(load: Load, name: &str) -> [Expr; 2] {
    [Expr::Load(load), is(&link_name(name))]
}

/// The link is another one.
pub(super) fn not_link(load: Load, name: &str) -> [Expr; 2] {
    [Expr::Load(load), Expr::If(Compare::Not, link_name(name))]
}

/// The tag of the connection, in its place in the mark.
fn tag(options: &Options) -> [Expr; 2] {
    [Expr::Load(Load::CtMark), under(&options.tag_mask.to_ne_bytes())]
}

/// Writes a tag into the connection mark, beside the bits of others.
pub(super) fn set_tag(number: u16, options: &Options) -> [Expr; 3] {
    let mask = (!options.tag_mask).to_ne_bytes().to_vec();
    let xor = options.tag_mark(number).to_ne_bytes().to_vec();
    [Expr::Load(Load::CtMark), Expr::Bits { mask, xor }, Expr::SetCtMark]
}

/// The chains that are always there, and those that some way of treating flows needs: every hook costs every packet of the host.
/// With `settled`, what has begun is let through at once: no tag means anything but that.
pub(super) fn fixed(ruleset: &mut Ruleset, options: &Options, ways: &[Via], settled: bool) {
    let mut judged = if settled { vec![begun()] } else { Vec::new() };
    judged.extend([
        // An established flow keeps its verdict, in both directions.
        rule(&[&tag(options), &[Expr::VerdictOf("by_tag".into())]]),
        vec![DESTINATION, Expr::In("cluster_nets".into()), Expr::Then(Verdict::Return)],
        vec![SOURCE, Expr::VerdictOf(HOSTS.into())],
        vec![SOURCE, Expr::VerdictOf("src_nets".into())],
    ]);
    ruleset.base("prerouting", "filter", Hook::Prerouting, -145, judged);
    // Source NAT before priority 100: whoever wants to masquerade later finds the mapping made.
    let translated = vec![rule(&[&tag(options), &[Expr::VerdictOf("nat_by_tag".into())]])];
    ruleset.base("postrouting", "nat", Hook::Postrouting, 90, translated);
    ruleset.chain("keep_source", vec![vec![Expr::SnatToItself]]);
    let mut behind_routing = Vec::new();
    if ways.contains(&Via::Reject) {
        // Here, where the kernel can answer.
        behind_routing.push(rule(&[&tag(options), &[Expr::In("rejected_tags".into()), go_to("refuse")]]));
        ruleset.chain("refuse", refuse());
    }
    if ways.contains(&Via::KernelQuiet) {
        let reply = [Expr::Load(Load::CtDirection), is(&[1])];
        let quiet_tag = [Expr::In("quiet_tags".into()), go_to("quiet")];
        behind_routing.push(rule(&[&protocol(ICMP), &state(RELATED), &reply, &tag(options), &quiet_tag]));
        ruleset.chain("quiet", quiet());
    }
    if !behind_routing.is_empty() {
        ruleset.base("forward", "filter", Hook::Forward, FORWARD, behind_routing);
    }
}

/// An ICMP error about a flow whose client is to be spared them: only fragmentation-needed (type 3, code 4) passes, without
/// which the flow would hang (RFC 1191).
fn quiet() -> Vec<Vec<Expr>> {
    let too_big = [Expr::Load(Load::Transport(0, 2)), is(&[3, 4])];
    vec![rule(&[&protocol(ICMP), &too_big, &[Expr::Then(Verdict::Return)]]), DROP.to_vec()]
}

fn refuse() -> Vec<Vec<Expr>> {
    vec![
        rule(&[&protocol(TCP), &[Expr::RejectReset]]),
        // 3 port-unreachable, 13 communication administratively prohibited (RFC 792, RFC 1812 §5.2.7.1).
        rule(&[&protocol(UDP), &[Expr::RejectIcmp(3)]]),
        vec![Expr::RejectIcmp(13)],
    ]
}

/// The chains of all distinct lists of rules; their names in the order of `config.chains`.
pub(super) fn sources(ruleset: &mut Ruleset, config: &NodeConfig) -> Vec<String> {
    let mut chain_names = Vec::new();
    for list in &config.chains {
        let name = source_name(config, list);
        let of = list.iter().filter_map(|index| config.rules.get(*index as usize));
        let has_alg = of.clone().any(|rule| config.alg_services_of(rule).next().is_some());
        let mut body = if has_alg { steering::from_source() } else { Vec::new() };
        // What was let through, or left alone, when it began is not judged again.
        body.push(begun());
        // The host itself, broadcast and multicast are not outside.
        body.push(vec![
            Expr::Load(Load::DestinationType),
            Expr::If(Compare::Not, UNICAST.to_ne_bytes().to_vec()),
            Expr::Then(Verdict::Return),
        ]);
        body.extend(of.map(|rule| vec![Expr::Then(Verdict::Jump(names::rule(&rule.key)))]));
        ruleset.chain(name.clone(), body);
        chain_names.push(name);
    }
    chain_names
}

/// The chain that gives an external address; `None` is the outgoing link's.
pub(super) fn external(ruleset: &mut Ruleset, name: &str, address: Option<Ipv4Addr>, options: &Options) {
    let translate = |ports| match address {
        None => Expr::Masquerade(ports),
        Some(address) => Expr::Snat(address, ports),
    };
    let to_servers = [Expr::Load(Load::Transport(2, 2)), Expr::In("alg_server_ports".into())];
    // What answers from a server's port to one of the ALG's ports is the ALG's: no other connection may have them.
    let beside = rule(&[&protocol(TCP), &to_servers, &[translate(Some(beside_the_alg(options)))]]);
    ruleset.chain(name, vec![beside, vec![translate(None)]]);
}

/// The widest range of unprivileged ports that are not the ALG's.
fn beside_the_alg(options: &Options) -> (u16, u16) {
    let (mut next, mut widest) = (1024u32, (0u32, 0u32));
    let end = (0x1_0000u32, 0x1_0000u32);
    let taken = options.external_ports.0.iter().map(|range| (u32::from(range.first), u32::from(range.last) + 1));
    for (first, after) in taken.chain([end]) {
        if first.saturating_sub(next) > widest.1 - widest.0 {
            widest = (next, first);
        }
        next = next.max(after);
    }
    (widest.0 as u16, widest.1.saturating_sub(1) as u16)
}
