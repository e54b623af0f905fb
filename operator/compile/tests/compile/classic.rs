//! The classic set-up: three objects become one configuration.

use callgate_crds::Kind;
use callgate_proto::model::*;

use super::support::{CLASSIC, compiled, config, read, status, told};

#[test]
fn the_classic_set_up_is_one_rule_through_the_alg() {
    let compiled = compiled(CLASSIC);
    let expected = NodeConfig {
        node: "standalone".into(),
        cluster_nets: vec![],
        rules: vec![Rule {
            key: ObjectKey::new("pos", "tills-to-head-office"),
            action: Action::Nat,
            destinations: vec!["0.0.0.0/0".parse().unwrap()],
            services: vec![0],
            external: External::NodeAddress,
            log: false,
        }],
        services: vec![Service {
            key: ObjectKey::new("pos", "pptp-service"),
            matches: vec![Match {
                protocol: Some(6),
                source_ports: vec![],
                destination_ports: vec![PortRange { first: 1723, last: 1723 }],
            }],
            alg: Some(0),
            max_sessions: 200,
            forward_icmp_errors: true,
            timeouts: None,
        }],
        algs: vec![PptpAlg {
            key: ObjectKey::new("pos", "pptp"),
            echo_timeout_ms: 180_000,
            idle_timeout_ms: 0,
            max_calls: 0,
            control_connection: ControlConnection::PerClient,
            validation: Validation::Strict,
        }],
        chains: vec![vec![0]],
        sources: vec![Source { net: "10.20.0.0/16".parse().unwrap(), chain: 0 }],
    };
    assert_eq!(config(&compiled), &expected);
    for (kind, name) in
        [(Kind::PptpAlg, "pptp"), (Kind::Service, "pptp-service"), (Kind::IpRule, "tills-to-head-office")]
    {
        let status = status(&compiled, kind, "pos", name);
        assert!(status.is_good(), "{name}: {:?}", told(status));
        assert_eq!(status.nodes.len(), 1);
    }
}

#[test]
fn predefined_services_are_found_without_being_listed() {
    let text = super::support::rule(
        "web",
        "{order: 1, action: NAT, source: {cidrs: [10.0.0.0/8]}, services: [{name: web}, {name: pptp-ctl}]}",
    );
    let compiled = compiled(&text);
    let names: Vec<String> = config(&compiled).services.iter().map(|service| service.key.to_string()).collect();
    assert_eq!(
        names,
        ["callgate-system/http", "callgate-system/https", "callgate-system/pptp-ctl", "callgate-system/quic"]
    );
    assert_eq!(compiled.statuses.len(), 1);
}

#[test]
fn the_order_of_documents_and_files_changes_nothing() {
    let mut parts: Vec<&str> = CLASSIC.split("---").collect();
    let forwards = compiled(CLASSIC);
    parts.reverse();
    assert_eq!(compiled(&parts.join("---")), forwards);
}

#[test]
fn the_same_object_in_two_files_names_both_places_and_the_first_counts() {
    let files = ["a.yaml", "b.yaml"].map(|name| (name.to_owned(), CLASSIC.to_owned()));
    let parsed = callgate_compile::manifests::parse(&files, callgate_crds::predefined());
    let told: Vec<String> =
        parsed.problems.iter().map(|p| format!("{}:{} {} {}", p.file, p.line, p.object, p.message)).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(
        told[0],
        "b.yaml:2 PptpAlg pos/pptp is there already, in a.yaml:2, which counts: delete one of the two, or rename it"
    );
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let parsed = read(&format!("{CLASSIC}---\nkind: [\n"));
    assert_eq!(parsed.world.rules.len(), 1);
    assert_eq!(parsed.broken_files.len(), 1);
    assert_eq!(parsed.problems.len(), 1);
    assert!(parsed.problems[0].message.starts_with("is not YAML"), "{:?}", parsed.problems);
}

#[test]
fn pptp_without_its_alg_is_said_where_its_port_is_named_and_no_service_before_takes_it_to_the_alg() {
    let noted = |services: &str, action: &str| {
        let text = format!(
            "{CLASSIC}---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {{name: bare, namespace: pos}}
spec: {{protocol: TCP, destinationPorts: \"80,1723\"}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {{name: other, namespace: pos}}
spec: {{order: 7, action: {action}, source: {{cidrs: [10.30.0.0/16]}}, services: [{services}]}}
"
        );
        let compiled = compiled(&text);
        status(&compiled, Kind::IpRule, "pos", "other").conditions[0].message.contains("without its ALG")
    };
    assert!(noted("{name: bare}", "NAT"));
    assert!(noted("{name: bare}, {name: pptp-service}", "NAT"), "the first that matches takes it");
    assert!(!noted("{name: pptp-service}, {name: bare}", "NAT"));
    assert!(!noted("{name: all}", "NAT"), "who translates everything hardly means PPTP");
    assert!(!noted("{name: bare}", "Drop"));
}
