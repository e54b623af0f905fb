//! The ruleset of a node configuration: sets and maps, and which chains there are.
//!
//! See docs/dataplane.md for the picture. Everything is written from typed values in a fixed order, so equal
//! configurations give equal rulesets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, NodeConfig, PortRange, Rule};

use super::chains;
use super::encode::Batch;
use super::expr::Verdict;
use super::live::Live;
use super::rules;
use super::ruleset::{HOSTS, Key, Ruleset, Set};
use super::uses::Uses;
use super::{names, sockets, steering, timeouts};
use crate::kernel::{Options, SENT_TAG, Tags, Via};

/// Everything our table holds for this configuration and the connections of the ALG that live, with as much of the ALG's way as
/// `uses` says.
pub(crate) fn ruleset(config: &NodeConfig, live: &Live, tags: &Tags, options: &Options, uses: Uses) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let source_chains = chains::sources(&mut ruleset, config);
    let ways: Vec<Via> = tags.live().map(|(key, _)| key.via).collect();
    // Not where a packet of a flow may have to be steered, or must not pass any more.
    let settled = uses == Uses::Ordinary && tags.retired().next().is_none();
    chains::fixed(&mut ruleset, options, &ways, settled);
    match uses {
        Uses::Ordinary => {}
        Uses::Alg => steering::chains(&mut ruleset, options),
        Uses::Sockets => {
            steering::chains(&mut ruleset, options);
            sockets::rules(&mut ruleset, options);
        }
    }
    sets(&mut ruleset, config, options);
    ruleset.sets.extend(alg_sets(config, live).map(|(name, set)| (name.to_owned(), set)));
    source_maps(&mut ruleset, config, &source_chains);
    tag_maps(&mut ruleset, config, tags, options, uses);
    for service in &config.services {
        rules::limit(&mut ruleset, service);
        timeouts::objects(&mut ruleset, service);
    }
    for rule in &config.rules {
        rules::rule(&mut ruleset, config, rule, tags, options);
    }
    externals(&mut ruleset, config, options);
    // An empty chain whose name says which structure this is: what a later process finds, it can adopt.
    let name = names::structure(&Batch::structure(&ruleset.structure()));
    ruleset.chain(name, Vec::new());
    ruleset
}

fn sets(ruleset: &mut Ruleset, config: &NodeConfig, options: &Options) {
    let mut cluster = Set::ranges(Key::Address);
    config.cluster_nets.iter().for_each(|net| cluster.block(*net, None));
    ruleset.sets.insert("cluster_nets".into(), cluster);

    let mut ports = Set::ranges(Key::Port);
    options.external_ports.0.iter().for_each(|range| ports.ports(range.first, range.last));
    ruleset.sets.insert("alg_ports".into(), ports);

    // Destination unreachable, time exceeded, parameter problem (RFC 792).
    let mut errors = Set::singles(Key::IcmpType);
    [3u8, 11, 12].iter().for_each(|kind| errors.single(&[*kind], None));
    ruleset.sets.insert("icmp_errors".into(), errors);
}

