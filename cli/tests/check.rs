//! `check -f`: good manifests, wrong ones, and files that cannot be read.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Finished, command, fixtures};
use tempfile::TempDir;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Runs check over these files; the directory reads `DIR`.
async fn check(files: &[(&str, &str)], options: &str) -> Finished {
    let dir = dir(files);
    let path = dir.path().to_str().unwrap();
    let done = command(&format!("kubectl-callgate check -f {path}{options}")).await;
    // What the YAML library says is its own affair.
    let cut = |line: &str| line.find("is not YAML: ").map_or(line.to_owned(), |at| format!("{}…", &line[..at + 13]));
    let out = if options.is_empty() { done.out.lines().map(|line| cut(line) + "\n").collect() } else { done.out };
    Finished { out, err: done.err.replace(path, "DIR"), ..done }
}

#[tokio::test]
async fn good_manifests_are_counted_and_exit_with_0() {
    let done = check(&[("till.yaml", fixtures::CLASSIC)], "").await;
    assert_eq!(
        done,
        Finished {
            code: 0,
            out: "3 objects, no problems for a single host (--cluster: for a cluster)\n".into(),
            err: String::new()
        }
    );
    let json = "{\n  \"objects\": 3,\n  \"problems\": [],\n  \"notes\": []\n}\n";
    let done = check(&[("till.yaml", fixtures::CLASSIC)], " -o json").await;
    assert_eq!(done, Finished { code: 0, out: json.into(), err: String::new() });
}

#[tokio::test]
async fn each_problem_has_file_line_object_field_and_remedy_and_the_exit_code_is_1() {
    let done = check(&[("till.yaml", fixtures::CLASSIC), ("web.yaml", fixtures::WRONG)], "").await;
    insta::assert_snapshot!(done.out, @r#"
    FILE:LINE    OBJECT           FIELD                  MESSAGE
    web.yaml:2   IpRule pos/web   spec.services[0].name  there is no Service htp in namespace pos or callgate-system (did you mean http?): create it, or correct the name
    web.yaml:12  IpRule pos/rest  spec.action            is "Dorp": write one of NAT, Allow, Drop, Reject
    web.yaml:22  -                -                      is not YAML: …

    5 objects, 3 problems for a single host (--cluster: for a cluster)
    "#);
    assert_eq!((done.code, done.err.as_str()), (1, ""));
}

#[tokio::test]
async fn json_has_the_same_problems() {
    let done = check(&[("till.yaml", fixtures::CLASSIC), ("web.yaml", fixtures::WRONG)], " -o json").await;
    let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let first = serde_json::json!({
        "file": "web.yaml",
        "line": 2,
        "object": "IpRule pos/web",
        "field": "spec.services[0].name",
        "message": "there is no Service htp in namespace pos or callgate-system (did you mean http?): create it, or \
                    correct the name",
    });
    assert_eq!(json["problems"][0], first);
    assert_eq!((json["objects"].clone(), json["problems"].as_array().unwrap().len()), (5.into(), 3));
    assert_eq!(done.code, 1);
}

#[tokio::test]
async fn a_rule_that_never_decides_is_a_note_and_no_problem() {
    let done = check(&[("till.yaml", fixtures::CLASSIC), ("late.yaml", fixtures::SHADOWED)], "").await;
    insta::assert_snapshot!(done.out, @r#"
    notes:
      late.yaml:1  IpRule pos/late  spec.order  IpRule pos/tills-to-head-office (order 100) comes first and matches everything this rule could match: give this one a lower order, or narrow that one

    4 objects, no problems for a single host (--cluster: for a cluster)
    "#);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[tokio::test]
async fn for_a_cluster_a_rule_of_a_namespace_may_not_select_networks() {
    let done = check(&[("till.yaml", fixtures::CLASSIC)], " --cluster -o json").await;
    let json: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let problem = &json["problems"][0];
    assert_eq!(
        (problem["object"].as_str(), problem["field"].as_str()),
        (Some("IpRule pos/tills-to-head-office"), Some("spec.source.cidrs"))
    );
    assert_eq!((json["problems"].as_array().unwrap().len(), done.code), (1, 1));
}

#[tokio::test]
async fn a_directory_without_manifests_does_not_pass_for_a_good_one() {
    let done = check(&[("notes.txt", "")], "").await;
    let err = "error: DIR: has no *.yaml or *.yml file; pass the directory that holds the manifests\n".into();
    assert_eq!(done, Finished { code: 2, out: String::new(), err });
}

#[tokio::test]
async fn for_a_cluster_objects_of_others_are_notes_and_what_is_meant_as_ours_is_a_problem() {
    let others = "apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: till, namespace: pos}
- apiVersion: v1
  kind: Service
  metadata: {name: till, namespace: pos}
  spec: {selector: {app: till}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pptp-ctl, namespace: pos}
spec: {protocol: TCP, destinationPorts: \"1723\"}
";
    let kustomization = "resources: [till.yaml]\n";
    let done = check(&[("kustomization.yaml", kustomization), ("till.yaml", others)], " --cluster").await;
    insta::assert_snapshot!(done.out, @r#"
    FILE:LINE     OBJECT                FIELD       MESSAGE
    till.yaml:12  Service pos/pptp-ctl  apiVersion  is "v1": write apiVersion: callgate.io/v1alpha1

    notes:
      kustomization.yaml:1  Kustomization        -  is none of Callgate's kinds: left alone
      till.yaml:4           Deployment pos/till  -  is none of Callgate's kinds: left alone
      till.yaml:7           Service pos/till     -  is none of Callgate's kinds: left alone

    1 object, 1 problem for a cluster
    "#);
    assert_eq!(done.code, 1);
}

#[tokio::test]
async fn for_a_cluster_nobody_knows_offline_which_pods_there_are() {
    let rule = "apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: pos}
spec: {order: 1, action: NAT, source: {podSelector: {matchLabels: {app: till}}}, services: [{name: pptp-ctl}]}
";
    let of_cluster = check(&[("till.yaml", rule)], " --cluster").await;
    assert_eq!(
        of_cluster,
        Finished { code: 0, out: "1 object, no problems for a cluster\n".into(), err: String::new() }
    );
    let of_host = check(&[("till.yaml", rule)], "").await;
    assert!(of_host.out.contains("selects pods, and a single host has none"), "{}", of_host.out);
}
