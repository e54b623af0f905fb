//! The ruleset of a node configuration: sets and maps, and which chains there are.
//!
//! See docs/dataplane.md for the picture. Everything is written from typed values in a fixed order, so equal
//! configurations give equal rulesets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_proto::model::{Action, External, NodeConfig};

use super::chains;
use super::expr::Verdict;
use super::rules;
use super::ruleset::{Key, Ruleset, Set, Timeouts};
use crate::kernel::{Options, Tags, Via};

/// Everything our table holds for this configuration.
pub(crate) fn ruleset(config: &NodeConfig, own: &[Ipv4Addr], tags: &Tags, options: &Options) -> Ruleset {
    let mut ruleset = Ruleset::default();
    sets(&mut ruleset, config, own, tags, options);
    chains::fixed(&mut ruleset, options);
    for (index, _) in config.services.iter().enumerate() {
        rules::service(&mut ruleset, config, index);
    }
    for (index, _) in config.rules.iter().enumerate() {
        rules::rule(&mut ruleset, config, index, tags, options);
    }
    for (index, list) in config.chains.iter().enumerate() {
        chains::source(&mut ruleset, index, list, config);
    }
    externals(&mut ruleset, config);
    ruleset
}

fn sets(ruleset: &mut Ruleset, config: &NodeConfig, own: &[Ipv4Addr], tags: &Tags, options: &Options) {
    let mut cluster = Set::ranges(Key::Address, false);
    config.cluster_nets.iter().for_each(|net| cluster.block(*net, None));
    ruleset.sets.insert("cluster_nets".into(), cluster);

    let mut addresses = Set::hash(Key::Address, false);
    own.iter().for_each(|address| addresses.single(&address.octets(), None));
    ruleset.sets.insert("own_addresses".into(), addresses);

    let mut ports = Set::ranges(Key::Port, false);
    options.external_ports.0.iter().for_each(|range| ports.ports(range.first, range.last));
    ruleset.sets.insert("alg_ports".into(), ports);

    let (mut hosts, mut nets) = (Set::hash(Key::Address, true), Set::ranges(Key::Address, true));
    for source in &config.sources {
        let verdict = Some(Verdict::Goto(chains::source_name(source.chain as usize)));
        match source.net.prefix_len() {
            32 => hosts.single(&source.net.addr().octets(), verdict),
            _ => nets.block(source.net, verdict),
        }
    }
    ruleset.sets.insert("src_hosts".into(), hosts);
    ruleset.sets.insert("src_nets".into(), nets);

    alg_sets(ruleset, config);
    tag_maps(ruleset, config, tags, options);
}

/// Where the ALG's servers may be, and on which ports they listen.
fn alg_sets(ruleset: &mut Ruleset, config: &NodeConfig) {
    let (mut ports, mut nets) = (Set::ranges(Key::Port, false), Vec::new());
    let mut ranges = Vec::new();
    for rule in config.rules.iter().filter(|rule| rule.action == Action::Nat) {
        for service in rule.services.iter().filter_map(|index| config.services.get(*index as usize)) {
            if service.alg.is_some() {
                nets.extend(rule.destinations.iter().copied());
                ranges.extend(service.matches.iter().flat_map(|m| &m.destination_ports).map(|r| (r.first, r.last)));
            }
        }
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(open) if u32::from(first) <= u32::from(open.1) + 1 => open.1 = open.1.max(last),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged.into_iter().for_each(|(first, last)| ports.ports(first, last));
    let mut destinations = Set::ranges(Key::Address, false);
    ipnet::Ipv4Net::aggregate(&nets).into_iter().for_each(|net| destinations.block(net, None));
    ruleset.sets.insert("alg_server_ports".into(), ports);
    ruleset.sets.insert("alg_servers".into(), destinations);
}

/// What each tag means: for packets of its flow, for its first packet behind routing, for ICMP errors about it.
fn tag_maps(ruleset: &mut Ruleset, config: &NodeConfig, tags: &Tags, options: &Options) {
    let mut by_tag = Set::hash(Key::Mark, true);
    let (mut nat, mut rejected, mut quiet) =
        (Set::hash(Key::Mark, true), Set::hash(Key::Mark, false), Set::hash(Key::Mark, false));
    for (key, tag) in tags.live() {
        let mark = options.tag_mark(tag).to_ne_bytes();
        let rule = config.rules.iter().find(|rule| rule.key == key.rule);
        match key.via {
            Via::Alg => by_tag.single(&mark, Some(Verdict::Goto("steer".into()))),
            Via::Kernel => by_tag.single(&mark, Some(Verdict::Accept)),
            Via::KernelQuiet => {
                by_tag.single(&mark, Some(Verdict::Accept));
                quiet.single(&mark, None);
            }
            Via::Reject => rejected.single(&mark, None),
        }
        let kernel = matches!(key.via, Via::Kernel | Via::KernelQuiet);
        if let Some(rule) = rule.filter(|rule| kernel && rule.action == Action::Nat) {
            nat.single(&mark, Some(Verdict::Goto(external_name(rule.external))));
        }
    }
    ruleset.sets.insert("by_tag".into(), by_tag);
    ruleset.sets.insert("nat_by_tag".into(), nat);
    ruleset.sets.insert("rejected_tags".into(), rejected);
    ruleset.sets.insert("quiet_tags".into(), quiet);
}

/// The chain that gives this external address.
fn external_name(external: External) -> String {
    match external {
        External::NodeAddress => "masq".into(),
        External::Address(address) => format!("snat_{:08x}", address.to_bits()),
    }
}

fn externals(ruleset: &mut Ruleset, config: &NodeConfig) {
    let mut wanted: BTreeSet<(String, Option<Ipv4Addr>)> = BTreeSet::from([("masq".to_owned(), None)]);
    for rule in &config.rules {
        if let External::Address(address) = rule.external {
            wanted.insert((external_name(rule.external), Some(address)));
        }
    }
    for (name, address) in wanted {
        chains::external(ruleset, name, address);
    }
}

/// The time-out object of a service for a protocol, if it has one.
pub(super) fn timeouts_of(config: &NodeConfig, service: usize, protocol: u8) -> Option<Timeouts> {
    let timeouts = config.services.get(service)?.timeouts?;
    // States as nfnetlink_cttimeout numbers them: TCP SYN_SENT 1, SYN_RECV 2, ESTABLISHED 3, FIN_WAIT 4, CLOSE_WAIT 5,
    // LAST_ACK 6, TIME_WAIT 7; UDP unreplied 1, replied 2.
    let states: Vec<(u16, u32)> = match protocol {
        6 => [(1, timeouts.initial), (2, timeouts.initial), (3, timeouts.established)]
            .into_iter()
            .chain((4..=7).map(|state| (state, timeouts.closing)))
            .filter(|(_, seconds)| *seconds > 0)
            .collect(),
        17 => {
            [(1, timeouts.initial), (2, timeouts.established)].into_iter().filter(|(_, seconds)| *seconds > 0).collect()
        }
        _ => Vec::new(),
    };
    (!states.is_empty()).then(|| Timeouts { name: format!("to_{service}_{protocol}"), protocol, states })
}
