//! The chains of the PPTP ALG: into it what pods send, past the kernel what servers send. Only a node that has the ALG in use has them.
//!
//! ```text
//!  pod ─► prerouting: s_…, by_tag ─► steer ─► routing rule ─► forward ─► callgate0          ALG ─► output_raw, output ─► guard
//!  server ─► (the tap has it) ─► prerouting_raw ─► copies, forward, input: the end
//! ```

use super::chains::{
    DESTINATION, DROP, FORWARD, GRE, ICMP, INVALID, NEW, SOURCE, TCP, UNTRACKED, go_to, is, jump, link, link_name,
    masked, not_link, protocol, rule, set_tag, state, under,
};
use super::expr::{Compare, Expr, Load, Verdict};
use super::ruleset::{Hook, Ruleset};
use crate::kernel::{Options, SENT_TAG};

/// The flag of TCP that begins a connection.
const SYN: u8 = 0x02;

/// Adds them, and to the chains of ordinary rules what the ALG needs there.
pub(super) fn chains(ruleset: &mut Ruleset, options: &Options) {
    let sent = rule(&[&[Expr::Load(Load::Mark)], &masked(options.sent.value, options.sent.mask)]);
    let own_source = [SOURCE, Expr::In("own_addresses".into())];
    let mut raw = vec![rule(&[&link(Load::InName, &options.tap_link), &DROP])];
    raw.extend(from_outside(&[Expr::Notrack], &[go_to("copies")]));
    ruleset.base("prerouting_raw", "filter", Hook::Prerouting, -300, raw);
    // To servers, and GRE to pods: neither has a use for conntrack. TCP to a pod belongs to the pod's own connection.
    let untracked =
        vec![rule(&[&sent, &own_source, &[Expr::Notrack]]), rule(&[&sent, &protocol(GRE), &[Expr::Notrack]])];
    ruleset.base("output_raw", "filter", Hook::Output, -300, untracked);
    let tagged = vec![rule(&[&sent, &state(NEW), &set_tag(SENT_TAG, options)])];
    ruleset.base("output", "filter", Hook::Output, -145, tagged);
    ruleset.base("input", "filter", Hook::Input, -300, from_outside(&DROP, &DROP));
    ruleset.base("guard", "filter", Hook::Postrouting, 150, guard(options));
    forward(ruleset, options);
    let as_it_is = vec![
        rule(&[&link(Load::OutName, &options.steer_link), &[Expr::SnatToItself]]),
        rule(&[&sent, &[Expr::SnatToItself]]),
    ];
    ruleset.first("postrouting", as_it_is);
    // Of a client whose rules would not bring its connection to the ALG any more: it lives on there, and conntrack forgets a call that
    // is silent, and with `conntrack -F` everything. What begins is not meant, nor what conntrack knows: that is judged by the rules.
    let of_client =
        [SOURCE, Expr::In("alg_clients".into()), DESTINATION, Expr::NotIn("cluster_nets".into()), jump("calls")];
    let in_mid_stream = [Expr::Load(Load::Transport(13, 1)), under(&[SYN]), is(&[0])];
    let to_port = [Expr::Load(Load::Transport(2, 2)), Expr::In("alg_server_ports".into())];
    let control = rule(&[&state(NEW | INVALID | UNTRACKED), &protocol(TCP), &in_mid_stream, &to_port, &of_client]);
    ruleset.first("prerouting", vec![rule(&[&pptp_gre(), &of_client]), control]);
    let to_server = [DESTINATION, Expr::In("alg_servers".into())];
    // A rule of its own: it ends early for a packet without connection, which must be steered all the same.
    let tagged = rule(&[&to_server, &set_tag(SENT_TAG, options)]);
    ruleset.chain("calls", vec![tagged, rule(&[&to_server, &[go_to("steer")]])]);
    // The ALG takes leave of a client whose rule has gone: what that answers still arrives.
    let answers = [SOURCE, Expr::In("alg_clients".into())];
    ruleset.chain(
        "parting",
        vec![rule(&[&protocol(TCP), &to_port, &answers, &to_server, &[go_to("steer")]]), DROP.to_vec()],
    );
    ruleset.chain("copies", copies());
    ruleset.chain("steer", vec![steer(options)]);
    let original = [Expr::Load(Load::CtDirection), is(&[0]), go_to("steer")];
    ruleset.chain("steer_original", vec![original.to_vec()]);
}

