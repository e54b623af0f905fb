//! The compiled configuration does with every packet what the objects say, read one by one in plain words.

use callgate_compile::compile;
use callgate_compile::explain::{Match, Packet, Verdict, explain, first_match};
use callgate_compile::world::{Labels, Pod, World};
use callgate_crds::fields::{Cidr, Ports, ProtocolMatch, selects};
use callgate_crds::{Action, IpRuleSpec, ServiceSpec};
use callgate_proto::model::{self, NodeConfig, ObjectKey};
use proptest::prelude::*;

use super::worlds::{address, world};

fn within(nets: &[Cidr], address: std::net::Ipv4Addr) -> bool {
    nets.iter().any(|net| {
        let net = net.parse().unwrap();
        let shift = 32 - u32::from(net.prefix);
        u64::from(u32::from(address)) >> shift == u64::from(u32::from(net.address)) >> shift
    })
}

fn selected(world: &World, namespace: &str, spec: &IpRuleSpec, packet: &Packet) -> bool {
    let source = &spec.source;
    let one = |key: &ObjectKey, pod: &Pod| {
        let mut namespace_labels: Labels = world.namespaces.get(&key.namespace).cloned().unwrap_or_default();
        namespace_labels.insert("kubernetes.io/metadata.name".to_owned(), key.namespace.clone());
        let in_scope = match &source.namespace_selector {
            Some(wanted) => selects(wanted, &namespace_labels),
            None => source.pod_selector.is_some() && key.namespace == namespace,
        };
        let labelled = source.pod_selector.as_ref().is_none_or(|wanted| selects(wanted, &pod.labels));
        in_scope && labelled && !pod.host_network && !pod.finished && pod.addresses.contains(&packet.src)
    };
    within(&source.cidrs, packet.src) || world.pods.iter().any(|(key, pod)| one(key, pod))
}

fn matched(world: &World, service: &ServiceSpec, packet: &Packet) -> bool {
    if !service.members.is_empty() {
        let member = |name: &str| &world.services[&ObjectKey::new("callgate-system", name)].spec;
        return service.members.iter().any(|named| matched(world, member(&named.name), packet));
    }
    let protocol = match service.protocol.as_ref().unwrap().resolve().unwrap() {
        ProtocolMatch::Tcp => packet.protocol == 6,
        ProtocolMatch::Udp => packet.protocol == 17,
        ProtocolMatch::TcpUdp => packet.protocol == 6 || packet.protocol == 17,
        ProtocolMatch::Icmp => packet.protocol == 1,
        ProtocolMatch::Any => true,
        ProtocolMatch::Number(number) => packet.protocol == number,
    };
    let among = |ports: Option<&Ports>, port: u16| {
        ports.is_none_or(|ports| ports.ranges().unwrap().iter().any(|range| (range.first..=range.last).contains(&port)))
    };
    protocol
        && among(Some(&service.source_ports), packet.src_port)
        && among(service.destination_ports.as_ref(), packet.dst_port)
}

/// The rule that decides. A rule with nothing left of its destination takes part in nothing, nor does one that loses a
/// conflict, but what it would match is decided before it anyway.
fn decides<'a>(world: &'a World, packet: &Packet) -> Option<(&'a ObjectKey, Action)> {
    let mut rules: Vec<_> = world.rules.iter().collect();
    rules.sort_by_key(|(key, object)| (object.spec.order, *key));
    let found = rules.into_iter().find(|(key, object)| {
        let spec = &object.spec;
        selected(world, &key.namespace, spec, packet)
            && within(&spec.destination.cidrs, packet.dst)
            && !within(&spec.destination.except, packet.dst)
            && spec.services.iter().any(|named| {
                matched(world, &world.services[&ObjectKey::new("callgate-system", named.name.as_str())].spec, packet)
            })
    });
    found.map(|(key, object)| (key, object.spec.action))
}

fn same(action: Action) -> model::Action {
    match action {
        Action::Nat => model::Action::Nat,
        Action::Allow => model::Action::Allow,
        Action::Drop => model::Action::Drop,
        Action::Reject => model::Action::Reject,
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    let port = || prop_oneof![Just(53u16), Just(80), Just(443), Just(1000), Just(1999), Just(2000), any::<u16>()];
    let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(47)];
    (address(), port(), address(), port(), protocol).prop_map(|(src, src_port, dst, dst_port, protocol)| Packet {
        src,
        src_port,
        dst,
        dst_port,
        protocol,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_first_rule_that_matches_decides(world in world(), packets in proptest::collection::vec(packet(), 60)) {
        let compiled = compile(&world, None);
        let config: &NodeConfig = &compiled.nodes["standalone"];
        for packet in &packets {
            let explanation = explain(config, packet);
            let found = match (&explanation.rule, explanation.verdict) {
                (Some(rule), Verdict::Rule(action)) => Some((rule, action)),
                (None, Verdict::Cluster | Verdict::NotSelected | Verdict::NoRule) => None,
                odd => panic!("{odd:?}"),
            };
            let expected = decides(&world, packet).map(|(rule, action)| (rule, same(action)));
            prop_assert_eq!(found, expected, "{}", explanation);
            let quick = first_match(config, packet).map(|Match { rule, .. }| &config.rules[rule as usize].key);
            prop_assert_eq!(quick, explanation.rule.as_ref());
        }
    }

    #[test]
    fn every_configuration_is_one_that_an_agent_accepts(world in world()) {
        for config in compile(&world, None).nodes.values() {
            let read = NodeConfig::decode(&config.encode());
            prop_assert_eq!(read.as_ref(), Ok(&**config));
        }
    }
}
