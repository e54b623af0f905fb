//! What helm makes of the chart: golden files, refusals, and what must hold whatever the values are.

mod questions;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::{bin_dir, root, tools};

/// The API server the chart is rendered for.
const KUBERNETES: &str = "1.34.4";

/// Value sets in charts/callgate/ci, each with a golden file.
const SETS: [&str; 4] = ["default", "small", "everything", "cleanup"];

/// Helm; `None` where it is missing, after a line for the tally: CI counts that as a failure.
fn helm_or_skip(test: &str) -> Option<PathBuf> {
    let found = tools::helm();
    if found.is_none() {
        skip(&format!("{test}: no helm; `cargo xtask test` builds it where there is Go 1.24"));
    }
    found
}

fn skip(line: &str) {
    use std::io::Write;
    println!("SKIPPED {line}");
    if let Some(file) = std::env::var_os("CALLGATE_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("skip file");
        writeln!(file, "{line}").expect("skip file");
    }
}

fn run(helm: &PathBuf, command: &[&str], more: &[&str]) -> Output {
    let mut helm = Command::new(helm);
    helm.args(command).arg(root().join("charts/callgate")).args(["--namespace", "callgate-system"]).args(more);
    helm.args(["--kube-version", KUBERNETES]).output().expect("start helm")
}

fn values(set: &str) -> String {
    root().join("charts/callgate/ci").join(format!("{set}.values.yaml")).display().to_string()
}

fn render(helm: &PathBuf, set: &str) -> String {
    let out = run(helm, &["template", "callgate"], &["--values", &values(set)]);
    assert!(out.status.success(), "{set}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// Pod templates, with the name of what has them.
fn pods(objects: &[Value]) -> Vec<(String, Value)> {
    let named =
        objects.iter().map(|object| (object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), object));
    let pods = named.filter_map(|(name, object)| match object["kind"].as_str()? {
        "Pod" => Some((name, object["spec"].clone())),
        "Deployment" | "DaemonSet" | "Job" => Some((name, object["spec"]["template"]["spec"].clone())),
        _ => None,
    });
    pods.collect()
}

fn containers(pod: &Value) -> Vec<Value> {
    let lists = ["initContainers", "containers"].iter().filter_map(|list| pod[list].as_array());
    lists.flatten().cloned().collect()
}

#[test]
fn the_chart_is_rendered_as_the_golden_files_say() {
    let Some(helm) = helm_or_skip("the_chart_is_rendered_as_the_golden_files_say") else { return };
    for set in SETS {
        let mut shown = String::new();
        for document in render(&helm, set).split("\n---\n") {
            // The kinds have a golden file of their own: crds/generated.
            let head: Vec<&str> = document.lines().take_while(|line| *line != "spec:").collect();
            let kind = head.contains(&"kind: CustomResourceDefinition");
            shown += if kind { head.join("\n") } else { document.trim_end().to_owned() }.trim_start_matches("---\n");
            shown += "\n---\n";
        }
        insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(set, shown);
        });
    }
}

