//! One operator, and a cluster of kwok's nodes and pods with an agent for each node: what compiling, telling and remembering cost.

use std::time::{Duration, Instant};

use callgate_e2e::cluster::scale::{self, Operator, Size};
use callgate_e2e::cluster::{Cluster, Plan};
use callgate_e2e::figures::percentile;
use callgate_e2e::wait;
use serde_json::Value;

use super::shared::run_unless;

/// The size with `long`; a tenth of it in CI, with whatever build of the operator is there.
const SIZE: Size = match cfg!(feature = "long") {
    true => Size { nodes: 500, pods: 10_000, rules: 1_000, namespaces: 100 },
    false => Size { nodes: 50, pods: 1_000, rules: 100, namespaces: 10 },
};
/// Pods that come, are labelled anew and go.
const CHANGES: usize = if cfg!(feature = "long") { 300 } else { 20 };
/// How long kwok may take to give every pod its address.
const ADDRESSED: Duration = Duration::from_secs(600);

/// The goals; of a change for 99 of 100.
const COMPILE: Duration = Duration::from_secs(1);
const CHANGE_MS: f64 = 100.0;
const MEMORY: u64 = 500 << 20;

#[test]
fn ten_thousand_pods_on_five_hundred_nodes_under_a_thousand_rules_are_compiled_told_and_remembered_within_the_goals() {
    let test = "ten_thousand_pods_on_five_hundred_nodes_under_a_thousand_rules_are_compiled_told_and_remembered_within_the_goals";
    if !run_unless(scale::missing(), test) {
        return;
    }
    let start = Instant::now();
    let say = |what: &str| println!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    // No machines: all nodes are kwok's.
    let cluster = Cluster::up(&Plan { nodes: 0, servers: 0, masquerade: false }, &mut |_| ()).unwrap();
    scale::prepare(&cluster).unwrap();
    say("a control plane is up, the chart is installed without an operator");
    scale::run(&cluster, "fill", SIZE, &[]).unwrap();
    say(&format!("the API server has {SIZE:?}"));
    let _kwok = scale::kwok(&cluster).unwrap();
    wait::until_true("all pods run", ADDRESSED, || {
        wait::let_pass(Duration::from_secs(1));
        scale::all_run(&cluster, SIZE)
    })
    .unwrap();
    say("kwok has given every pod its address");
    let operator = Operator::start(&cluster).unwrap();
    say("the operator serves");
    let authority = operator.authority.to_str().unwrap().to_owned();
    let changes = CHANGES.to_string();
    let more = ["--operator", "127.0.0.1:9443", "--ca-file", &authority, "--changes", &changes];
    let said = scale::run(&cluster, "measure", SIZE, &more);
    let said = said.unwrap_or_else(|error| panic!("{error:#}\n{}", operator.tail()));
    let result = scale::result(&said).unwrap();
    say("pods have come, been labelled anew and gone");

    let mut compiles = operator.compiles();
    let scratch = compiles.remove(0);
    compiles.sort();
    let of = |percent| percentile(&compiles, percent);
    let memory = operator.most_memory().unwrap();
    println!("{SIZE:?}");
    println!(
        "compile from scratch {scratch:.1?}; {} later ones: median {:.1?}, p99 {:.1?}",
        compiles.len(),
        of(50),
        of(99)
    );
    let first = &result["first_snapshots"];
    println!(
        "{} agents attached in {:.1} s; first snapshots {first}",
        SIZE.nodes,
        result["attached_s"].as_f64().unwrap()
    );
    for (what, name) in [
        ("a pod's address to its node's snapshot", "comes"),
        ("a pod's labels changed to its node's snapshot", "labelled"),
        ("a pod deleted to its node's snapshot", "goes"),
    ] {
        println!("{what}: {}", result[name]);
    }
    println!("memory at most {} MiB, processor {:.1?}", memory >> 20, operator.processor().unwrap());
    let metrics = operator.metrics(&cluster).unwrap();
    let told = metrics.lines().filter(|line| line.contains("snapshot") || line.contains("status_writes"));
    told.filter(|line| !line.starts_with('#')).for_each(|line| println!("{line}"));

    let number = |value: &Value| value.as_u64().unwrap();
    for name in ["comes", "labelled", "goes"] {
        assert_eq!(number(&result[name]["changes"]), CHANGES as u64);
        assert!(
            number(&result[name]["snapshots"]["median"]) <= 2,
            "a pod's change is its own node's: {}",
            result[name]
        );
    }
    if cfg!(feature = "long") {
        assert!(scratch <= COMPILE, "compile from scratch took {scratch:?}");
        assert!(result["comes"]["ms"]["p99"].as_f64().unwrap() <= CHANGE_MS, "{}", result["comes"]);
        assert!(memory <= MEMORY, "{memory} octets");
    }
}
