//! The chains every configuration has, and one for each distinct list of rules.

use std::net::Ipv4Addr;

use callgate_proto::model::NodeConfig;

use super::expr::{Compare, Expr, Load, Verdict};
use super::layout::source_name;
use super::names;
use super::ruleset::{Base, Chain, HOSTS, Hook, Ruleset};
use crate::kernel::{Options, SENT_TAG};

/// Connection state bits (linux/netfilter/nf_tables.h).
pub(super) const INVALID: u32 = 1;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
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

pub(super) fn is(bytes: &[u8]) -> Expr {
    Expr::If(Compare::Is, bytes.to_vec())
}

/// Keeps these bits of the register.
fn under(mask: &[u8]) -> Expr {
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

/// A link name as the kernel compares it: 16 octets.
fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// The link is this one.
pub(super) fn link(load: Load, name: &str) -> [Expr; 2] {
    [Expr::Load(load), is(&link_name(name))]
}

/// The link is another one.
fn not_link(load: Load, name: &str) -> [Expr; 2] {
    [Expr::Load(load), Expr::If(Compare::Not, link_name(name))]
}

/// Enhanced GRE as PPTP uses it: version 1, protocol 0x880b (RFC 2637 §4.1). The protocol comes from the IPv4 header, and two
/// fields are two steps: anything else makes the nft tool (1.0.6) abort when it lists the rule.
fn pptp_gre() -> Vec<Expr> {
    let version = [Expr::Load(Load::Transport(0, 2)), under(&[0x00, 0x07]), is(&[0, 1])];
    let payload = [Expr::Load(Load::Transport(2, 2)), is(&[0x88, 0x0b])];
    rule(&[&[Expr::Load(Load::Network(9, 1)), is(&[GRE])], &version, &payload])
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

/// TCP of the servers, and GRE, to an external address: the ALG's own, read from the device.
fn from_outside(tcp_end: &[Expr], gre_end: &[Expr]) -> Vec<Vec<Expr>> {
    let own = [DESTINATION, Expr::In("own_addresses".into())];
    let ports = [
        Expr::Load(Load::Transport(0, 2)),
        Expr::In("alg_server_ports".into()),
        Expr::Load(Load::Transport(2, 2)),
        Expr::In("alg_ports".into()),
    ];
    vec![rule(&[&protocol(TCP), &own, &ports, tcp_end]), rule(&[&pptp_gre(), &own, gre_end])]
}

/// The kernel's own copies of GRE, which is many packets, end before the rest of its way costs anything: the device's tap has had
/// them. Not so where it may be a bridge that calls this hook (bridge-nf-call-iptables) before its own tap: there they end in `input`.
fn copies() -> Vec<Vec<Expr>> {
    let by = |kind: &str| [Expr::Load(Load::InKind), is(&link_name(kind)), Expr::Notrack, Expr::Then(Verdict::Accept)];
    vec![by("bridge").to_vec(), by("vlan").to_vec(), DROP.to_vec()]
}

/// The chains that are always there.
pub(super) fn fixed(ruleset: &mut Ruleset, options: &Options) {
    let sent = rule(&[&[Expr::Load(Load::Mark)], &masked(options.sent.value, options.sent.mask)]);
    let own_source = [SOURCE, Expr::In("own_addresses".into())];
    let mut raw = vec![rule(&[&link(Load::InName, &options.tap_link), &DROP])];
    raw.extend(from_outside(&[Expr::Notrack], &[go_to("copies")]));
    // To servers, and GRE to pods: neither has a use for conntrack. TCP to a pod belongs to the pod's own connection.
    let output_raw =
        vec![rule(&[&sent, &own_source, &[Expr::Notrack]]), rule(&[&sent, &protocol(GRE), &[Expr::Notrack]])];
    let output = vec![rule(&[&sent, &state(NEW), &set_tag(SENT_TAG, options)])];
    let mut base = |name: &str, kind, hook, priority, rules| {
        ruleset.chains.insert(name.into(), Chain { base: Some(Base { kind, hook, priority }), rules });
    };
    base("prerouting_raw", "filter", Hook::Prerouting, -300, raw);
    base("output_raw", "filter", Hook::Output, -300, output_raw);
    base("input", "filter", Hook::Input, -300, from_outside(&DROP, &DROP));
    base("prerouting", "filter", Hook::Prerouting, -145, prerouting(options));
    base("output", "filter", Hook::Output, -145, output);
    base("forward", "filter", Hook::Forward, -5, forward(options));
    base("postrouting", "nat", Hook::Postrouting, 90, postrouting(options, &sent));
    base("guard", "filter", Hook::Postrouting, 150, guard(options));
    ruleset.chain("copies", copies());
    ruleset.chain("steer", vec![steer(options)]);
    ruleset.chain("refuse", refuse());
    ruleset.chain("quiet", quiet());
    ruleset.chain("keep_source", vec![vec![Expr::SnatToItself]]);
}

fn prerouting(options: &Options) -> Vec<Vec<Expr>> {
    let reply = [Expr::Load(Load::CtDirection), is(&[1])];
    let some = Expr::If(Compare::Not, vec![0; 4]);
    let first_sent_by_us = [is(&options.tag_mark(SENT_TAG).to_ne_bytes()), go_to("steer")];
    vec![
        // A connection first seen in a packet of ours to the pod (after conntrack -F): what the pod says is for the ALG.
        rule(&[&tag(options), &first_sent_by_us]),
        // What answers a flow of ours needs no verdict.
        rule(&[&reply, &tag(options), &[some, Expr::Then(Verdict::Return)]]),
        rule(&[&tag(options), &[Expr::VerdictOf("by_tag".into())]]),
        vec![DESTINATION, Expr::In("cluster_nets".into()), Expr::Then(Verdict::Return)],
        vec![SOURCE, Expr::VerdictOf(HOSTS.into())],
        vec![SOURCE, Expr::VerdictOf("src_nets".into())],
    ]
}

/// What is steered leaves into the veth pair or not at all: where somebody has taken our routing rule, route or link away, it would
/// go out untranslated. Reject answers here, where the kernel can; some rules keep ICMP errors from the client; and what is for the
/// ALG at an address that is not the host's own goes no further.
fn forward(options: &Options) -> Vec<Vec<Expr>> {
    let reply = [Expr::Load(Load::CtDirection), is(&[1])];
    let quiet = [Expr::In("quiet_tags".into()), go_to("quiet")];
    let steered = rule(&[&[Expr::Load(Load::Mark)], &masked(options.steer.value, options.steer.mask)]);
    let mut rules = vec![
        rule(&[&steered, &not_link(Load::OutName, &options.steer_link), &DROP]),
        rule(&[&tag(options), &[Expr::In("rejected_tags".into()), go_to("refuse")]]),
        rule(&[&protocol(ICMP), &state(RELATED), &reply, &tag(options), &quiet]),
    ];
    rules.extend(from_outside(&DROP, &DROP));
    rules
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

/// Source NAT before priority 100: whoever wants to masquerade later finds the mapping made.
fn postrouting(options: &Options, sent: &[Expr]) -> Vec<Vec<Expr>> {
    vec![
        rule(&[&link(Load::OutName, &options.steer_link), &[Expr::SnatToItself]]),
        rule(&[sent, &[Expr::SnatToItself]]),
        rule(&[&tag(options), &[Expr::VerdictOf("nat_by_tag".into())]]),
    ]
}

/// After everybody's NAT: under the ALG's addresses nobody else sends PPTP's GRE (it could hit a call), and nobody says
/// protocol-unreachable about it (it would end every call of the address).
fn guard(options: &Options) -> Vec<Vec<Expr>> {
    let own = [SOURCE, Expr::In("own_addresses".into())];
    let not_sent = [
        Expr::Load(Load::Mark),
        under(&options.sent.mask.to_ne_bytes()),
        Expr::If(Compare::Not, options.sent.value.to_ne_bytes().to_vec()),
    ];
    let unreachable = [Expr::Load(Load::Transport(0, 2)), is(&[3, 2])];
    let about_gre = [Expr::Load(Load::Transport(17, 1)), is(&[GRE])];
    vec![rule(&[&pptp_gre(), &own, &not_sent, &DROP]), rule(&[&protocol(ICMP), &unreachable, &about_gre, &own, &DROP])]
}

/// Into the veth pair, past the CNI's FORWARD chain.
fn steer(options: &Options) -> Vec<Expr> {
    let mask = (!options.steer.mask).to_ne_bytes().to_vec();
    let xor = options.steer.value.to_ne_bytes().to_vec();
    vec![Expr::Load(Load::Mark), Expr::Bits { mask, xor }, Expr::SetMark, Expr::Then(Verdict::Accept)]
}

/// The chains of all distinct lists of rules; their names in the order of `config.chains`.
pub(super) fn sources(ruleset: &mut Ruleset, config: &NodeConfig) -> Vec<String> {
    let mut chain_names = Vec::new();
    for list in &config.chains {
        let name = source_name(config, list);
        let of = list.iter().filter_map(|index| config.rules.get(*index as usize));
        let has_alg = of.clone().any(|rule| config.alg_services_of(rule).next().is_some());
        let mut body = if has_alg { alg_traffic() } else { Vec::new() };
        // What was let through, or left alone, when it began is not judged again.
        body.push(rule(&[&state(ESTABLISHED | RELATED), &[Expr::Then(Verdict::Accept)]]));
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

/// What a source with an ALG rule sends beside its control connections. GRE never takes the CNI's way, call or no call:
/// behind the same address it could hit another client's call.
fn alg_traffic() -> Vec<Vec<Expr>> {
    let steer = [go_to("steer")];
    let to_server = [DESTINATION, Expr::In("alg_servers".into())];
    let error = rule(&[&protocol(ICMP), &[Expr::Load(Load::Transport(0, 1)), Expr::In("icmp_errors".into())]]);
    // The quoted IPv4 header begins at 8: its protocol is at 17, the source port behind it at 28.
    let about = |number| [Expr::Load(Load::Transport(17, 1)), is(&[number])];
    let server_port = [Expr::Load(Load::Transport(28, 2)), Expr::In("alg_server_ports".into())];
    vec![
        rule(&[&pptp_gre(), &to_server, &steer]),
        rule(&[&error, &about(GRE), &steer]),
        rule(&[&error, &about(TCP), &server_port, &steer]),
    ]
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