#[test]
fn helm_lint_finds_nothing() {
    let Some(helm) = helm_or_skip("helm_lint_finds_nothing") else { return };
    for set in SETS {
        let out = run(&helm, &["lint", "--strict"], &["--values", &values(set)]);
        assert!(out.status.success(), "{set}: {}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    let Some(helm) = helm_or_skip("values_that_mean_nothing_are_refused_by_name") else { return };
    let wrong = [
        ("operator.replicas=3", "/operator/replicas"),
        ("operator.replica=1", "replica"),
        ("dataplane.logFormat=xml", "/dataplane/logFormat"),
        ("dataplane.stateDir=state", "/dataplane/stateDir"),
        ("dataplane.fastPath=ebpf", "/dataplane/fastPath"),
        ("dataplane.kernel.nft_table=x", "nft_table"),
        ("dataplane.updateStrategy.rollingUpdate.maxSurge=1", "maxSurge"),
        ("dataplane.externalAddress=gateway", "/dataplane/externalAddress"),
        ("clusterCidrs={10.0.0.0}", "/clusterCidrs/0"),
        ("clusterCidrs={10.0.0.0/33}", "/clusterCidrs/0"),
        ("clusterCidrs={10.0.256.0/24}", "/clusterCidrs/0"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("metrics.podMonitor.interval=30", "/metrics/podMonitor/interval"),
        ("metrics.prometheusRule.labels.release=1", "/metrics/prometheusRule/labels/release"),
        ("typo=1", "typo"),
    ];
    for (set, named) in wrong {
        let out = run(&helm, &["template", "callgate"], &["--set", set]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success(), "{set} was taken");
        assert!(said.contains(named), "{set}: {said}");
    }
}

#[test]
fn no_pod_has_more_than_it_needs() {
    let Some(helm) = helm_or_skip("no_pod_has_more_than_it_needs") else { return };
    for set in SETS {
        for (name, pod) in pods(&objects(&render(&helm, set))) {
            let agent = name == "callgate-dataplane";
            assert_eq!(pod["automountServiceAccountToken"], !agent, "{set} {name}");
            assert_eq!(pod["hostNetwork"], if agent { json!(true) } else { Value::Null }, "{set} {name}");
            assert_eq!([&pod["hostPID"], &pod["hostIPC"]], [&Value::Null, &Value::Null], "{set} {name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"] == true, !agent, "{set} {name}");
            for container in containers(&pod) {
                // Cleaning up ends in a container that has nothing to do and no right to.
                let agent = agent && container["name"] != "done";
                let mut security = container["securityContext"].clone();
                let capabilities = security["capabilities"].take();
                assert_eq!(capabilities["drop"], json!(["ALL"]), "{set} {name}");
                assert_eq!(capabilities["add"].is_null(), !agent, "{set} {name}");
                assert_eq!(security["allowPrivilegeEscalation"], json!(false), "{set} {name}");
                assert_eq!(security["readOnlyRootFilesystem"], json!(true), "{set} {name}");
                assert_eq!(security["privileged"], Value::Null, "{set} {name}");
                assert_ne!(container["resources"]["limits"]["memory"], Value::Null, "{set} {name}");
            }
        }
    }
}

#[test]
fn no_role_has_a_wildcard_and_agents_have_none() {
    let Some(helm) = helm_or_skip("no_role_has_a_wildcard_and_agents_have_none") else { return };
    for set in SETS {
        for object in objects(&render(&helm, set)) {
            let name = &object["metadata"]["name"];
            assert!(!object["rules"].to_string().contains("\"*\""), "{set} {name}");
            let subjects = object["subjects"].as_array().cloned().unwrap_or_default();
            assert!(subjects.iter().all(|subject| subject["name"] != "callgate-dataplane"), "{set} {name}");
        }
    }
}

#[test]
fn every_flag_in_the_chart_is_one_of_the_programs() {
    let Some(helm) = helm_or_skip("every_flag_in_the_chart_is_one_of_the_programs") else { return };
    let folder = std::env::var_os("CALLGATE_BIN_DIR").map_or_else(|| bin_dir("debug"), PathBuf::from);
    for set in SETS {
        for (name, pod) in pods(&objects(&render(&helm, set))) {
            for container in containers(&pod) {
                let words = |list: &str| container[list].as_array().cloned().unwrap_or_default();
                let entry = [json!(name)];
                let command = words("command").into_iter().chain(entry).next().unwrap_or_default();
                let program = folder.join(command.as_str().unwrap_or_default().trim_start_matches('/'));
                if !program.is_file() {
                    skip(&format!(
                        "every_flag_in_the_chart_is_one_of_the_programs: {} is not built",
                        program.display()
                    ));
                    return;
                }
                let args = words("args").into_iter().map(|arg| arg.as_str().unwrap_or_default().to_owned());
                // With --help at the end, what stands before is checked, and nothing is run.
                let out = Command::new(&program).args(args).arg("--help").output().expect("start");
                assert!(out.status.success(), "{set} {name}: {}", String::from_utf8_lossy(&out.stderr));
            }
        }
    }
}
