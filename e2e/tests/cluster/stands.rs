//! The cluster itself: what every later test builds on.

use callgate_e2e::cluster::{addresses, image};
use callgate_e2e::lab::topology::server_address;

use super::shared::{POD, Shared};

/// A pod on each node that sleeps, in namespace `stands`.
fn pods(shared: &Shared) -> Vec<String> {
    let machines = &shared.cluster().machines;
    let pod = |node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: on-{node}, namespace: stands}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: main, image: '{}', imagePullPolicy: Never}}\n---\n",
            image::BUSYBOX
        )
    };
    let all: String = machines.iter().map(|machine| pod(&machine.node.name)).collect();
    shared.kubectl().apply(&all).unwrap();
    shared.k(&format!("-n stands wait --for=condition=Ready pod --all {POD}"));
    machines.iter().map(|machine| format!("on-{}", machine.node.name)).collect()
}

fn ip(shared: &Shared, pod: &str) -> String {
    shared.k(&format!("-n stands get pod {pod} -o jsonpath={{.status.podIP}}"))
}

#[test]
fn nodes_are_ready_with_the_pod_networks_and_versions_they_should_have() {
    let Some(shared) = Shared::get("nodes_are_ready_with_the_pod_networks_and_versions_they_should_have") else {
        return;
    };
    let columns = "{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[0].address} {.status.nodeInfo.kubeletVersion}{'\\n'}{end}";
    let said = shared.kubectl().run(&["get", "nodes", "-o", &format!("jsonpath={columns}")]).unwrap();
    assert_eq!(said, "n1 10.244.1.0/24 192.0.2.11 v1.34.4\nn2 10.244.2.0/24 192.0.2.12 v1.34.4\n");
}

#[test]
fn pods_on_every_node_start_run_commands_and_reach_each_other_and_the_api() {
    let Some(shared) = Shared::get("pods_on_every_node_start_run_commands_and_reach_each_other_and_the_api") else {
        return;
    };
    shared.namespace("stands");
    let pods = pods(&shared);
    let ips: Vec<String> = pods.iter().map(|pod| ip(&shared, pod)).collect();
    assert!(ips[0].starts_with("10.244.1.") && ips[1].starts_with("10.244.2."), "{ips:?}");
    for pod in &pods {
        assert_eq!(shared.k(&format!("-n stands exec {pod} -- hostname")).trim(), pod);
        for target in &ips {
            let said = shared.k(&format!("-n stands exec {pod} -- ping -c 3 -i 0.2 -W 5 {target}"));
            assert!(said.contains("3 packets received"), "{pod} to {target}: {said}");
        }
        // By its name, through kube-proxy, over TCP.
        let said = shared.k(&format!("-n stands exec {pod} -- nslookup kubernetes.default.svc.{}", addresses::DOMAIN));
        assert!(said.contains(&addresses::API_SERVICE.to_string()), "{said}");
        shared.k(&format!("-n stands exec {pod} -- nc -w 5 kubernetes.default 443"));
    }
}

#[test]
fn what_leaves_with_a_pod_address_is_counted_by_the_router_and_gets_nowhere() {
    let Some(shared) = Shared::get("what_leaves_with_a_pod_address_is_counted_by_the_router_and_gets_nowhere") else {
        return;
    };
    let server = server_address(0).to_string();
    let outside = &shared.cluster().outside;
    // Nodes have addresses that the outside can answer.
    let before = outside.leaked().unwrap();
    for machine in &shared.cluster().machines {
        machine.node.run("ping", &["-n", "-c", "2", "-i", "0.2", "-W", "5", &server]).unwrap();
        let connect = format!("exec 3<>/dev/tcp/{server}/1723");
        machine.node.run("timeout", &["5", "bash", "-c", &connect]).unwrap();
    }
    assert_eq!(outside.leaked().unwrap(), before);
    // Pods have not.
    shared.namespace("stands");
    let pods = pods(&shared);
    for (index, pod) in pods.iter().enumerate() {
        let args = ["-n", "stands", "exec", pod, "--", "ping", "-c", "4", "-i", "0.2", "-W", "1", &server];
        let output = shared.kubectl().output(&args, "").unwrap();
        assert!(!output.status.success(), "{pod} got an answer");
        assert_eq!(outside.leaked().unwrap(), before + 4 * (index as u64 + 1));
    }
}
