//! Snapshots for the tests: one fixed that uses every field, and a strategy for any valid one.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::Ipv4Addr;

use callgate_proto::model::*;
use ipnet::Ipv4Net;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Parses a network.
pub fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// A snapshot in which every field has a value other than its default.
pub fn sample() -> NodeConfig {
    NodeConfig {
        node: "worker-1".into(),
        cluster_nets: vec![net("10.42.0.0/16"), net("10.43.0.0/16")],
        rules: vec![
            Rule {
                key: ObjectKey::new("pos", "tills-to-head-office"),
                action: Action::Nat,
                destinations: vec![net("0.0.0.0/0")],
                services: vec![0, 1],
                external: External::NodeAddress,
                log: true,
            },
            Rule {
                key: ObjectKey::new("pos", "web"),
                action: Action::Reject,
                destinations: vec![net("192.0.2.0/25"), net("198.51.100.0/24")],
                services: vec![1],
                external: External::Address(Ipv4Addr::new(203, 0, 113, 9)),
                log: false,
            },
        ],
        services: vec![
            Service {
                key: ObjectKey::new("pos", "pptp-service"),
                matches: vec![Match {
                    protocol: Some(6),
                    source_ports: vec![PortRange { first: 1024, last: 65535 }],
                    destination_ports: vec![
                        PortRange { first: 1723, last: 1723 },
                        PortRange { first: 5000, last: 5001 },
                    ],
                }],
                alg: Some(0),
                max_sessions: 200,
                forward_icmp_errors: true,
                timeouts: Some(Timeouts { initial: 30, established: 3600, closing: 10 }),
            },
            Service {
                key: ObjectKey::new("pos", "web"),
                matches: vec![Match { protocol: None, source_ports: vec![], destination_ports: vec![] }],
                alg: None,
                max_sessions: 0,
                forward_icmp_errors: false,
                timeouts: None,
            },
        ],
        algs: vec![PptpAlg {
            key: ObjectKey::new("pos", "pptp"),
            echo_timeout_ms: 180_000,
            idle_timeout_ms: 7,
            max_calls: 1000,
            control_connection: ControlConnection::PerClient,
            validation: Validation::Strict,
        }],
        chains: vec![vec![0], vec![0, 1]],
        sources: vec![Source { net: net("10.42.0.7/32"), chain: 1 }, Source { net: net("10.42.1.0/24"), chain: 0 }],
    }
}

fn key() -> impl Strategy<Value = ObjectKey> {
    ("[a-z]{0,4}", "[a-z][a-z0-9-]{0,5}").prop_map(|(namespace, name)| ObjectKey { namespace, name })
}

fn nets(max: usize) -> impl Strategy<Value = Vec<Ipv4Net>> {
    vec((any::<u32>(), 0u8..=32), 0..max).prop_map(|list| {
        let cut = |(bits, len)| Ipv4Net::new(Ipv4Addr::from_bits(bits), len).unwrap().trunc();
        let mut nets: Vec<Ipv4Net> = list.into_iter().map(cut).collect();
        nets.sort_by_key(|n| (n.network(), n.prefix_len()));
        nets.dedup_by(|next, last| last.contains(&next.network()));
        nets
    })
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    vec((any::<u16>(), any::<u16>()), 0..3).prop_map(|list| {
        let mut list: Vec<PortRange> =
            list.into_iter().map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) }).collect();
        list.sort();
        list.dedup_by(|next, last| next.first <= last.last);
        list
    })
}

fn matches() -> impl Strategy<Value = Match> {
    (option::of(any::<u8>()), ports(), ports()).prop_map(|(protocol, source_ports, destination_ports)| Match {
        protocol,
        source_ports,
        destination_ports,
    })
}

fn alg() -> impl Strategy<Value = PptpAlg> {
    let control =
        prop_oneof![Just(ControlConnection::PerClient), Just(ControlConnection::Shared), Just(ControlConnection::Auto)];
    let validation = prop_oneof![Just(Validation::Strict), Just(Validation::Permissive)];
    (key(), any::<u64>(), any::<u64>(), any::<u32>(), control, validation).prop_map(
        |(key, echo_timeout_ms, idle_timeout_ms, max_calls, control_connection, validation)| PptpAlg {
            key,
            echo_timeout_ms,
            idle_timeout_ms,
            max_calls,
            control_connection,
            validation,
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    any::<(u32, u32, u32)>().prop_map(|(initial, established, closing)| Timeouts { initial, established, closing })
}

fn service() -> impl Strategy<Value = Service> {
    (key(), vec(matches(), 0..3), option::of(any::<u32>()), any::<u32>(), any::<bool>(), option::of(timeouts()))
        .prop_map(|(key, matches, alg, max_sessions, forward_icmp_errors, timeouts)| Service {
            key,
            matches,
            alg,
            max_sessions,
            forward_icmp_errors,
            timeouts,
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![Just(Action::Nat), Just(Action::Allow), Just(Action::Drop), Just(Action::Reject)];
    let external = prop_oneof![
        Just(External::NodeAddress),
        any::<u32>().prop_map(|bits| External::Address(Ipv4Addr::from_bits(bits)))
    ];
    (key(), action, nets(4), vec(any::<u32>(), 0..4), external, any::<bool>()).prop_map(
        |(key, action, destinations, services, external, log)| Rule {
            key,
            action,
            destinations,
            services,
            external,
            log,
        },
    )
}

fn sort_by_key<T>(list: &mut Vec<T>, key: impl Fn(&T) -> &ObjectKey) {
    list.sort_by(|a, b| key(a).cmp(key(b)));
    list.dedup_by(|a, b| key(a) == key(b));
}

/// Points an index into a list of `len`; false if the list is empty.
fn point(index: &mut u32, len: usize) -> bool {
    let len = u32::try_from(len).unwrap();
    *index = index.checked_rem(len).unwrap_or(0);
    len > 0
}

/// Any snapshot that `compile` could write.
pub fn node_config() -> impl Strategy<Value = NodeConfig> {
    (
        "[a-z]{0,8}",
        nets(4),
        vec(rule(), 0..5),
        vec(service(), 0..4),
        vec(alg(), 0..3),
        vec(vec(any::<u32>(), 1..4), 0..4),
        nets(8),
        any::<u32>(),
    )
        .prop_map(|(node, cluster_nets, mut rules, mut services, mut algs, mut chains, blocks, mut pick)| {
            sort_by_key(&mut services, |s| &s.key);
            sort_by_key(&mut algs, |a| &a.key);
            for service in &mut services {
                service.alg = service.alg.take().filter(|_| !algs.is_empty());
                service.alg.iter_mut().for_each(|i| assert!(point(i, algs.len())));
            }
            for rule in &mut rules {
                rule.services.retain_mut(|i| point(i, services.len()));
            }
            for chain in &mut chains {
                chain.retain_mut(|i| point(i, rules.len()));
                chain.sort_unstable();
                chain.dedup();
            }
            chains.retain(|chain| !chain.is_empty());
            let mut sources = Vec::new();
            for net in blocks {
                pick = pick.wrapping_mul(2_654_435_761).wrapping_add(1);
                let mut chain = pick >> 8;
                if point(&mut chain, chains.len()) {
                    sources.push(Source { net, chain });
                }
            }
            NodeConfig { node, cluster_nets, rules, services, algs, chains, sources }
        })
}
