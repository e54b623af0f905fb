//! The classic set-up on a cluster: helm install, three objects, kubectl wait, and pods hold tunnels behind their node's address.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{Cluster, callgate};
use callgate_e2e::lab::ping::Pinged;
use callgate_e2e::lab::topology::server_address;

use super::prometheus;
use super::shared::{POD, Shared};
use super::tunnels::till;

/// How long a tunnel may take.
const UP: Duration = Duration::from_secs(30);

/// How long tunnels are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Callgate and the classic set-up in a cluster; two pods on one node, one on another, and one that no rule selects.
struct Classic {
    shared: Shared,
    tills: [Till; 3],
    other: Till,
}

impl Classic {
    /// Everything is Programmed, nobody has dialled. `None`: cannot run here.
    fn get(test: &str) -> Option<Self> {
        let tills = [till("a", "n1", "till"), till("b", "n1", "till"), till("c", "n2", "till")];
        let other = till("other", "n1", "kiosk");
        let shared = Shared::classic(test, tills.iter().chain([&other]))?;
        Some(Self { shared, tills, other })
    }

    fn cluster(&self) -> &Cluster {
        self.shared.cluster()
    }

    /// Dials from all selected pods; the server's address in each tunnel.
    fn dial(&self) -> [Ipv4Addr; 3] {
        for till in &self.tills {
            till.dial(self.cluster(), server_address(0)).unwrap();
        }
        self.tills.each_ref().map(|till| till.wait_up(self.cluster(), UP).unwrap().remote)
    }

    /// Pings for `time` through all tunnels at once, while `meanwhile` happens; how many did not come back, of each.
    fn lost(&self, remotes: [Ipv4Addr; 3], time: Duration, meanwhile: impl FnOnce()) -> Vec<u32> {
        let cluster = self.cluster();
        std::thread::scope(|scope| {
            let looks = self.tills.iter().zip(remotes);
            let running: Vec<_> =
                looks.map(|(till, remote)| scope.spawn(move || till.ping(cluster, remote, time).unwrap())).collect();
            let begun = Instant::now();
            meanwhile();
            assert!(begun.elapsed() < time, "{:?} is longer than anybody looked", begun.elapsed());
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .map(|pinged| pinged.sent - pinged.received)
                .collect()
        })
    }

    /// What Prometheus reads: the calls, the packets of LOOK by the way they took, and everything the dashboard asks of nodes.
    fn prometheus(&self) {
        let path = if callgate::without_fast_path() { "af_packet" } else { "ebpf" };
        // Five pings a second through each tunnel, and some of the first packets may have taken the other way.
        let packets = |node: &str, calls: u64| {
            let of =
                |way| format!("callgate_node_gre_packets_total{{node=\"{node}\",direction=\"{way}\",path=\"{path}\"}}");
            ["up", "down"].map(|way| (of(way), calls * LOOK.as_secs() * 4))
        };
        let calls = |node: &str, calls| (format!("callgate_node_live_calls{{node=\"{node}\"}}"), calls);
        let rule = "callgate_rule_live_calls{namespace=\"pos\",rule=\"tills-to-head-office\"}".to_owned();
        let exact = [calls("n1", 2), calls("n2", 1), (rule, 3)];
        let least = [packets("n1", 2), packets("n2", 1)].concat();
        let told = prometheus::told_at_last(self.cluster(), |told| {
            exact.iter().all(|(name, value)| told.get(name) == Some(value))
                && least.iter().all(|(name, value)| told.get(name).is_some_and(|told| told >= value))
        });
        let dashboard = prometheus::of_dashboard(&prometheus::dashboard());
        for prefix in ["callgate_node_", "callgate_rule_"] {
            assert!(!prometheus::asked_and_told(&dashboard, prefix, &told).is_empty(), "{prefix}");
        }
    }

    /// Hangs up, and takes Callgate away with everything that belongs to it.
    fn end(self) {
        for till in &self.tills {
            till.hang_up(self.cluster()).unwrap();
        }
        self.shared.k(&format!("delete namespace pos --wait=true {POD}"));
        let uninstall = ["uninstall", "callgate", "--namespace", callgate::NAMESPACE, "--wait"];
        callgate::helm(self.cluster(), &uninstall).unwrap();
        // The predefined services go with the operator's account.
        self.shared.k(&format!("-n {} wait --for=delete ipservices,pptpalgs --all {POD}", callgate::NAMESPACE));
    }
}

#[test]
fn pods_on_one_node_and_on_two_hold_tunnels_to_one_server_and_an_unselected_pod_is_left_alone() {
    let test = "pods_on_one_node_and_on_two_hold_tunnels_to_one_server_and_an_unselected_pod_is_left_alone";
    let Some(classic) = Classic::get(test) else { return };
    let outside = &classic.cluster().outside;
    let leaked = outside.leaked().unwrap();
    let remotes = classic.dial();
    assert_eq!(classic.lost(remotes, LOOK, || ()), [0; 3]);
    assert_eq!(outside.leaked().unwrap(), leaked, "packets of selected pods have left with their own addresses");
    let calls = classic
        .shared
        .k("-n pos get iprule tills-to-head-office -o jsonpath={.status.nodesProgrammed}/{.status.nodesTotal}");
    assert_eq!(calls, "2/2");

    classic.prometheus();

    // The rule does not select it: its CNI sends it out with its own address, which the router counts.
    let said = classic.other.ping(classic.cluster(), server_address(0), Duration::from_secs(1)).unwrap();
    assert_eq!(said, Pinged { sent: 5, received: 0 });
    assert_eq!(outside.leaked().unwrap(), leaked + 5);
    classic.end();
}

#[test]
fn tunnels_live_while_the_operator_is_gone_and_while_the_agents_are_rolled() {
    let test = "tunnels_live_while_the_operator_is_gone_and_while_the_agents_are_rolled";
    let Some(classic) = Classic::get(test) else { return };
    let leaked = classic.cluster().outside.leaked().unwrap();
    let namespace = callgate::NAMESPACE;
    let k = |words: &str| classic.shared.k(&format!("-n {namespace} {words}"));
    let remotes = classic.dial();
    let lost = classic.lost(remotes, LOOK * 2, || {
        k("scale deployment/callgate-operator --replicas=0");
        k(&format!("wait --for=delete pod -l app.kubernetes.io/component=operator {POD}"));
    });
    assert_eq!(lost, [0; 3], "nobody needs the operator");
    // An agent that is replaced is away for about a second, and calls are the agent's own: what comes meanwhile is lost, no call is.
    let lost = classic.lost(remotes, LOOK * 4, || {
        k("rollout restart daemonset/callgate-dataplane");
        k(&format!("rollout status daemonset/callgate-dataplane {POD}"));
        k("scale deployment/callgate-operator --replicas=2");
        k(&format!("rollout status deployment/callgate-operator {POD}"));
    });
    assert!(lost.iter().all(|lost| *lost <= 10), "{lost:?}");
    assert_eq!(classic.lost(remotes, LOOK, || ()), [0; 3], "the same tunnels as before");
    assert_eq!(classic.cluster().outside.leaked().unwrap(), leaked);
    classic.shared.k(&format!("-n pos wait --for=condition=Programmed iprule/tills-to-head-office {POD}"));
    classic.end();
}
