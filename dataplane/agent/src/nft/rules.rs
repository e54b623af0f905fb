//! The chains of one rule: destination, then each of its services, then what it does.

use callgate_proto::model::{Action, Match, NodeConfig, PortRange, Rule, Service};

use super::chains::{
    DESTINATION, DROP, INVALID, NEW, TCP, UDP, UNTRACKED, go_to, protocol, rule as join, set_tag, state,
};
use super::expr::{Compare, Expr, Load, Verdict};
use super::ruleset::{Key, Ruleset, Set};
use super::{names, timeouts};
use crate::kernel::{Options, Tags, via};

/// SCTP, DCCP and UDP-Lite have their ports where TCP and UDP have them.
const WITH_PORTS: [u8; 5] = [TCP, UDP, 33, 132, 136];

/// Every packet of a dropped flow is its first one: without a limit one pod could fill the node's log.
pub(super) const LOG_LIMIT: Expr = Expr::Limit { per_second: 10, burst: 100 };

/// The chain that counts a service's sessions over all rules that use it. The ALG counts its own, and answers.
pub(super) fn limit(ruleset: &mut Ruleset, service: &Service) {
    if has_limit(service) {
        let over = vec![Expr::CountOver(service.max_sessions), Expr::Counter, Expr::Then(Verdict::Drop)];
        ruleset.chain(names::limit(service), vec![over]);
    }
}

fn has_limit(service: &Service) -> bool {
    service.max_sessions > 0 && service.alg.is_none()
}

/// The chain of one rule, with one chain of actions for each of its services.
pub(super) fn rule(ruleset: &mut Ruleset, config: &NodeConfig, rule: &Rule, tags: &Tags, options: &Options) {
    let mut rules = Vec::new();
    if rule.destinations.iter().all(|net| net.prefix_len() > 0) {
        let name = names::destinations(&rule.key);
        let mut set = Set::ranges(Key::Address);
        rule.destinations.iter().for_each(|net| set.block(*net, None));
        ruleset.sets.insert(name.clone(), set);
        rules.push(vec![DESTINATION, Expr::NotIn(name), Expr::Then(Verdict::Return)]);
    }
    for service in config.services_of(rule) {
        let name = names::actions(rule, service);
        for (number, found) in service.matches.iter().enumerate() {
            let mut exprs = matching(ruleset, service, number, found);
            exprs.push(go_to(&name));
            rules.push(exprs);
        }
        ruleset.chain(name, actions(rule, service, tags, options));
    }
    ruleset.chain(names::rule(&rule.key), rules);
}

/// What is done with the first packet of a flow.
fn actions(rule: &Rule, service: &Service, tags: &Tags, options: &Options) -> Vec<Vec<Expr>> {
    let via = via(rule.action, service.alg.is_some(), service.forward_icmp_errors);
    let tag = via.and_then(|via| tags.get(&rule.key, via));
    if via.is_some() && tag.is_none() {
        // It waits until the flows of another one are deleted: without a tag nothing would be translated.
        return vec![DROP.to_vec()];
    }
    let mut rules = Vec::new();
    let steered = rule.action == Action::Nat && service.alg.is_some();
    match rule.action {
        // What conntrack does not follow cannot be translated, and without its tag not be answered: it would leave as it is.
        Action::Nat | Action::Reject if !steered => rules.push(join(&[&state(INVALID | UNTRACKED), &DROP])),
        Action::Nat | Action::Allow | Action::Drop | Action::Reject => {}
    }
    if matches!(rule.action, Action::Nat | Action::Allow) && !steered {
        if has_limit(service) {
            rules.push(join(&[&state(NEW), &[Expr::Then(Verdict::Jump(names::limit(service)))]]));
        }
        for (number, object) in timeouts::names(service) {
            rules.push(join(&[&protocol(number), &[Expr::Timeouts(object)]]));
        }
    }
    if rule.log {
        rules.push(join(&[&state(NEW), &[LOG_LIMIT, Expr::Log(log_prefix(rule))]]));
    }
    if let Some(tag) = tag {
        // A rule of its own: it ends early for a packet without connection, which must be steered all the same.
        rules.push(set_tag(tag, options).to_vec());
    }
    let verdict = match rule.action {
        Action::Nat if steered => Verdict::Goto("steer".into()),
        Action::Nat | Action::Allow | Action::Reject => Verdict::Accept,
        Action::Drop => Verdict::Drop,
    };
    rules.push(vec![Expr::Counter, Expr::Then(verdict)]);
    rules
}

/// `callgate <namespace>/<rule> <action> `; the kernel keeps 127 octets, so a long name is cut.
fn log_prefix(rule: &Rule) -> String {
    let action = match rule.action {
        Action::Nat => "NAT",
        Action::Allow => "Allow",
        Action::Drop => "Drop",
        Action::Reject => "Reject",
    };
    let room = 127 - "callgate   ".len() - action.len();
    let name: String = rule.key.to_string().chars().filter(char::is_ascii).take(room).collect();
    format!("callgate {name} {action} ")
}

/// The expressions that match one entry of a service.
fn matching(ruleset: &mut Ruleset, service: &Service, number: usize, found: &Match) -> Vec<Expr> {
    let mut exprs = found.protocol.map_or_else(Vec::new, |number| protocol(number).to_vec());
    if found.protocol.is_some_and(|number| WITH_PORTS.contains(&number)) {
        exprs.extend(ports(ruleset, || names::ports(service, "sp", number), 0, &found.source_ports));
        exprs.extend(ports(ruleset, || names::ports(service, "dp", number), 2, &found.destination_ports));
    }
    exprs
}

/// The port at this offset of the transport header is in these ranges: compared where there is one, else looked up in a set.
fn ports(ruleset: &mut Ruleset, name: impl FnOnce() -> String, offset: u32, ranges: &[PortRange]) -> Vec<Expr> {
    let load = Expr::Load(Load::Transport(offset, 2));
    let compare = |compare, port: u16| Expr::If(compare, port.to_be_bytes().to_vec());
    match ranges {
        [] | [PortRange::ALL] => Vec::new(),
        [range] if range.first == range.last => vec![load, compare(Compare::Is, range.first)],
        [range] => vec![load, compare(Compare::AtLeast, range.first), compare(Compare::AtMost, range.last)],
        ranges => {
            let (name, mut set) = (name(), Set::ranges(Key::Port));
            ranges.iter().for_each(|range| set.ports(range.first, range.last));
            ruleset.sets.insert(name.clone(), set);
            vec![load, Expr::In(name)]
        }
    }
}
