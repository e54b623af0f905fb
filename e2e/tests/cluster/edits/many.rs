//! Many pods hold tunnels to one server: two on one node, two on different nodes, then twenty.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callgate_e2e::cluster::till::Till;
use callgate_e2e::lab::ping::Pinged;
use callgate_e2e::lab::topology::server_address;

use super::super::ground::Ground;
use super::super::shared::POD;

/// How long tunnels are looked at.
const LOOK: Duration = Duration::from_secs(if cfg!(feature = "long") { 60 } else { 6 });
/// How long a tunnel may take when all are dialled at once.
const UP: Duration = Duration::from_secs(60);
const PODS: usize = 20;

const OBJECTS: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: many}
spec: {order: 100, action: NAT, source: {podSelector: {matchLabels: {app: till}}}, services: [{name: pptp-ctl}]}
";

/// Runs `work` for every one of `tills` at the same time.
fn each<T: Send>(tills: &[Till], work: impl Fn(&Till) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = tills.iter().map(|till| scope.spawn(|| work(till))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// All of `tills` dial at once, and nothing is lost in any of the tunnels; then they hang up.
fn hold(ground: &Ground, what: &str, tills: &[Till]) {
    let cluster = ground.shared.cluster();
    let begun = Instant::now();
    let remotes: Vec<Ipv4Addr> = each(tills, |till| {
        till.dial(cluster, server_address(0)).unwrap();
        till.wait_up(cluster, UP).unwrap().remote
    });
    let up = begun.elapsed();
    let looks: Vec<(&Till, Ipv4Addr)> = tills.iter().zip(remotes).collect();
    let pinged: Vec<Pinged> = std::thread::scope(|scope| {
        let look = |(till, remote): (&Till, Ipv4Addr)| till.ping(cluster, remote, LOOK).unwrap();
        let running: Vec<_> = looks.into_iter().map(|pair| scope.spawn(move || look(pair))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sent: u32 = pinged.iter().map(|pinged| pinged.sent).sum();
    let lost: u32 = pinged.iter().map(|pinged| pinged.sent - pinged.received).sum();
    println!("{what}: {} tunnels up in {up:.1?}; {lost} of {sent} pings lost in {LOOK:?}", tills.len());
    assert_eq!(lost, 0, "{what}: {pinged:?}");
    each(tills, |till| till.hang_up(cluster).unwrap());
}

#[test]
fn two_pods_of_one_node_and_of_two_and_twenty_pods_hold_tunnels_to_one_server_without_loss() {
    let test = "two_pods_of_one_node_and_of_two_and_twenty_pods_hold_tunnels_to_one_server_without_loss";
    let Some(ground) = Ground::get(test, "many") else { return };
    let outside = &ground.shared.cluster().outside;
    let till = |index: usize| {
        let node = if index < PODS / 2 { "n1" } else { "n2" };
        Till::new("many", &format!("till-{index}"), node, "till")
    };
    let tills: Vec<Till> = (0..PODS).map(till).collect();
    let begun = Instant::now();
    ground.apply(&tills.iter().map(Till::object).collect::<String>());
    ground.k(&format!("wait --for=condition=Ready pod --all {POD}"));
    println!("{PODS} pods ready after {:.1?}", begun.elapsed());
    ground.apply(OBJECTS);
    ground.k(&format!("wait --for=condition=Programmed iprule/tills {POD}"));
    // What a selected pod says before it has dialled is nothing.
    let leaked = outside.leaked().unwrap();

    hold(&ground, "two pods of one node", &tills[..2]);
    hold(&ground, "two pods of different nodes", &[tills[0].clone(), tills[PODS - 1].clone()]);
    hold(&ground, "twenty pods", &tills);

    assert_eq!(outside.leaked().unwrap(), leaked, "packets of selected pods have left with their own addresses");
    assert_eq!(ground.k("get iprule tills -o jsonpath={.status.clients}"), PODS.to_string());
    ground.end();
}