/// What is steered leaves into the veth pair or not at all: where somebody has taken our routing rule, route or link away, it would
/// go out untranslated. And what is for the ALG at an address that is not the host's own goes no further.
fn forward(ruleset: &mut Ruleset, options: &Options) {
    let steered = rule(&[&[Expr::Load(Load::Mark)], &masked(options.steer.value, options.steer.mask)]);
    let mut rules = vec![rule(&[&steered, &not_link(Load::OutName, &options.steer_link), &[go_to("astray")]])];
    // A chain of its own, so that it is counted by itself.
    ruleset.chain("astray", vec![DROP.to_vec()]);
    let ordinary = ruleset.chains.remove("forward");
    rules.extend(ordinary.into_iter().flat_map(|chain| chain.rules));
    rules.extend(from_outside(&DROP, &DROP));
    ruleset.base("forward", "filter", Hook::Forward, FORWARD, rules);
}

/// Enhanced GRE as PPTP uses it: version 1, protocol 0x880b (RFC 2637 §4.1). The protocol comes from the IPv4 header, and two
/// fields are two steps: anything else makes the nft tool (1.0.6) abort when it lists the rule.
fn pptp_gre() -> Vec<Expr> {
    let version = [Expr::Load(Load::Transport(0, 2)), under(&[0x00, 0x07]), is(&[0, 1])];
    let payload = [Expr::Load(Load::Transport(2, 2)), is(&[0x88, 0x0b])];
    rule(&[&[Expr::Load(Load::Network(9, 1)), is(&[GRE])], &version, &payload])
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

/// After everybody's NAT: under the ALG's addresses nobody else sends PPTP's GRE (it could hit a call), and nobody, the kernel
/// included, tells a server that it cannot be taken (protocol-unreachable) or does not fit (fragmentation-needed): either would end
/// every call of the address. That other GRE does not fit may be told, and so may pods.
fn guard(options: &Options) -> Vec<Vec<Expr>> {
    let own = [SOURCE, Expr::In("own_addresses".into())];
    let not_sent = [
        Expr::Load(Load::Mark),
        under(&options.sent.mask.to_ne_bytes()),
        Expr::If(Compare::Not, options.sent.value.to_ne_bytes().to_vec()),
    ];
    let code = |code| [Expr::Load(Load::Transport(0, 2)), is(&[3, code])];
    let about_gre = [Expr::Load(Load::Transport(17, 1)), is(&[GRE])];
    // The quoted IPv4 header ends at 28.
    let of_pptp = [
        Expr::Load(Load::Transport(28, 2)),
        under(&[0x00, 0x07]),
        is(&[0, 1]),
        Expr::Load(Load::Transport(30, 2)),
        is(&[0x88, 0x0b]),
    ];
    let outside = [DESTINATION, Expr::NotIn("cluster_nets".into())];
    vec![
        rule(&[&pptp_gre(), &own, &not_sent, &DROP]),
        rule(&[&protocol(ICMP), &code(2), &about_gre, &own, &DROP]),
        rule(&[&protocol(ICMP), &code(4), &about_gre, &of_pptp, &own, &outside, &DROP]),
    ]
}

/// Into the veth pair, past the CNI's FORWARD chain.
fn steer(options: &Options) -> Vec<Expr> {
    let mask = (!options.steer.mask).to_ne_bytes().to_vec();
    let xor = options.steer.value.to_ne_bytes().to_vec();
    vec![Expr::Load(Load::Mark), Expr::Bits { mask, xor }, Expr::SetMark, Expr::Then(Verdict::Accept)]
}

/// What a source with an ALG rule sends beside its control connections. GRE never takes the CNI's way, call or no call:
/// behind the same address it could hit another client's call. A call's GRE keeps its way whatever becomes of the rules, by its tag.
pub(super) fn from_source() -> Vec<Vec<Expr>> {
    let steer = [go_to("steer")];
    let error = rule(&[&protocol(ICMP), &[Expr::Load(Load::Transport(0, 1)), Expr::In("icmp_errors".into())]]);
    // The quoted IPv4 header begins at 8: its protocol is at 17, the source port behind it at 28.
    let about = |number| [Expr::Load(Load::Transport(17, 1)), is(&[number])];
    let server_port = [Expr::Load(Load::Transport(28, 2)), Expr::In("alg_server_ports".into())];
    vec![
        rule(&[&pptp_gre(), &[jump("calls")]]),
        rule(&[&error, &about(GRE), &steer]),
        rule(&[&error, &about(TCP), &server_port, &steer]),
    ]
}
