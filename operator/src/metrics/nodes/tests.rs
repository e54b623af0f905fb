//! What Prometheus reads of nodes, whole.

use crate::moment::Moment;
use callgate_proto::model::{NodeConfig, Source};
use callgate_proto::pb;
use prometheus_client::encoding::text;

use super::*;

fn report(connections: u64, calls: u64, counters: &[(&str, u64)]) -> pb::Report {
    let counters = counters.iter().map(|(name, value)| pb::Counter { name: (*name).to_owned(), value: *value });
    let rules = vec![pb::RuleCalls { rule: "pos/tills".to_owned(), calls }];
    let path = "eBPF at tcx; 1 calls by AF_PACKET: no route".to_owned();
    pb::Report { connections, calls, counters: counters.collect(), rules, path, ..pb::Report::default() }
}

fn attach(fleet: &mut Fleet, node: &str, report: pb::Report) {
    let hello = pb::Hello { version: "0.1.0".to_owned(), kernel: "6.1.0".to_owned(), ..pb::Hello::default() };
    fleet.attach(node, 1, hello, Moment::at(0));
    fleet.report(node, 1, report);
}

/// Lines without their explanations.
fn told(fleet: &Fleet) -> Vec<String> {
    let mut shown = String::new();
    text::encode_registry(&mut shown, &of_nodes(fleet, &BTreeMap::new(), Moment::at(0).instant)).unwrap();
    shown.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn of_a_fleet_of_nobody_nothing_is_told() {
    let mut shown = String::new();
    text::encode_registry(&mut shown, &of_nodes(&Fleet::default(), &BTreeMap::new(), Moment::at(0).instant)).unwrap();
    assert_eq!(shown, "");
}

#[test]
fn a_node_tells_its_calls_and_which_way_their_packets_went_and_why_others_did_not() {
    let mut fleet = Fleet::default();
    let counters = [
        ("calls_ended", 1),
        ("calls_refused", 2),
        ("calls_timed_out", 3),
        ("calls_up", 4),
        ("connections_closed", 5),
        ("connections_opened", 6),
        ("connections_refused", 7),
        ("drop_gre_unknown_call", 8),
        ("fast_down_bytes", 900),
        ("fast_down_packets", 9),
        ("fast_left_ttl", 10),
        ("fast_up_bytes", 1_100),
        ("fast_up_packets", 11),
        ("gre_down_bytes", 1_000),
        ("gre_down_packets", 12),
        ("gre_up_bytes", 1_101),
        ("gre_up_packets", 13),
        ("kernel_steered_dropped", 16),
        ("messages_up", 14),
        ("tx_no_route", 15),
    ];
    attach(&mut fleet, "a", report(2, 3, &counters));
    assert_eq!(
        told(&fleet),
        [
            "callgate_node_attached{node=\"a\"} 1",
            "callgate_node_info{node=\"a\",version=\"0.1.0\",kernel=\"6.1.0\",path=\"eBPF at tcx\"} 1",
            "callgate_node_live_calls{node=\"a\"} 3",
            "callgate_node_control_connections{node=\"a\"} 2",
            "callgate_node_gre_packets_total{node=\"a\",direction=\"down\",path=\"af_packet\"} 3",
            "callgate_node_gre_packets_total{node=\"a\",direction=\"down\",path=\"ebpf\"} 9",
            "callgate_node_gre_packets_total{node=\"a\",direction=\"up\",path=\"af_packet\"} 2",
            "callgate_node_gre_packets_total{node=\"a\",direction=\"up\",path=\"ebpf\"} 11",
            "callgate_node_gre_bytes_total{node=\"a\",direction=\"down\",path=\"af_packet\"} 100",
            "callgate_node_gre_bytes_total{node=\"a\",direction=\"down\",path=\"ebpf\"} 900",
            "callgate_node_gre_bytes_total{node=\"a\",direction=\"up\",path=\"af_packet\"} 1",
            "callgate_node_gre_bytes_total{node=\"a\",direction=\"up\",path=\"ebpf\"} 1100",
            "callgate_node_call_events_total{node=\"a\",event=\"up\"} 4",
            "callgate_node_call_events_total{node=\"a\",event=\"ended\"} 1",
            "callgate_node_call_events_total{node=\"a\",event=\"refused\"} 2",
            "callgate_node_call_events_total{node=\"a\",event=\"timed_out\"} 3",
            "callgate_node_connection_events_total{node=\"a\",event=\"opened\"} 6",
            "callgate_node_connection_events_total{node=\"a\",event=\"closed\"} 5",
            "callgate_node_connection_events_total{node=\"a\",event=\"refused\"} 7",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"gre_unknown_call\"} 8",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"kernel_steered_dropped\"} 16",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"rx_outside_overflow\"} 0",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"rx_pods_overflow\"} 0",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"tx_errors\"} 0",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"tx_filtered\"} 0",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"tx_no_buffers\"} 0",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"tx_no_route\"} 15",
            "callgate_node_fast_path_left_packets_total{node=\"a\",reason=\"ttl\"} 10",
            "callgate_rule_live_calls{namespace=\"pos\",rule=\"tills\"} 3",
        ]
    );
}

#[test]
fn a_node_without_pptp_has_no_counters_and_one_that_is_lost_nothing_but_that() {
    let mut fleet = Fleet::default();
    attach(&mut fleet, "idle", report(0, 0, &[("calls_up", 0), ("drop_ttl", 0), ("kernel_steered_dropped", 0)]));
    attach(&mut fleet, "lost", report(1, 1, &[("calls_up", 1)]));
    fleet.detach("lost", 1, Moment::at(0));
    assert_eq!(
        told(&fleet),
        [
            "callgate_node_attached{node=\"idle\"} 1",
            "callgate_node_attached{node=\"lost\"} 0",
            "callgate_node_info{node=\"idle\",version=\"0.1.0\",kernel=\"6.1.0\",path=\"eBPF at tcx\"} 1",
            "callgate_node_live_calls{node=\"idle\"} 0",
            "callgate_node_control_connections{node=\"idle\"} 0",
            // Its calls live on without the operator, as far as that one knows.
            "callgate_rule_live_calls{namespace=\"pos\",rule=\"tills\"} 1",
        ]
    );
}

#[test]
fn a_node_with_clients_whose_agent_has_never_come_is_told_of_and_one_that_needs_none_is_not() {
    let mut fleet = Fleet::default();
    for node in ["gone", "idle-lost", "lost", "there"] {
        attach(&mut fleet, node, report(0, 0, &[]));
    }
    fleet.detach("idle-lost", 1, Moment::at(1));
    for node in ["gone", "lost"] {
        fleet.detach(node, 1, Moment::at(0));
    }
    let source = Source { net: "10.1.0.2/32".parse().unwrap(), chain: 0 };
    let busy = NodeConfig { sources: vec![source], ..NodeConfig::default() };
    let idle = NodeConfig::default();
    let wanted = [
        ("gone", idle.clone()),
        ("idle", idle.clone()),
        ("idle-lost", idle),
        ("lost", busy.clone()),
        ("never", busy.clone()),
        ("there", busy),
    ];
    let wanted = wanted.map(|(node, config)| (node.to_owned(), Arc::new(Snapshot::new(config, vec![])))).into();
    let mut shown = String::new();
    text::encode_registry(&mut shown, &of_nodes(&fleet, &wanted, Moment::at(3_600).instant)).unwrap();
    let attached: Vec<&str> = shown.lines().filter(|line| line.starts_with("callgate_node_attached")).collect();
    let line = |node: &str, value: u8| format!("callgate_node_attached{{node=\"{node}\"}} {value}");
    // The agent of `gone` had nothing to do, and left an hour ago.
    assert_eq!(attached, [line("idle-lost", 0), line("lost", 0), line("never", 0), line("there", 1)]);
}

#[test]
fn a_node_is_programmed_while_its_agent_says_that_what_it_should_run_runs_whole() {
    let (mut fleet, snapshot) = (Fleet::default(), Arc::new(Snapshot::new(NodeConfig::default(), vec![])));
    let wanted = ["a", "away"].map(|node| (node.to_owned(), Arc::clone(&snapshot))).into();
    let told = |fleet: &Fleet| {
        let mut shown = String::new();
        text::encode_registry(&mut shown, &of_nodes(fleet, &wanted, Moment::at(0).instant)).unwrap();
        let lines = shown.lines().filter_map(|line| line.strip_prefix("callgate_node_programmed"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(&fleet), [""; 0]);
    attach(&mut fleet, "a", report(0, 0, &[]));
    fleet.sent("a", 1, &snapshot);
    let outcome = |failure| pb::Outcome { hash: snapshot.hash.clone(), failure, sequence: 0 };
    let mut seen = vec![told(&fleet)];
    for failure in [Some(pb::Failure::default()), None, Some(pb::Failure::default()), None] {
        assert!(fleet.outcome("a", 1, outcome(failure)));
        seen.push(told(&fleet));
    }
    assert_eq!(seen.concat(), [0, 0, 1, 0, 1].map(|value| format!("{{node=\"a\"}} {value}")));
    fleet.detach("a", 1, Moment::at(0));
    assert_eq!(told(&fleet), [""; 0]);
}

#[test]
fn what_shared_control_connections_carry_is_added() {
    let mut fleet = Fleet::default();
    let counters = [
        ("calls_up", 1),
        ("fast_up_packets", 5),
        ("gre_up_packets", 7),
        ("shared_calls_up", 10),
        ("shared_drop_icmp", 4),
        ("shared_gre_up_packets", 100),
        ("shared_sessions_opened", 3),
    ];
    attach(&mut fleet, "a", report(0, 0, &counters));
    let lines: Vec<String> =
        told(&fleet).into_iter().filter(|line| line.contains("_total") && !line.ends_with(" 0")).collect();
    assert_eq!(
        lines,
        [
            "callgate_node_gre_packets_total{node=\"a\",direction=\"up\",path=\"af_packet\"} 102",
            "callgate_node_gre_packets_total{node=\"a\",direction=\"up\",path=\"ebpf\"} 5",
            "callgate_node_call_events_total{node=\"a\",event=\"up\"} 11",
            "callgate_node_connection_events_total{node=\"a\",event=\"opened\"} 3",
            "callgate_node_dropped_packets_total{node=\"a\",reason=\"shared_icmp\"} 4",
        ]
    );
}

#[test]
fn what_is_picked_out_by_name_is_what_the_engines_count() {
    let in_path = callgate_pptp::engine::Counters::default();
    let shared = callgate_pptp::shared::Counters::default();
    let known: Vec<String> = in_path
        .iter()
        .map(|(name, _)| name.to_owned())
        .chain(shared.iter().map(|(name, _)| format!("shared_{name}")))
        .collect();
    let picked =
        CALL_EVENTS.iter().chain(&CONNECTION_EVENTS).flat_map(|(_, counters)| *counters).map(|name| (*name).to_owned());
    let of =
        |way: &str| ["packets", "bytes"].map(|what| [format!("gre_{way}_{what}"), format!("shared_gre_{way}_{what}")]);
    let gre = ["up", "down"].into_iter().flat_map(of).flatten();
    let missing: Vec<String> = picked.chain(gre).filter(|name| !known.contains(name)).collect();
    assert_eq!(missing, Vec::<String>::new());
    assert!(
        known.iter().any(|name| name.starts_with("drop_")) && known.iter().any(|name| name.starts_with("shared_drop_"))
    );
}
