//! A kernel that lacks a part of nftables carries out everything that does not need it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use callgate_proto::Optional;
use callgate_proto::model::{Action, ControlConnection, NodeConfig, Timeouts};
use callgate_proto::pb::Feature;

/// Rules: NAT by an ALG and logged; NAT with a limit and time-outs; the same services with Drop.
fn config() -> NodeConfig {
    let mut config = common::sample();
    (config.services[1].max_sessions, config.services[1].timeouts) =
        (200, Some(Timeouts { initial: 1, established: 2, closing: 3 }));
    config.algs[0].control_connection = ControlConnection::Auto;
    let pptp = &mut config.rules[0];
    (pptp.action, pptp.log, pptp.services) = (Action::Nat, true, vec![0]);
    let web = &mut config.rules[1];
    (web.action, web.log, web.services) = (Action::Nat, false, vec![1]);
    let mut dropped = web.clone();
    (dropped.action, dropped.key.name) = (Action::Drop, "dropped".into());
    config.rules.push(dropped);
    config
}

fn of(parts: &[Optional]) -> BTreeSet<Optional> {
    parts.iter().copied().collect()
}

#[test]
fn every_object_needs_what_it_says_and_a_rule_what_its_services_and_their_algs_need() {
    use Optional::{ConnectionLimits, Logging, Sockets, Timeouts};
    let config = config();
    let rules: Vec<BTreeSet<Optional>> = config.rules.iter().map(|rule| config.needs_of(rule)).collect();
    assert_eq!(rules, [of(&[Logging, Sockets]), of(&[ConnectionLimits, Timeouts]), of(&[])]);
    // The ALG counts its own sessions and has its own time-outs.
    let services: Vec<BTreeSet<Optional>> = config.services.iter().map(|service| service.needs()).collect();
    assert_eq!(services, [of(&[]), of(&[ConnectionLimits, Timeouts])]);
    assert_eq!(config.algs[0].needs(), of(&[Sockets]));
}

#[test]
fn without_what_is_missing_nothing_needs_it_and_all_else_is_as_it_was() {
    let config = config();
    for part in Optional::ALL {
        let without = config.without(&of(&[part]));
        let needs = |config: &NodeConfig| -> BTreeSet<Optional> {
            let rules = config.rules.iter().flat_map(|rule| config.needs_of(rule));
            let services = config.services.iter().flat_map(|service| service.needs());
            rules.chain(services).chain(config.algs.iter().flat_map(|alg| alg.needs())).collect()
        };
        let mut rest = needs(&config);
        assert!(rest.remove(&part), "{part}");
        assert_eq!(needs(&without), rest, "{part}");
    }
    assert_eq!(config.without(&BTreeSet::new()), config);
    // What counts sessions without the kernel still does.
    let pptp = config.without(&Optional::ALL.into()).services[0].clone();
    assert_eq!((pptp.max_sessions, pptp.timeouts), (200, config.services[0].timeouts));
}

#[test]
fn what_a_kernel_lacks_is_read_from_what_is_told_of_it() {
    let feature = |name: &str, available| Feature { name: name.into(), available, detail: String::new() };
    let features = [
        feature("nftables: logging", false),
        feature("nftables: connection limits", true),
        feature("nftables: NAT", false),
        feature("something new", false),
    ];
    assert_eq!(Optional::missing(&features), of(&[Optional::Logging]));
}

#[test]
fn a_part_has_the_name_it_is_read_by() {
    for part in Optional::ALL {
        assert_eq!(part.to_string().parse(), Ok(part));
    }
    let error = "\"conntrack\" is none of connection-limits, logging, sockets, timeouts".to_owned();
    assert_eq!("conntrack".parse::<Optional>(), Err(error));
}

#[test]
fn people_are_told_what_has_no_effect_and_what_would_help() {
    let lacks = of(&[Optional::Logging, Optional::ConnectionLimits]);
    let expected = "in force, but not all of it, as this kernel lacks something: maxSessions of services without an ALG has no effect \
                    (load module nft_connlimit), log: true of rules has no effect (load module nft_log); the agent finds what was \
                    loaded when it starts anew";
    assert_eq!(Optional::shortfall(&of(&Optional::ALL), &lacks).as_deref(), Some(expected));
    assert_eq!(Optional::shortfall(&of(&[Optional::Sockets]), &lacks), None);
}
