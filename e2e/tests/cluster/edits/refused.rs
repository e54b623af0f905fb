//! Wrong manifests that the API server takes: each gets a condition with the same words as offline, soon.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callgate_e2e::wait;

use super::super::ground::{Ground, conditions, sleeper};
use super::super::shared::{POD, SOON};

/// In the place of networks, which in a cluster only the operator's own namespace may select.
const PODS: &str = "source: {podSelector: {matchLabels: {app: till}}}";
const NETWORKS: &str = "source: {cidrs: [10.0.0.0/8]}";

/// What is wrong only in files: what kubectl or the API server says of it, or nothing where there it is right.
const OF_FILES: [(&str, &str); 12] = [
    ("a-list.yaml", "invalid object to validate"),
    ("alg-refused.yaml", ".spec.echoTimeout: expected string"),
    ("core-service.yaml", ""),
    ("egress-gateway.yaml", "no matches for kind \"EgressGateway\""),
    ("host-without-pods.yaml", ""),
    ("no-kind.yaml", "kind not set"),
    ("not-a-pod.yaml", "spec.hostNetwork"),
    ("not-yaml.yaml", "error parsing STDIN"),
    ("service-refused.yaml", ".spec.destinationPorts: expected string"),
    ("tab-indentation.yaml", "error parsing STDIN"),
    ("twice-in-one-file.yaml", ""),
    ("unknown-kind.yaml", "no matches for kind \"IPRule\""),
];

/// What is said in other words of a cluster, where tenants do not name each other's services.
const OF_A_CLUSTER: [&str; 3] = [
    "service-in-other-namespace.yaml",
    "service-misspelt-of-another-namespace.yaml",
    "service-of-another-namespace.yaml",
];

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/compile/tests/bad");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The objects as a cluster takes them: pods need more than a file of an example says.
fn objects(ground: &Ground, name: &str, text: &str) -> String {
    let rule = text.split("---").last().unwrap();
    match name {
        "only-host-network.yaml" => {
            let pod = sleeper("pos", "p", "n1", "till").replace("spec:\n", "spec:\n  hostNetwork: true\n");
            format!("{pod}---\n{rule}")
        }
        "only-ipv6-pod.yaml" => {
            // No node has it, so nobody but us says which address it has.
            let pod = sleeper("pos", "p", "n1", "till").replace("nodeName: n1", "schedulerName: nobody");
            ground.apply(&pod);
            let status = r#"{"status":{"podIP":"fd00::5","podIPs":[{"ip":"fd00::5"}]}}"#;
            ground.k(&format!("patch pod p --subresource=status --type=merge -p {status}"));
            rule.to_owned()
        }
        // The pod beside it is for files: here there are others.
        "no-pod-selected.yaml" => text.split("---").next().unwrap().to_owned(),
        _ => text.replace(NETWORKS, PODS),
    }
}

/// Every condition of every object of ours in the namespace, as `Kind ns/name Reason message`.
fn said(ground: &Ground) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&ground.k("get iprules,ipservices,pptpalgs -o json")).unwrap();
    let of = |object: &serde_json::Value| -> Vec<String> {
        let (kind, name) = (object["kind"].as_str().unwrap().to_owned(), object["metadata"]["name"].as_str().unwrap());
        let generation = format!(") {}: ", object["metadata"]["generation"]);
        // One about an older generation counts for nothing.
        let told = conditions(object).into_iter().filter(|told| told.contains(&generation));
        told.map(|told| format!("{kind} {name} {}", told.replacen(&generation, " ", 1))).collect()
    };
    list["items"].as_array().unwrap().iter().flat_map(of).collect()
}

#[test]
fn every_wrong_manifest_that_the_api_server_takes_gets_a_condition_that_says_what_to_do() {
    let test = "every_wrong_manifest_that_the_api_server_takes_gets_a_condition_that_says_what_to_do";
    let Some(ground) = Ground::get(test, "pos") else { return };
    let mut took: Vec<(Duration, String)> = Vec::new();
    let mut wrong = Vec::new();
    let files = files();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        let expected = match OF_A_CLUSTER.contains(&name) {
            true => "name one of namespace pos or callgate-system",
            false => text.lines().next().unwrap().strip_prefix("# expect: ").unwrap(),
        };
        if let Some((_, words)) = OF_FILES.iter().find(|(of_files, _)| *of_files == name) {
            let output = ground.shared.kubectl().output(&["apply", "--server-side", "-n", "pos", "-f", "-"], &text);
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() != words.is_empty() || !said.contains(words) {
                wrong.push(format!("{name}: expected {words:?} of kubectl, got {said}"));
            }
        } else {
            let objects = objects(&ground, name, &text);
            ground.apply(&objects);
            let begun = Instant::now();
            let mut now = Vec::new();
            let told = wait::until_true(name, SOON, || {
                now = said(&ground);
                Ok(now.iter().any(|told| told.contains(expected)))
            });
            match told {
                Ok(()) => took.push((begun.elapsed(), name.to_owned())),
                Err(_) => wrong.push(format!("{name}: expected {expected:?}, got {now:#?}")),
            }
        }
        ground.k(&format!("delete iprules,ipservices,pptpalgs,pods,services --all --wait {POD}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    took.sort();
    assert_eq!(took.len() + OF_FILES.len(), files.len());
    let (median, longest) = (&took[took.len() / 2], took.last().unwrap());
    println!(
        "{} wrong manifests: condition after {:?} (median), {:?} at most ({})",
        took.len(),
        median.0,
        longest.0,
        longest.1
    );
    #[cfg(feature = "long")]
    assert!(longest.0 <= Duration::from_secs(5), "{longest:?}");
    ground.end();
}
