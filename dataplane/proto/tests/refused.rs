//! A snapshot that is not one is refused with the path of the field and what is wrong with it.
#![allow(clippy::unwrap_used)]

mod common;

use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use common::sample;
use prost::Message as _;

/// The message after a change to the sample's protobuf form.
fn refused(change: impl FnOnce(&mut pb::NodeConfig)) -> String {
    let mut config = pb::NodeConfig::from(&sample());
    change(&mut config);
    NodeConfig::decode(&config.encode_to_vec()).unwrap_err().to_string()
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        (refused(|c| c.rules[1].key = None), "NodeConfig.rules[1].key: is missing"),
        (refused(|c| c.rules[1].key.as_mut().unwrap().name.clear()), "NodeConfig.rules[1].key.name: is empty"),
        (refused(|c| c.rules[0].action = 0), "NodeConfig.rules[0].action: is not set"),
        (refused(|c| c.rules[0].external = None), "NodeConfig.rules[0].external: is missing"),
        (
            refused(|c| c.rules[0].external = Some(pb::External { kind: None })),
            "NodeConfig.rules[0].external.kind: is not set",
        ),
        (refused(|c| c.services[0].key = None), "NodeConfig.services[0].key: is missing"),
        (refused(|c| c.algs[0].control_connection = 0), "NodeConfig.algs[0].control_connection: is not set"),
        (refused(|c| c.algs[0].validation = 0), "NodeConfig.algs[0].validation: is not set"),
        (refused(|c| c.sources[1].net = None), "NodeConfig.sources[1].net: is missing"),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn what_is_out_of_range_is_named_with_its_value() {
    let cases = [
        (refused(|c| c.cluster_nets[1].prefix_length = 33), "NodeConfig.cluster_nets[1].prefix_length: 33 is above 32"),
        (
            refused(|c| c.rules[0].destinations[0].prefix_length = 300),
            "NodeConfig.rules[0].destinations[0].prefix_length: 300 is above 32",
        ),
        (
            refused(|c| c.sources[1].net.as_mut().unwrap().address |= 1),
            "NodeConfig.sources[1].net.address: 10.42.1.1/24 has host bits; 10.42.1.0/24 is the network",
        ),
        (
            refused(|c| c.rules[0].action = 9),
            "NodeConfig.rules[0].action: 9 is not known here; the sender may be newer than this",
        ),
        (
            refused(|c| c.services[0].matches[0].protocol = Some(256)),
            "NodeConfig.services[0].matches[0].protocol: 256 is above 255, the last IP protocol",
        ),
        (
            refused(|c| c.services[0].matches[0].destination_ports[1].last = 65536),
            "NodeConfig.services[0].matches[0].destination_ports[1].last: 65536 is above 65535, the last port",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn what_refers_to_nothing_is_named_with_what_there_is() {
    let cases = [
        (
            refused(|c| c.rules[1].services[0] = 2),
            "NodeConfig.rules[1].services[0]: refers to services[2], but there are 2",
        ),
        (refused(|c| c.services[0].alg = Some(1)), "NodeConfig.services[0].alg: refers to algs[1], but there are 1"),
        (refused(|c| c.chains[1].rules[1] = 2), "NodeConfig.chains[1].rules[1]: refers to rules[2], but there are 2"),
        (refused(|c| c.sources[0].chain = 2), "NodeConfig.sources[0].chain: refers to chains[2], but there are 2"),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn what_is_out_of_order_is_named_with_both_neighbours() {
    let rest = "the list has to be sorted and without overlap";
    let cases = [
        (
            refused(|c| c.sources.swap(0, 1)),
            format!("NodeConfig.sources: 10.42.0.7/32 comes after 10.42.1.0/24; {rest}"),
        ),
        (
            refused(|c| c.rules[1].destinations.swap(0, 1)),
            format!("NodeConfig.rules[1].destinations: 192.0.2.0/25 comes after 198.51.100.0/24; {rest}"),
        ),
        (
            refused(|c| c.services.swap(0, 1)),
            format!("NodeConfig.services: pos/pptp-service comes after pos/web; {rest}"),
        ),
        (
            refused(|c| c.services[0].matches[0].destination_ports.swap(0, 1)),
            format!("NodeConfig.services[0].matches[0].destination_ports: 1723-1723 comes after 5000-5001; {rest}"),
        ),
        (
            refused(|c| c.services[0].matches[0].source_ports[0].last = 3),
            "NodeConfig.services[0].matches[0].source_ports[0]: first 1024 is above last 3".into(),
        ),
        (refused(|c| c.chains[1].rules.swap(0, 1)), "NodeConfig.chains[1].rules: 0 comes after 1".into()),
        (
            refused(|c| c.chains[0].rules.clear()),
            "NodeConfig.chains[0].rules: is empty; a source without rules is left out instead".into(),
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn bytes_that_are_no_snapshot_at_all_are_refused_as_such() {
    let message = NodeConfig::decode(&[0xff; 3]).unwrap_err().to_string();
    assert!(message.starts_with("NodeConfig: is not an encoded callgate.v1.NodeConfig ("), "{message}");
}
