//! A snapshot survives its encoding, and its hash stands for it.
#![allow(clippy::unwrap_used)]

mod common;

use callgate_proto::model::*;
use common::{net, node_config, sample};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn encoding_and_decoding_is_identity(config in node_config()) {
        prop_assert_eq!(NodeConfig::decode(&config.encode()), Ok(config));
    }

    #[test]
    fn two_snapshots_have_one_hash_exactly_if_they_are_equal(a in node_config(), b in node_config()) {
        prop_assert_eq!(a == b, a.content_hash() == b.content_hash());
        prop_assert_eq!(a.clone().content_hash(), a.content_hash());
    }

    #[test]
    fn no_bytes_make_decode_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = NodeConfig::decode(&bytes);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_encodes_to_something_readable(
        config in node_config(), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let mut bytes = config.encode();
        if !bytes.is_empty() {
            *at.get_mut(&mut bytes) = to;
        }
        if let Ok(read) = NodeConfig::decode(&bytes) {
            prop_assert_eq!(NodeConfig::decode(&read.encode()), Ok(read));
        }
    }
}

#[test]
fn the_encoding_of_the_sample_never_changes() {
    // A new value here means that agents of two versions disagree about what they run: only with a reason.
    assert_eq!(NodeConfig::default().encode(), Vec::<u8>::new());
    assert_eq!(sample().content_hash(), "8a072661d6d354c9d731a11dd945e2052499517f51f020a1056126af31401ba2");
    assert_eq!(NodeConfig::decode(&sample().encode()), Ok(sample()));
}

#[test]
fn the_hash_is_sha256_in_hex_of_the_encoding() {
    // The encoding of an empty snapshot is empty; SHA-256 of nothing, FIPS 180-4.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(NodeConfig::default().content_hash(), empty);
}

#[test]
fn the_hash_changes_with_every_field() {
    type Change = fn(&mut NodeConfig);
    let changes: [(&str, Change); 38] = [
        ("node", |c| c.node.push('x')),
        ("cluster_nets", |c| c.cluster_nets[0] = net("10.0.0.0/16")),
        ("cluster_nets length", |c| c.cluster_nets[0] = net("10.42.0.0/17")),
        ("cluster_nets fewer", |c| c.cluster_nets.truncate(1)),
        ("rules order", |c| c.rules.reverse()),
        ("rules key namespace", |c| c.rules[0].key.namespace.push('x')),
        ("rules key name", |c| c.rules[0].key.name.push('x')),
        ("rules action allow", |c| c.rules[0].action = Action::Allow),
        ("rules action drop", |c| c.rules[0].action = Action::Drop),
        ("rules action reject", |c| c.rules[0].action = Action::Reject),
        ("rules destinations", |c| c.rules[1].destinations[0] = net("192.0.2.0/24")),
        ("rules services", |c| c.rules[0].services.reverse()),
        ("rules services fewer", |c| c.rules[0].services.truncate(1)),
        ("rules external", |c| c.rules[0].external = External::Address([0, 0, 0, 0].into())),
        ("rules external address", |c| c.rules[1].external = External::Address([203, 0, 113, 8].into())),
        ("rules log", |c| c.rules[0].log = false),
        ("services key", |c| c.services[0].key.name.push('x')),
        ("services protocol", |c| c.services[0].matches[0].protocol = Some(17)),
        ("services protocol any", |c| c.services[0].matches[0].protocol = None),
        ("services protocol zero", |c| c.services[0].matches[0].protocol = Some(0)),
        ("services source ports", |c| c.services[0].matches[0].source_ports[0].first = 1),
        ("services no source ports", |c| c.services[0].matches[0].source_ports.clear()),
        ("services destination ports", |c| c.services[0].matches[0].destination_ports[0].last = 1724),
        ("services no alg", |c| c.services[0].alg = None),
        ("services max_sessions", |c| c.services[0].max_sessions = 201),
        ("services forward_icmp_errors", |c| c.services[0].forward_icmp_errors = false),
        ("services no timeouts", |c| c.services[0].timeouts = None),
        ("services initial", |c| c.services[0].timeouts.as_mut().unwrap().initial = 0),
        ("services established", |c| c.services[0].timeouts.as_mut().unwrap().established = 0),
        ("services closing", |c| c.services[0].timeouts.as_mut().unwrap().closing = 0),
        ("algs echo_timeout_ms", |c| c.algs[0].echo_timeout_ms = 0),
        ("algs idle_timeout_ms", |c| c.algs[0].idle_timeout_ms = 0),
        ("algs max_calls", |c| c.algs[0].max_calls = 0),
        ("algs control_connection", |c| c.algs[0].control_connection = ControlConnection::Auto),
        ("algs validation", |c| c.algs[0].validation = Validation::Permissive),
        ("chains", |c| c.chains[0] = vec![1]),
        ("sources net", |c| c.sources[0].net = net("10.42.0.8/32")),
        ("sources chain", |c| c.sources[0].chain = 0),
    ];
    let mut seen = vec![("nothing", sample().content_hash())];
    for (what, change) in changes {
        let mut config = sample();
        change(&mut config);
        let hash = config.content_hash();
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == hash) {
            panic!("changing {what} gives the same hash as changing {other}");
        }
        seen.push((what, hash));
    }
}