/// The ALG's own addresses, where its servers may be, and on which ports they listen: of the rules, and of connections that live on
/// whatever the rules say now, with their clients.
pub(crate) fn alg_sets(config: &NodeConfig, live: &Live) -> [(&'static str, Set); 4] {
    let (mut nets, mut ranges) = (live.servers.clone(), live.ports.clone());
    for rule in &config.rules {
        for service in config.alg_services_of(rule) {
            nets.extend(rule.destinations.iter().copied());
            for found in &service.matches {
                match found.destination_ports.as_slice() {
                    [] => ranges.push(PortRange::ALL),
                    some => ranges.extend_from_slice(some),
                }
            }
        }
    }
    let addresses = |addresses: &BTreeSet<Ipv4Addr>| {
        let mut set = Set::singles(Key::Address);
        addresses.iter().for_each(|address| set.single(&address.octets(), None));
        set
    };
    let mut ports = Set::ranges(Key::Port);
    PortRange::merged(ranges).into_iter().for_each(|range| ports.ports(range.first, range.last));
    let mut servers = Set::ranges(Key::Address);
    ipnet::Ipv4Net::aggregate(&nets).into_iter().for_each(|net| servers.block(net, None));
    [
        ("own_addresses", addresses(&live.own)),
        ("alg_clients", addresses(&live.clients)),
        ("alg_server_ports", ports),
        ("alg_servers", servers),
    ]
}

/// Which chain judges which source; `names` are the chains of `config.chains`.
fn source_maps(ruleset: &mut Ruleset, config: &NodeConfig, names: &[String]) {
    let (mut hosts, mut nets) = (Set::singles(Key::Address).map(), Set::ranges(Key::Address).map());
    for source in &config.sources {
        let Some(name) = names.get(source.chain as usize) else { continue };
        let verdict = Some(Verdict::Goto(name.clone()));
        match source.net.prefix_len() {
            32 => hosts.single(&source.net.addr().octets(), verdict),
            _ => nets.block(source.net, verdict),
        }
    }
    ruleset.sets.insert(HOSTS.into(), hosts);
    ruleset.sets.insert("src_nets".into(), nets);
}

/// What each tag means: for packets of its flow, for its first packet behind routing, for ICMP errors about it.
fn tag_maps(ruleset: &mut Ruleset, config: &NodeConfig, tags: &Tags, options: &Options, uses: Uses) {
    // Every packet of every flow is looked up here.
    let mut by_tag = Set::singles(Key::Mark).map().of_size(u32::from(SENT_TAG));
    let mut nat = Set::singles(Key::Mark).map();
    let (mut rejected, mut quiet) = (Set::singles(Key::Mark), Set::singles(Key::Mark));
    let rules: std::collections::BTreeMap<_, &Rule> = config.rules.iter().map(|rule| (&rule.key, rule)).collect();
    for (key, tag) in tags.live() {
        let mark = options.tag_mark(tag).to_ne_bytes();
        match key.via {
            Via::Alg => by_tag.single(&mark, Some(Verdict::Goto("steer_original".into()))),
            Via::Kernel => by_tag.single(&mark, Some(Verdict::Accept)),
            Via::KernelQuiet => {
                by_tag.single(&mark, Some(Verdict::Accept));
                quiet.single(&mark, None);
            }
            Via::Reject => rejected.single(&mark, None),
        }
        let kernel = matches!(key.via, Via::Kernel | Via::KernelQuiet);
        if let Some(rule) = rules.get(&key.rule).filter(|_| kernel) {
            nat.single(&mark, Some(external(rule)));
        }
    }
    // Until its flows are deleted from conntrack nothing of a rule that is gone may pass on, nor begin if it was under way just now.
    let gone = if uses >= Uses::Alg { Verdict::Goto("parting".into()) } else { Verdict::Drop };
    for tag in tags.retired() {
        by_tag.single(&options.tag_mark(tag).to_ne_bytes(), Some(gone.clone()));
        nat.single(&options.tag_mark(tag).to_ne_bytes(), Some(Verdict::Drop));
    }
    if uses >= Uses::Alg {
        // GRE of a call, and a connection first seen in a packet of ours to the pod (after conntrack -F): what the pod says is for
        // the ALG.
        by_tag.single(&options.tag_mark(SENT_TAG).to_ne_bytes(), Some(Verdict::Goto("steer".into())));
    }
    ruleset.sets.insert("by_tag".into(), by_tag);
    ruleset.sets.insert("nat_by_tag".into(), nat);
    ruleset.sets.insert("rejected_tags".into(), rejected);
    ruleset.sets.insert("quiet_tags".into(), quiet);
}

/// What gives a rule's flows their source address. Where it lets none begin any more, this is a first packet that was under way
/// when the rule was edited: it would leave as it is.
fn external(rule: &Rule) -> Verdict {
    match (rule.action, rule.external) {
        (Action::Nat, External::NodeAddress) => Verdict::Goto("masquerade_node".into()),
        (Action::Nat, External::Address(address)) => Verdict::Goto(format!("snat_{address}")),
        (Action::Allow, _) => Verdict::Goto("keep_source".into()),
        (Action::Drop | Action::Reject, _) => Verdict::Drop,
    }
}

fn externals(ruleset: &mut Ruleset, config: &NodeConfig, options: &Options) {
    let addresses = config.rules.iter().filter_map(|rule| match rule.external {
        External::Address(address) => Some(address),
        External::NodeAddress => None,
    });
    chains::external(ruleset, "masquerade_node", None, options);
    for address in addresses {
        chains::external(ruleset, &format!("snat_{address}"), Some(address), options);
    }
}

/// The chain of one list of rules.
pub(super) fn source_name(config: &NodeConfig, list: &[u32]) -> String {
    names::source(list.iter().filter_map(|index| config.rules.get(*index as usize)).map(|rule| &rule.key))
}
