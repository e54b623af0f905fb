//! A thousand rules for a thousand sources, and what one changed source costs.

use std::time::Duration;

use callgate_e2e::gateway::callgate::Callgate;
use callgate_e2e::lab::topology::Lab;
use callgate_e2e::traffic::manifests::{Status, document, put};
use callgate_e2e::wait;

use super::support::can_run;

const COUNT: u16 = 1000;

/// One service and one rule a number, each for all pods, and a thousand pods.
fn everything() -> String {
    let mut text = String::new();
    for number in 1..=COUNT {
        text += &document("Service", &format!("s{number}"), &format!("protocol: TCP, destinationPorts: \"{number}\""));
        let action = ["NAT", "Allow", "Drop", "Reject"][usize::from(number % 4)];
        let spec = format!(
            "order: {number}, action: {action}, source: {{podSelector: {{}}}}, services: [{{name: s{number}}}]"
        );
        text += &document("IpRule", &format!("r{number}"), &spec);
    }
    text
}

fn pods(moved: Option<u16>) -> String {
    let address = |number: u16| {
        let third = if moved == Some(number) { 100 } else { number / 250 };
        format!("10.20.{third}.{}", number % 250)
    };
    let pod = |number| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: pos}}\nspec: {{containers: []}}\nstatus: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n",
            address = address(number)
        )
    };
    (0..COUNT).map(pod).collect()
}

#[test]
fn a_thousand_rules_for_a_thousand_sources_are_one_transaction_and_a_moved_source_is_one_element() {
    if !can_run("a_thousand_rules_for_a_thousand_sources_are_one_transaction_and_a_moved_source_is_one_element") {
        return;
    }
    let lab = Lab::new(0, 0).unwrap();
    let gw = &lab.gw;
    let mut monitor = gw.command("nft");
    monitor.args(["monitor"]);
    let mut callgate = Callgate::start(gw, "").unwrap();
    put(&callgate, gw, "rules.yaml", &everything()).unwrap();

    // All sources at once: elements only, in one transaction.
    let status = put(&callgate, gw, "pods.yaml", &pods(None)).unwrap();
    let rules: Vec<String> =
        status.says().into_iter().filter(|line| line.contains(": Programmed: In force.")).collect();
    assert_eq!(rules.len(), 2 * usize::from(COUNT), "all rules and services are in force: {:?}", status.says());
    let hosts = gw.run("nft", &["-j", "list", "map", "ip", "callgate", "src_hosts"]).unwrap();
    assert_eq!(hosts.matches("10.20.").count(), usize::from(COUNT));

    let mut monitor = gw.spawn("monitor", monitor).unwrap();
    let listening = || {
        Ok(gw
            .run("sh", &["-c", "cat /proc/net/netlink"])?
            .lines()
            .any(|line| line.contains(&format!(" {} ", monitor.pid()))))
    };
    wait::until_true("nft monitor listens", Duration::from_secs(10), listening).unwrap();
    let status = put(&callgate, gw, "pods.yaml", &pods(Some(500))).unwrap();
    let names = ["elements_added", "elements_removed", "structure_replaced", "messages"];
    let costs = names.map(|name| status.counter(&format!("last_apply_{name}")).unwrap());
    // Batch begin, one element gone, one come, batch end.
    assert_eq!(costs, [1, 1, 0, 4]);
    monitor.wait_output("# new generation", Duration::from_secs(10)).unwrap();
    let told: Vec<String> = monitor.output().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("delete element ip callgate src_hosts { 10.20.2.0 "), "{told:?}");
    assert!(told[1].starts_with("add element ip callgate src_hosts { 10.20.100.0 "), "{told:?}");

    let status = Status::of(&callgate, gw).unwrap();
    assert!(status.programmed());
    callgate.stop().unwrap();
}
