//! No text makes the reader panic, and what can be read of it compiles.

use callgate_compile::compile;
use callgate_compile::manifests::parse;
use callgate_proto::model::NodeConfig;
use proptest::prelude::*;

const MANIFESTS: &str = "\
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: pptp-service, namespace: pos}
spec: {protocol: TCP, destinationPorts: \"1723\", algRef: {kind: PptpAlg, name: pptp}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: pos, creationTimestamp: 2026-01-02T03:04:05Z}
spec:
  order: 100
  action: NAT
  source: {podSelector: {matchLabels: {app: till}}, cidrs: [10.0.0.0/8]}
  destination: {cidrs: [0.0.0.0/0], except: [192.0.2.0/24]}
  services: [{name: pptp-service}, {name: web}]
--- # a pod to try it on
apiVersion: v1
kind: Pod
metadata: {name: till-1, namespace: pos, labels: {app: till}}
spec: {containers: []}
status: {podIP: 10.1.0.5}
---
apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Namespace, metadata: {name: pos}}]
";

fn read(text: &str) {
    let files = [("a.yaml".to_owned(), text.to_owned())];
    let parsed = parse(&files, callgate_crds::predefined());
    let lines = text.lines().count() as u32;
    for problem in &parsed.problems {
        assert!(problem.line >= 1 && problem.line <= lines.max(1), "{problem:?} in {lines} lines");
        assert!(!problem.message.is_empty());
    }
    for config in compile(&parsed.world, None).nodes.values() {
        assert_eq!(NodeConfig::decode(&config.encode()).as_ref(), Ok(&**config));
    }
}

#[test]
fn the_manifests_that_are_damaged_here_are_right() {
    let files = [("a.yaml".to_owned(), MANIFESTS.to_owned())];
    let parsed = parse(&files, callgate_crds::predefined());
    assert_eq!(parsed.problems, []);
    assert_eq!((parsed.world.rules.len(), parsed.world.pods.len(), parsed.world.namespaces.len()), (1, 1, 1));
}

#[test]
fn a_text_that_ends_too_early_is_reported_on_its_last_line() {
    read("%0");
    read("a: [");
    read("a: 'b\n\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_can_be_read(text in "\\PC{0,200}|([a-z:\\-\\[\\]{}&*!|>'\"%@`#,? \n\t]{0,200})") {
        read(&text);
    }

    #[test]
    fn damaged_manifests_can_be_read(
        damages in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..40, "[a-z0-9:\\-{}\\[\\]&*!|>\"' \n\t]{0,6}"), 1..5)
    ) {
        let mut text = MANIFESTS.to_owned();
        for (at, cut, put) in damages {
            let at = at.index(text.len());
            text.replace_range(at..(at + cut).min(text.len()), &put);
        }
        read(&text);
    }
}
