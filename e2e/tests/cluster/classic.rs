//! The classic set-up on a cluster: helm install, three objects, kubectl wait, and pods hold tunnels behind their node's address.

use std::time::Duration;

use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{Cluster, callgate, cni};
use callgate_e2e::lab::ping::Pinged;
use callgate_e2e::lab::topology::server_address;

use super::shared::{POD, Shared};

/// How long a tunnel may take, and how long tunnels are looked at.
const UP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(10);

fn till(name: &str, node: &str, app: &str) -> Till {
    Till { name: name.into(), namespace: "pos".into(), node: node.into(), app: app.into() }
}

/// What came back of pings through all tunnels at the same time.
fn pings(cluster: &Cluster, tills: &[&Till]) -> Vec<Pinged> {
    std::thread::scope(|scope| {
        let look = |till: &Till| {
            let remote = till.wait_up(cluster, UP).unwrap().remote;
            till.ping(cluster, remote, LOOK).unwrap()
        };
        let running: Vec<_> = tills.iter().map(|till| scope.spawn(move || look(till))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn pods_on_one_node_and_on_two_hold_tunnels_to_one_server_and_an_unselected_pod_is_left_alone() {
    let test = "pods_on_one_node_and_on_two_hold_tunnels_to_one_server_and_an_unselected_pod_is_left_alone";
    let Some(shared) = Shared::get_for_callgate(test) else { return };
    let cluster = shared.cluster();
    callgate::import_images(cluster).unwrap();
    callgate::install(cluster, &[]).unwrap();
    shared.namespace("pos");
    let (a, b, c) = (till("a", "n1", "till"), till("b", "n1", "till"), till("c", "n2", "till"));
    let other = till("other", "n1", "kiosk");
    let objects: String = [&a, &b, &c, &other].iter().map(|till| till.object()).collect();
    shared.kubectl().apply(&objects).unwrap();
    shared.k(&format!("-n pos wait --for=condition=Ready pod --all {POD}"));
    shared.kubectl().apply(callgate::CLASSIC).unwrap();
    shared.k(&format!("-n pos wait --for=condition=Programmed iprule/tills-to-head-office {POD}"));

    let leaked = cluster.outside.leaked().unwrap();
    for till in [&a, &b, &c] {
        till.dial(cluster, server_address(0)).unwrap();
    }
    let all = pings(cluster, &[&a, &b, &c]);
    assert!(all.iter().all(|pinged| pinged.sent == 50 && pinged.received == 50), "{all:?}");
    assert_eq!(
        cluster.outside.leaked().unwrap(),
        leaked,
        "packets of selected pods have left with their own addresses"
    );

    // The rule does not select it: its CNI sends it out with its own address, which the router counts.
    let said = other.ping(cluster, server_address(0), Duration::from_secs(1)).unwrap();
    assert_eq!(said, Pinged { sent: 5, received: 0 });
    assert_eq!(cluster.outside.leaked().unwrap(), leaked + 5);
    let neighbours = shared.k("-n pos exec other -- ip route");
    assert!(neighbours.contains("default via 10.244.1.1"), "{} is its gateway: {neighbours}", cni::BRIDGE);

    for till in [&a, &b, &c] {
        till.hang_up(cluster).unwrap();
    }
    shared.k("delete namespace pos --wait=true --timeout=90s");
    callgate::helm(cluster, &["uninstall", "callgate", "--namespace", callgate::NAMESPACE, "--wait"]).unwrap();
    // The predefined services go with the operator's account.
    shared.k(&format!("-n {} wait --for=delete ipservices,pptpalgs --all {POD}", callgate::NAMESPACE));
}
