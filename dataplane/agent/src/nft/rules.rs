//! The chains of one rule: destination, then each of its services, then what it does.

use callgate_proto::model::{Action, Match, NodeConfig, PortRange, Rule};

use super::chains::{TCP, UDP, protocol, set_tag};
use super::expr::{Expr, Load, Verdict};
use super::layout::timeouts_of;
use super::ruleset::{Chain, Key, Ruleset, Set};
use crate::kernel::{Options, Tags, via};

/// The chain that matches a rule.
pub(super) fn rule_name(index: usize) -> String {
    format!("r_{index}")
}

/// The chain that counts a service's sessions.
fn limit_name(service: usize) -> String {
    format!("l_{service}")
}

/// What is shared by all rules that use a service: its session limit and its time-outs.
pub(super) fn service(ruleset: &mut Ruleset, config: &NodeConfig, index: usize) {
    let Some(service) = config.services.get(index) else { return };
    // The ALG counts the sessions of its services itself, and answers.
    if service.max_sessions > 0 && service.alg.is_none() {
        let rule = vec![Expr::CountOver(service.max_sessions), Expr::Counter, Expr::Then(Verdict::Drop)];
        ruleset.chains.push(Chain { name: limit_name(index), base: None, rules: vec![rule] });
    }
    ruleset.timeouts.extend([TCP, UDP].into_iter().filter_map(|protocol| timeouts_of(config, index, protocol)));
}

/// The chain of one rule, with one chain of actions for each of its services.
pub(super) fn rule(ruleset: &mut Ruleset, config: &NodeConfig, index: usize, tags: &Tags, options: &Options) {
    let Some(rule) = config.rules.get(index) else { return };
    let everywhere = rule.destinations.iter().any(|net| net.prefix_len() == 0);
    let mut rules = Vec::new();
    if !everywhere {
        let name = format!("d_{index}");
        let mut set = Set::ranges(Key::Address, false);
        rule.destinations.iter().for_each(|net| set.block(*net, None));
        ruleset.sets.insert(name.clone(), set);
        // Not there: back to the chain of the source. There: on, into the second half.
        let matches = format!("m_{index}");
        let to = Expr::Then(Verdict::Jump(matches.clone()));
        rules.push(vec![Expr::Load(Load::Network(16, 4)), Expr::InOwn(name), to]);
        let matched = services(ruleset, config, index, rule, tags, options);
        ruleset.chains.push(Chain { name: matches, base: None, rules: matched });
    } else {
        rules = services(ruleset, config, index, rule, tags, options);
    }
    ruleset.chains.push(Chain { name: rule_name(index), base: None, rules });
}

fn services(
    ruleset: &mut Ruleset,
    config: &NodeConfig,
    index: usize,
    rule: &Rule,
    tags: &Tags,
    options: &Options,
) -> Vec<Vec<Expr>> {
    let mut rules = Vec::new();
    for service in rule.services.iter().map(|service| *service as usize) {
        let Some(of) = config.services.get(service) else { continue };
        let name = format!("v_{index}_{service}");
        for found in &of.matches {
            for mut exprs in matching(ruleset, index, service, found) {
                exprs.push(Expr::Then(Verdict::Goto(name.clone())));
                rules.push(exprs);
            }
        }
        let actions = actions(config, rule, service, tags, options);
        ruleset.chains.push(Chain { name, base: None, rules: actions });
    }
    rules
}

/// What is done with the first packet of a flow.
fn actions(config: &NodeConfig, rule: &Rule, index: usize, tags: &Tags, options: &Options) -> Vec<Vec<Expr>> {
    let Some(service) = config.services.get(index) else { return Vec::new() };
    let mut rules = Vec::new();
    let passes = matches!(rule.action, Action::Nat | Action::Allow);
    if service.max_sessions > 0 && service.alg.is_none() && passes {
        rules.push(vec![Expr::Then(Verdict::Jump(limit_name(index)))]);
    }
    if rule.log {
        rules.push(vec![Expr::Log(log_prefix(rule))]);
    }
    for number in [TCP, UDP] {
        if let Some(timeouts) = timeouts_of(config, index, number).filter(|_| passes && service.alg.is_none()) {
            rules.push([&protocol(number)[..], &[Expr::Timeouts(timeouts.name)]].concat());
        }
    }
    let mut last = vec![Expr::Counter];
    let via = via(rule.action, service.alg.is_some(), service.forward_icmp_errors);
    if let Some(tag) = via.and_then(|via| tags.get(&rule.key, via)) {
        last.extend(set_tag(tag, options));
    }
    last.push(Expr::Then(match rule.action {
        Action::Nat if service.alg.is_some() => Verdict::Goto("steer".into()),
        Action::Nat | Action::Allow | Action::Reject => Verdict::Accept,
        Action::Drop => Verdict::Drop,
    }));
    rules.push(last);
    rules
}

/// The kernel keeps 127 octets of a prefix.
fn log_prefix(rule: &Rule) -> String {
    let action = match rule.action {
        Action::Nat => "NAT",
        Action::Allow => "Allow",
        Action::Drop => "Drop",
        Action::Reject => "Reject",
    };
    let mut name = rule.key.to_string();
    name.truncate(127 - "callgate   ".len() - action.len());
    format!("callgate {name} {action} ")
}

/// The expressions that match one entry of a service: one rule, or one a protocol where ports need it.
fn matching(ruleset: &mut Ruleset, rule: usize, service: usize, found: &Match) -> Vec<Vec<Expr>> {
    let mut exprs = match found.protocol {
        Some(number) => protocol(number).to_vec(),
        None => Vec::new(),
    };
    if matches!(found.protocol, Some(TCP | UDP)) {
        exprs.extend(ports(ruleset, (rule, service, "sp"), 0, found.protocol, &found.source_ports));
        exprs.extend(ports(ruleset, (rule, service, "dp"), 2, found.protocol, &found.destination_ports));
    }
    vec![exprs]
}

/// A port at this offset of the transport header is in these ranges.
fn ports(
    ruleset: &mut Ruleset,
    (_, service, kind): (usize, usize, &str),
    offset: u32,
    protocol: Option<u8>,
    ranges: &[PortRange],
) -> Vec<Expr> {
    let all = |range: &PortRange| range.first == 0 && range.last == u16::MAX;
    let load = Expr::Load(Load::Transport(offset, 2));
    match ranges {
        [] => Vec::new(),
        [range] if all(range) => Vec::new(),
        [range] if range.first == range.last => vec![load, Expr::Equal(range.first.to_be_bytes().to_vec())],
        ranges => {
            // By content, so that equal lists of one service share a set.
            let text: Vec<String> = ranges.iter().map(|r| format!("{:x}{:x}", r.first, r.last)).collect();
            let hash =
                text.concat().bytes().fold(0xcbf2_9ce4u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
            let name = format!("{kind}_{service}_{}_{hash:08x}", protocol.unwrap_or(0));
            let mut set = Set::ranges(Key::Port, false);
            ranges.iter().for_each(|range| set.ports(range.first, range.last));
            ruleset.sets.insert(name.clone(), set);
            vec![load, Expr::InOwn(name)]
        }
    }
}
